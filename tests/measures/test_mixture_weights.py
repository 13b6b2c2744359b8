"""mixture_weights: softmax of the logits of a learned mixture."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_neurohealth import Monitor
from lightning_neurohealth.nn import AdaptiveActivation
from tests.measures.harness import assert_close, layer
from tests.measures.weights import measured


def softmax(logits: list[float]) -> np.ndarray:
    powers = np.exp(np.array(logits, dtype=np.float64))
    return powers / powers.sum()


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_shares_as_they_are(dtype: torch.dtype, ranks: int) -> None:
    subject = layer(5, nn.Tanh(), parts=("relu", "tanh"))
    shares = torch.tensor([0.75, 0.25], dtype=dtype).reshape(1, 2, 1)
    assert_close(measured("mixture_weights", subject, ranks, mixture=shares), [0.75, 0.25])


def test_in_a_network_as_it_is_when_the_window_closes() -> None:
    net = nn.Sequential(
        nn.Conv1d(2, 3, 3), AdaptiveActivation(["relu", "tanh", "identity"]), nn.Flatten(), nn.Linear(6, 2)
    )
    monitor = Monitor(net, every_n_steps=1, measures=["mixture_weights", "on_rate"])
    for step in range(3):
        with monitor:
            net(torch.ones(2, 2, 4)).sum().backward()
        with torch.no_grad():
            net[1].weights.copy_(torch.tensor([0.0, 1.0, float(step)]))
    report = monitor.close()
    monitor.remove()
    assert report is not None
    shares = softmax([0.0, 1.0, 2.0])
    assert_close(report["0"]["mixture_weights"], shares, rtol=1e-6)
    assert "mixture_weights" not in report["3"]
