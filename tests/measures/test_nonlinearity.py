"""nonlinearity: the spread of a learned slope in its root mean square."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_neurohealth.nn import AdaptiveActivation, ShapeLearningActivation
from tests.measures.harness import assert_close, layer
from tests.measures.weights import measured
from tests.training import watch_step


@pytest.mark.parametrize("ranks", [1, 3])
def test_spread_in_its_size(ranks: int) -> None:
    slope = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]])
    expected = np.std(slope.numpy()) / np.sqrt(np.mean(slope.numpy() ** 2))
    assert_close(measured("nonlinearity", layer(2), ranks, learned_slope=slope), expected)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (nn.PReLU(init=1.0), 0.0),
        (nn.PReLU(3, init=0.0), 0.5**0.5),
        (nn.PReLU(init=0.25), 0.375 / (0.5 * (1 + 0.25**2)) ** 0.5),
        (AdaptiveActivation(["relu", "identity"]), 0.25 / (0.5 * (1 + 0.25)) ** 0.5),
        (ShapeLearningActivation("relu"), 0.5**0.5),
        (ShapeLearningActivation("identity"), 0.0),
    ],
)
def test_of_activations_that_learn(act: nn.Module, expected: float) -> None:
    net = nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 1), nn.ReLU())
    report = watch_step(net, torch.randn(8, 4))[1]
    assert float(report["0"]["nonlinearity"]) == pytest.approx(expected, abs=2e-2)
    assert "nonlinearity" not in report["2"]
