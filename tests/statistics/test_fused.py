"""Fusion: one compiled pass gives what the statistics give one by one."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.statistics import Statistic
from lightning_neurohealth.statistics import fused as fused_module
from lightning_neurohealth.statistics.base import Partials
from lightning_neurohealth.statistics.bound_counts import BoundCounts
from lightning_neurohealth.statistics.covariance import Covariance
from lightning_neurohealth.statistics.extremes import Extremes
from lightning_neurohealth.statistics.fused import Fusion
from lightning_neurohealth.statistics.magnitude import RecentMagnitude
from lightning_neurohealth.statistics.magnitude_moments import MagnitudeMoments
from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.non_finite_counts import NonFiniteCounts
from lightning_neurohealth.statistics.pass_counts import PassCounts
from lightning_neurohealth.statistics.rows import Rows
from lightning_neurohealth.statistics.sign_counts import SignCounts
from lightning_neurohealth.statistics.slopes import Slopes
from lightning_neurohealth.statistics.tail_counts import TailCounts
from tests.measures.harness import layer

KINDS = (
    SignCounts,
    Moments,
    NonFiniteCounts,
    BoundCounts,
    Slopes,
    TailCounts,
    RecentMagnitude,
    PassCounts,
    Extremes,
    MagnitudeMoments,
    Covariance,
)


def partials(fusion: Fusion, statistics: list[Statistic], x: Tensor) -> list[Partials]:
    return fusion.partials(statistics, Rows(x), 7)


def assert_same(actual: list[Partials], expected: list[Partials]) -> None:
    for one, other in zip(actual, expected, strict=True):
        for name in one.keys() | other.keys():
            torch.testing.assert_close(
                torch.as_tensor(one.get(name, 0.0)).double(),
                torch.as_tensor(other.get(name, one[name] if name == "first" else 0.0)).double(),
                rtol=1e-5,
                atol=2e-4,
                check_device=False,
                equal_nan=True,
                msg=lambda text, name=name: f"{name}: {text}",
            )


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
@pytest.mark.parametrize(
    ("shapes", "dtype", "layers"),
    [
        (((6, 24, 1), (50, 24, 1)), torch.float32, 1),
        (((3, 24, 5), (10, 24, 5)), torch.bfloat16, 1),
        (((6, 12, 1), (50, 12, 1)), torch.float64, 2),
    ],
    ids=["neurons last", "space last, halves", "two layers, doubles"],
)
def test_fused_and_eager_give_the_same(shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, layers: int) -> None:
    fused, eager = Fusion(True), Fusion(False)
    width = shapes[0][1]
    kinds = KINDS if layers == 1 else [kind for kind in KINDS if kind is not Covariance]
    statistics = [kind(layer(width, nn.Tanh())) for kind in kinds]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for shape in shapes:
            parts = tuple((torch.randn(shape, generator=generator) * 3).to(dtype) for _ in range(layers))
            parts[0][1, 3] = torch.nan
            parts[-1][2] = 0
            assert_same(fused.partials(statistics, Rows(parts), 7), eager.partials(statistics, Rows(parts), 7))
    assert len(fused._kernels) == 1  # for both numbers of rows
    assert fused.fused is True


def test_without_a_compiler_it_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> object:
        def kernel(x: Tensor) -> None:
            raise RuntimeError("no compiler")

        return kernel

    monkeypatch.setattr(fused_module, "_compiled", broken)
    fusion, statistics = Fusion(True), [kind(layer(3, nn.Tanh())) for kind in KINDS]
    x = torch.randn(5, 3, 1)
    with pytest.warns(RuntimeWarning, match="do not compile here"):
        found = partials(fusion, statistics, x)
    assert_same(found, partials(Fusion(False), statistics, x))
    assert fusion.fused is False


def test_on_the_cpu_nothing_is_compiled_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_module, "WORTH", 0.0)
    fusion, statistics = Fusion("auto"), [kind(layer(3, nn.Tanh())) for kind in KINDS]
    for _ in range(3):
        partials(fusion, statistics, torch.randn(5, 3, 1))
    assert not fusion._kernels
