"""bias_weight_ratio: abs(b) / (norm of w + 1e-8), for activations without a dead zone."""

import numpy as np
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_size_of_the_bias_in_norms(weight: Tensor, ranks: int) -> None:
    bias = torch.linspace(-2, 1, len(weight))
    ratio = measured("bias_weight_ratio", layer_of(weight, nn.Tanh()), ranks, weight=weight, bias=bias)
    assert_close(ratio, abs(np.asarray(bias.double())) / (np.linalg.norm(rows(weight), axis=1) + 1e-8))


def test_only_layers_that_it_says_something_about_have_it() -> None:
    net = nn.Sequential(
        nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 2)
    )
    monitor = Monitor(net, measures=["bias_weight_ratio", "on_rate"])
    with monitor:
        net(torch.ones(2, 3)).sum().backward()
    report = monitor.close()
    assert report is not None
    assert [name for name in report if "bias_weight_ratio" in report[name]] == ["0"]
