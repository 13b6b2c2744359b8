"""learned_shape: what an activation gives at even places of [−3, 3]."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_neurohealth.nn import AdaptiveActivation, ShapeLearningActivation
from tests.measures.harness import assert_close, layer
from tests.measures.weights import measured
from tests.training import watch_step

Z = np.linspace(-3, 3, 49)


@pytest.mark.parametrize("ranks", [1, 3])
def test_as_it_is(ranks: int) -> None:
    shape = torch.tensor([-0.5, 0.0, 2.0]).reshape(1, 3, 1)
    assert_close(measured("learned_shape", layer(5, nn.Tanh(), places=3), ranks, learned_shape=shape), [-0.5, 0, 2])


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (nn.PReLU(init=0.5), np.where(Z > 0, Z, 0.5 * Z)),
        (nn.PReLU(3, init=0.25), np.where(Z > 0, Z, 0.25 * Z)),
        (AdaptiveActivation(["relu", "tanh"]), 0.5 * np.maximum(Z, 0) + 0.5 * np.tanh(Z)),
        (ShapeLearningActivation("sigmoid"), 1 / (1 + np.exp(-Z))),
    ],
)
def test_of_activations_that_learn(act: nn.Module, expected: np.ndarray) -> None:
    calls: list[object] = []
    act.register_forward_hook(lambda *_: calls.append(1))
    net = nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 1), nn.ReLU())
    report = watch_step(net, torch.randn(8, 4))[1]
    assert_close(report["0"]["learned_shape"], expected, rtol=0, atol=2e-2)
    assert "learned_shape" not in report["2"]
    assert len(calls) == 1  # of the step itself
