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

from lightning_neurohealth.statistics.base import Partials, Statistic, reduced
from lightning_neurohealth.statistics.rows import Compare, Rows

Fuse = Literal["auto"] | bool
Kernel = Callable[[Tensor, int], list[Partials]]

WORTH = 10.0
"""Seconds that one kind of layer has cost before its kernel is compiled, about what compiling costs: the two together
then never cost more than twice what the better of them would have (the ski-rental rule)."""


class PlainRows(Rows):
    """The same sums, written for a compiler: no room to write in, no looking at the device."""

    __slots__ = ("_plain",)

    def __init__(self, x: Tensor, nonnegative: bool, layers: int) -> None:
        super().__init__(x, nonnegative)
        self._plain = x.double().movedim(1, 2).flatten(0, 1).unflatten(1, (layers, -1)).movedim(1, 0)

    def sums(self) -> Tensor:
        return _sum(self.wide)

    def squares(self) -> Tensor:
        return _sum(self.wide * self.wide)

    def magnitudes(self) -> Tensor:
        return _sum(self.wide.abs())

    def counted(self, compare: Compare, value: float) -> Tensor:
        return _sum(compare(self.wide, value).double())

    def near(self, epsilon: float) -> Tensor:
        return _sum((self.wide.abs() <= epsilon).double())

    def non_finite(self) -> Tensor:
        return _sum((~self.wide.isfinite()).double())

    def passing(self) -> tuple[Tensor, Tensor]:
        nonzero = (self.wide != 0).double()
        live = nonzero.amax(2).sum(1)
        return _sum(nonzero), live if len(live) > 1 else live.squeeze(0)

    def sizes(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        return _sum(torch.stack([function(wide.unsqueeze(2)).squeeze(2) for wide in self.wide.unbind()]).abs())

    @property
    def wide(self) -> Tensor:
        return self._plain


def _sum(x: Tensor) -> Tensor:
    return x.sum(1).flatten()


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
        if self.fused is False or (self.fused == "auto" and rows.parts[0].device.type == "cpu"):
            return reduced(statistics, rows, step)  # on the CPU, kernels and single sums are equally fast
        fusable = [s for s in statistics if s.fusable]
        if len(fusable) < 2 or _get_current_function_mode_stack():
            return reduced(statistics, rows, step)
        start, key, found = perf_counter(), self._key(fusable, rows), None
        if self.fused is True or self._spent.get(key, 0.0) > WORTH:
            if key not in self._kernels:
                self._kernels[key] = _compiled(fusable, rows.nonnegative)
            found = self._run(self._kernels[key], rows)
        if found is None:
            partials = reduced(statistics, rows, step)
            self._spent[key] = self._spent.get(key, 0.0) + perf_counter() - start
            return partials
        by_kernel = {id(s): s.completed(p, rows.count, step) for s, p in zip(fusable, found, strict=True)}
        return [by_kernel[id(s)] if id(s) in by_kernel else s.partials(rows, step) for s in statistics]

    def _run(self, kernel: Kernel, rows: Rows) -> list[Partials] | None:
        try:
            with torch.compiler.set_stance("default"):  # a measured step runs under "force_eager"
                return kernel(rows.x, len(rows.parts))
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
        first = rows.parts[0]
        return kinds, len(rows.parts), rows.nonnegative, first.dtype, first.device, first.shape[2] == 1


def _compiled(statistics: list[Statistic], nonnegative: bool) -> Kernel:
    def reduce(x: Tensor, layers: int) -> list[Partials]:
        rows = PlainRows(x, nonnegative, layers)
        return [statistic.reduce(rows) for statistic in statistics]

    # the compiler counts recompilations by code object: each kernel has its own
    own = FunctionType(reduce.__code__.replace(), reduce.__globals__, "reduce", None, reduce.__closure__)
    return cast("Kernel", torch.compile(own, dynamic=True, fullgraph=True))
