"""The sums over rows that all statistics of a signal need, in one compiled pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from time import perf_counter
from types import FunctionType
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack

from lightning_neurohealth.statistics.base import Partials, Statistic
from lightning_neurohealth.statistics.rows import Compare, Rows

Fuse = Literal["auto"] | bool
Kernel = Callable[[Tensor, int], list[Partials]]

WORTH = 10.0
"""Seconds that one kind of layer has cost before its kernel is compiled, about what compiling costs: the two together
then never cost more than twice what the better of them would have (the ski-rental rule)."""


class PlainRows(Rows):
    """The same sums, written for a compiler: no room to write in, no blocks, no looking at the device."""

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        sums, squares = _sum(self._wide), _sum(self._wide * self._wide)
        return sums, squares, (squares - sums * sums / self.count).clamp_min(0.0)

    def magnitudes(self) -> Tensor:
        return _sum(self._wide.abs())

    def counted(self, compare: Compare, value: float) -> Tensor:
        return _sum(compare(self._wide, value).to(self._wide.dtype))

    def near(self, epsilon: float) -> Tensor:
        return _sum((self._wide.abs() <= epsilon).to(self._wide.dtype))

    def non_finite(self) -> Tensor:
        return _sum((~self._wide.isfinite()).to(self._wide.dtype))

    def passing(self) -> tuple[Tensor, Tensor]:
        nonzero = (self._wide != 0).to(self._wide.dtype)
        return _sum(nonzero), self.of_layers(self.by_layer(nonzero).amax(2).sum((0, 2)))

    def total_and_nonzero(self, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        numbers = function(self._wide)
        return _sum(numbers), _sum((numbers != 0).to(numbers.dtype))

    @property
    def _wide(self) -> Tensor:
        return self.x.double()


def _sum(x: Tensor) -> Tensor:
    return x.sum((0, 2))


class Fusion:
    """Computes partials by compiled kernels, where there is a compiler and it is worth the time.

    Args:
        fused: ``True`` compiles at once, ``False`` never, ``"auto"`` not on the CPU, and elsewhere what has cost ten
            seconds without it.
    """

    def __init__(self, fused: Fuse) -> None:
        self.fused = fused
        self._kernels: dict[Any, Kernel] = {}
        self._spent: dict[Any, float] = {}

    def partials(self, statistics: Sequence[Statistic], rows: Rows, step: int) -> list[Partials]:
        """``Statistic.partials`` of each."""
        found = None
        fusable = [s for s in statistics if type(s).fusable] if self._may_fuse(rows) else []
        if len(fusable) > 1:
            start, key = perf_counter(), self._key(fusable, rows)
            if self.fused is True or self._spent.get(key, 0.0) > WORTH:
                if key not in self._kernels:
                    self._kernels[key] = _compiled(fusable, rows.nonnegative)
                found = self._run(self._kernels[key], rows)
        if found is None:
            partials = [statistic.partials(rows, step) for statistic in statistics]
            if len(fusable) > 1:
                self._spent[key] = self._spent.get(key, 0.0) + perf_counter() - start
            return partials
        by_kernel = {id(s): s.completed(p, rows.count, step) for s, p in zip(fusable, found, strict=True)}
        return [by_kernel[id(s)] if id(s) in by_kernel else s.partials(rows, step) for s in statistics]

    def _may_fuse(self, rows: Rows) -> bool:
        if self.fused is False or _get_current_function_mode_stack():
            return False
        return self.fused is True or rows.x.device.type != "cpu"  # there, kernels and single sums are equally fast

    def _run(self, kernel: Kernel, rows: Rows) -> list[Partials] | None:
        try:
            with torch.compiler.set_stance("default"):  # a measured step runs under "force_eager"
                return kernel(rows.x, rows.layers)
        except Exception as error:
            if self.fused is True:
                warnings.warn(
                    f"NeuronHealth: fused=True, but its kernels do not compile here; it goes on without: {error!r}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self.fused = False
            return None

    @staticmethod
    def _key(statistics: Sequence[Statistic], rows: Rows) -> Any:
        kinds = tuple((type(s), s.constants) for s in statistics)
        return kinds, rows.layers > 1, rows.nonnegative, rows.x.dtype, rows.x.device, rows.x.shape[2] == 1


def _compiled(statistics: list[Statistic], nonnegative: bool) -> Kernel:
    def reduce(x: Tensor, layers: int) -> list[Partials]:
        rows = PlainRows(x, nonnegative, layers)
        return [statistic.reduce(rows) for statistic in statistics]

    # the compiler counts recompilations by code object: each kernel has its own
    own = FunctionType(reduce.__code__.replace(), reduce.__globals__, "reduce", None, reduce.__closure__)
    return cast("Kernel", torch.compile(own, dynamic=True, fullgraph=True))
