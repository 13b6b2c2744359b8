"""Every parameter is watched, or it is said why not."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Report
from lightning_neurohealth.coverage import Coverage
from lightning_neurohealth.reporting.archive import from_document
from tests.layers.test_recurrence import Reader
from tests.training import MLP, fit, layers_of, watch_step

WATCHED, FROZEN = "watched", "watched, and frozen"


class Mixed(nn.Module):
    """A norm, a learned slope, a scale of its own, a table that is added, a frozen layer and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.scale = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.ones(4))
        self.fc1, self.norm, self.act = nn.Linear(4, 8), nn.LayerNorm(8), nn.PReLU(8)
        self.fc2, self.spare = nn.Linear(8, 2).requires_grad_(False), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.norm(self.fc1((x + self.places) * self.scale))))


def coverage(net: nn.Module, *inputs: Tensor, **settings: object) -> Coverage:
    _, report = watch_step(net, *inputs, **settings)
    return report.coverage


def test_each_kind_has_its_share_and_all_add_up_to_one() -> None:
    net = Mixed()
    seen = coverage(net, torch.randn(3, 4))
    total = sum(p.numel() for p in net.parameters())
    assert {reason: round(share * total) for reason, share in seen.shares.items()} == {
        WATCHED: 40,
        FROZEN: 18,
        "never called": 30,
        "scale and shift of a norm": 16,
        "a matrix that no layer was seen to apply": 12,
        "no matrix, so no neurons of its own": 4,
        "learned shape of an activation": 8,
    }
    assert list(seen.shares)[:3] == [WATCHED, FROZEN, "never called"]
    assert sum(seen.shares.values()) == pytest.approx(1)
    assert seen.parameters == pytest.approx(58 / total)
    assert seen.elsewhere == {
        "root": "Mixed: the neurons of places are not watched",
        "norm": "scale and shift of a norm",
        "act": "learned shape of an activation",
        "spare": "never called",
    }


def test_what_is_not_wanted() -> None:
    seen = coverage(MLP(), torch.randn(6, 4), exclude=["fc2"])
    assert seen.elsewhere == {"fc2": "excluded"}
    assert seen.shares == pytest.approx({WATCHED: 40 / 49, "excluded": 9 / 49})


@pytest.mark.parametrize(
    ("net", "inputs"),
    [
        (MLP(), (torch.randn(6, 4),)),
        (Reader(), (torch.randint(50, (3, 2)),)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), (torch.randn(2, 3, 5, 5),)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (torch.randn(2, 3, 8),)),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), nn.ReLU()), (torch.randn(4, 3),)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_shares_of_common_models_add_up_to_one(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    seen = coverage(net, *inputs)
    assert sum(seen.shares.values()) == pytest.approx(1)
    assert set(seen.elsewhere.values()) <= {*seen.missed.values(), "scale and shift of a norm"}
    assert layers_of(net, *inputs)


def test_a_layer_that_thaws() -> None:
    net = MLP()
    net.fc1.requires_grad_(False)
    assert set(coverage(net, torch.randn(6, 4)).shares) == {WATCHED, FROZEN}
    net.fc1.requires_grad_(True)
    assert set(coverage(net, torch.randn(6, 4)).shares) == {WATCHED}


class Normed(MLP):
    """With a norm, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x))


def test_they_are_in_the_files_and_come_back() -> None:
    report = fit(Normed()).report
    assert report.coverage.elsewhere == {"net.norm": "scale and shift of a norm"}
    assert from_document(json.loads(report.to_json()), Report).coverage == report.coverage
    assert json.loads(json.dumps(report.to_dict()))["coverage"]["shares"] == report.coverage.shares
