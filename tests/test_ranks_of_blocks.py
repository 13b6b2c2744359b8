"""Two ranks with attention, reentrant checkpoints and parameters without a gradient report what one would."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.ranks import Every, all_numbers, train

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")


class Block(nn.Module):
    """Each row attends to itself; ``spare`` is never called."""

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(4, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp, self.head, self.spare = nn.Sequential(nn.Linear(8, 8), nn.Tanh()), nn.Linear(8, 1), nn.Linear(8, 8)
        self.again = again

    def forward(self, x: Tensor) -> Tensor:
        z = self.embed(x.unsqueeze(1))
        z = self.attention(z, z, z)[0]
        z = checkpoint(self.mlp, z, use_reentrant=True) if self.again else self.mlp(z)
        return self.head(z).squeeze(1)


@pytest.mark.parametrize(("options", "again"), [({"static": True}, True), ({"unused": True}, False)])
def test_two_ranks_report_what_one_would(options: dict[str, Any], again: bool, tmp_path: Path) -> None:
    first, second = train(Every(Block(again)), tmp_path / "two", max_epochs=2, **options)
    (alone,) = train(Every(Block()), tmp_path / "one", 1, max_epochs=2, accumulate_grad_batches=2)
    assert first["reports"] == second["reports"]
    ours, expected = all_numbers(first), all_numbers(alone)
    assert expected["net.attention.heads gradient_flow"].shape == (2,)
    assert list(ours) == list(expected)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-13, equal_nan=True)
    (two, one) = (report["reports"][-1]["coverage"] for report in (first, alone))
    assert (two["watched"], two["missed"].keys()) == (one["watched"], one["missed"].keys())
