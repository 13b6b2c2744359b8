"""Training is the same, bit for bit, with and without NeuronHealth."""

from __future__ import annotations

from functools import cache
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn

from tests.training import Validated, make_data, make_health, make_trainer


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.bn2 = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.head(x.mean((2, 3)))


def dropout_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))


NETS = {"mlp": (dropout_mlp, (4,)), "cnn": (CNN, (1, 6, 6)), "transformer": (Transformer, (3, 4))}


class Adaptive(Validated):
    """Adam, so that a last-bit difference of a gradient shows in the weights."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.01)


def train(net: str, options: dict[str, Any], *callbacks: Any) -> dict[str, Any]:
    """All that a run leaves: weights, random state, and what was logged."""
    lightning.seed_everything(7, verbose=False)
    build, shape = NETS[net]
    model = Adaptive(build())
    data = make_data(rows=24, shape=shape)
    trainer = make_trainer(*callbacks, max_epochs=2, num_sanity_val_steps=1, **options)
    trainer.fit(model, data, make_data(rows=8, shape=shape))
    return {
        "weights": model.state_dict(),
        "random": torch.get_rng_state(),
        "losses": model.losses,
        "logged": trainer.callback_metrics["train_loss"],
    }


@cache
def unwatched(net: str, options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return train(net, dict(options))


OPTIONS = [{}, {"accumulate_grad_batches": 2}, {"gradient_clip_val": 0.1}]


@pytest.mark.parametrize("every_n_steps", [1, 3])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "accumulated", "clipped"])
@pytest.mark.parametrize("net", NETS)
def test_same_run(net: str, options: dict[str, Any], every_n_steps: int) -> None:
    health = make_health(every_n_steps=every_n_steps, measures="full")
    watched = train(net, options, health)
    plain = unwatched(net, tuple(options.items()))

    assert sum(report.measured for report in health.reports) >= 2
    assert len(health.report) >= 3
    assert all("gradient_flow" in layer for layer in health.report.values())
    for name, weight in plain["weights"].items():
        assert torch.equal(watched["weights"][name], weight), name
    assert torch.equal(watched["random"], plain["random"])
    assert watched["losses"] == plain["losses"]
    assert torch.equal(watched["logged"], plain["logged"])


def test_another_seed_gives_another_run() -> None:
    """What the tests above compare is not constant."""
    plain = unwatched("mlp", ())
    clipped = unwatched("mlp", (("gradient_clip_val", 0.1),))
    assert plain["losses"] != clipped["losses"]
