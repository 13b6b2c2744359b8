"""saturation_rate: P(a within the cut-off of a bound of f)."""

from collections.abc import Callable

import pytest
from torch import nn

from tests.measures.harness import Batches, assert_close, compute, layer

SATURATED: list[tuple[nn.Module, Callable[[float], bool]]] = [
    (nn.Tanh(), lambda a: abs(a) >= 0.99),
    (nn.Softsign(), lambda a: abs(a) >= 0.99),
    (nn.Sigmoid(), lambda a: a <= 0.01 or a >= 0.99),
    (nn.ReLU6(), lambda a: a >= 6),
    (nn.Hardsigmoid(), lambda a: a >= 1),
    (nn.Hardtanh(), lambda a: abs(a) >= 1),
    (nn.Hardtanh(0.0, 2.0), lambda a: a >= 2),
]


@pytest.mark.parametrize(("module", "saturated"), SATURATED, ids=lambda x: str(x) if isinstance(x, nn.Module) else "")
def test_share_of_rows_at_an_end(batches: Batches, module: nn.Module, saturated: Callable[[float], bool]) -> None:
    wide = 60 if isinstance(module, nn.Softsign) else 2
    activation = batches.map(lambda z: module(wide * z))
    expected = [sum(map(saturated, neuron)) / len(neuron) for neuron in activation.rows.T]
    assert_close(compute("saturation_rate", activation, layer(batches.neurons, module)), expected)
    assert len(activation.rows) == 1 or 0 < sum(expected) < len(expected)
