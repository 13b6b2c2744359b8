"""DirectBias, SmoothBias, TailedBias: moments where a bias says something about z."""

import pytest
from torch import nn

from lightning_neurohealth.parameters import Run
from lightning_neurohealth.statistics.biases import DirectBias, SmoothBias, TailedBias
from lightning_neurohealth.statistics.moments import Moments
from tests.measures.harness import CPU, Batches, assert_close, layer
from tests.statistics.filled import filled

CASES: list[tuple[nn.Module | None, bool, bool]] = [
    (nn.Tanh(), True, True),
    (nn.Sigmoid(), True, True),
    (nn.GELU(), True, True),
    (nn.SiLU(), True, True),
    (nn.PReLU(), True, False),
    (nn.ReLU(), False, True),
    (nn.ReLU6(), False, True),
    (nn.Hardswish(), False, True),
    (None, False, False),
]


@pytest.mark.parametrize(("module", "smooth", "tailed"), CASES, ids=lambda case: str(case))
def test_where_they_apply(module: nn.Module | None, smooth: bool, tailed: bool) -> None:
    assert SmoothBias.applies(layer(3, module)) is smooth
    assert TailedBias.applies(layer(3, module)) is tailed
    assert DirectBias.applies(layer(3, module))
    assert not any(kind.applies(layer(3, module, normalized=True)) for kind in (DirectBias, SmoothBias, TailedBias))


@pytest.mark.parametrize("kind", [DirectBias, SmoothBias, TailedBias])
def test_they_are_moments(batches: Batches, kind: type[Moments]) -> None:
    assert not kind.applies(Run(CPU))
    statistic = filled(kind(layer(batches.neurons, nn.Tanh())), batches)
    assert_close(statistic.mean, batches.rows.mean(0), atol=1e-12)
