"""A layer that stays healthy."""

from __future__ import annotations

from torch import Tensor, nn


class StableBlock(nn.Module):
    """Linear, batch norm, ReLU: norms keep pre-activations around 0, so that few neurons die.

    Args:
        in_features, out_features: Widths. The linear layer has no bias, which the norm would take away again.

    Source: advanced activation techniques (S4).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, out_features, bias=False)
        self.bn = nn.BatchNorm1d(out_features)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``; all leading axes are rows of the norm."""
        z: Tensor = self.fc(x)
        normed: Tensor = self.bn(z.reshape(-1, z.shape[-1])).reshape(z.shape)
        a: Tensor = self.act(normed)
        return a
