"""mixture_entropy: the entropy of a learned mixture's shares."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from lightning_neurohealth.nn import AdaptiveActivation
from tests.measures.harness import assert_close, layer
from tests.measures.weights import measured
from tests.training import watch_step


@pytest.mark.parametrize("ranks", [1, 3])
def test_of_one_window(ranks: int) -> None:
    assert_close(measured("mixture_entropy", layer(4), ranks, mixture_entropy=torch.full((1, 1, 1), 1.5)), 1.5)


@pytest.mark.parametrize("weights", [[0.0, 0.0, 0.0], [1.0, -2.0, 0.5], [60.0, 0.0, 0.0]])
def test_in_a_network(weights: list[float]) -> None:
    act = AdaptiveActivation(["relu", "tanh", "identity"])
    with torch.no_grad():
        act.weights.copy_(torch.tensor(weights))
    report = watch_step(nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 1)), torch.randn(8, 4), measures="full")[1]
    expected = stats.entropy(np.exp(weights), base=2)
    assert float(report["0"]["mixture_entropy"]) == pytest.approx(expected, abs=1e-6)
    assert float(report["0"]["mixture_entropy"]) == pytest.approx(act.entropy, abs=1e-5)
