"""The rows of one tensor, and the sums over them of which statistics are made, each computed once and at least cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lightning_neurohealth.statistics.workspace import Workspace

ROOM = (1 << 15) - 1
"""Elements that are looked at at once: they stay in a processor's cache. Of one more, torch makes two halves for two
threads, and waking a thread costs more than all the arithmetic."""
LARGE = 1 << 22
"""The same on devices where a call costs more than that."""

Write = Callable[[Tensor, Tensor], object]
"""``write(x, out)`` puts a number for each element of ``x`` into ``out``."""
Compare = Callable[..., Tensor]


class Rows:
    """Rows of ``x``, shape ``[outer, neurons, inner]``; every sum is over outer and inner, float64 ``[neurons]``.

    All is computed in float64: a variance keeps nine digits while the mean is below some thousand times the spread.
    Whoever wants it at least cost goes through :meth:`pieces`.

    Attributes:
        parts: The tensors of some layers of one shape, whose neurons follow one another; of one as a rule.
        count: Number of rows.
        nonnegative: True if no element is known to be less than 0.
    """

    __slots__ = ("_finite", "_spread", "_sums", "_workspace", "count", "nonnegative", "parts")

    def __init__(
        self, x: Tensor | tuple[Tensor, ...], nonnegative: bool = False, workspace: Workspace | None = None
    ) -> None:
        self.parts = (x,) if isinstance(x, Tensor) else x
        outer, _, inner = self.parts[0].shape
        self.count, self.nonnegative = outer * inner, nonnegative
        self._workspace = workspace
        self._sums: dict[object, Tensor] = {}
        self._spread: tuple[Tensor, Tensor] | None = None
        self._finite: bool | None = None

    @property
    def x(self) -> Tensor:
        """The tensor, ``[outer, neurons, inner]``; of several layers, their neurons side by side."""
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts, 1)

    def pieces(self) -> Iterator[Rows]:
        """The same rows, so many at a time that no more is computed of them at once than stays in a cache."""
        x = self.parts[0]
        most = ROOM if x.device.type == "cpu" else LARGE
        if x.numel() <= most:
            yield self
            return
        _, neurons, inner = x.shape
        for some in zip(*(_evenly(x, most // (neurons * inner), 0) for x in self.parts), strict=True):
            for fewer in zip(*(_evenly(x, most // neurons, 2) for x in some), strict=True):
                yield Rows(fewer, self.nonnegative, self._workspace)

    def apart(self) -> list[Rows]:
        """The rows of each layer."""
        return [self] if len(self.parts) == 1 else [Rows(x, self.nonnegative) for x in self.parts]

    # What statistics are made of

    def sums(self) -> Tensor:
        """Σx."""
        found = self._sums.get("sums")
        if found is None:
            found = self._sums["sums"] = _over_rows(self.wide)
        return found

    def squares(self) -> Tensor:
        """Σx²."""
        return self.total(_square, "squares")

    def magnitudes(self) -> Tensor:
        """Σ|x|."""
        return self.sums() if self.nonnegative else self.total(_magnitude, "magnitudes")

    def counted(self, compare: Compare, value: float) -> Tensor:
        """Rows on which ``compare(x, value)`` holds, e.g. ``torch.gt``; NaN is neither more nor less than anything."""
        opposite = self._sums.get((torch.gt, value)) if compare is torch.le else None
        if opposite is not None and self.is_finite:
            return self.count - opposite
        return self.total(lambda x, out: compare(x, value, out=out), (compare, value))

    def near(self, epsilon: float) -> Tensor:
        """Rows on which |x| ≤ ε."""
        if self.nonnegative:
            return self.counted(torch.le, epsilon)
        return self.total(lambda x, out: torch.abs(x, out=out).le_(epsilon), ("near", epsilon))

    def non_finite(self) -> Tensor | None:
        """Rows on which x is NaN or infinite; ``None`` where it is known at once that there are none."""
        return None if self.is_finite else self.total(_non_finite, "non_finite")

    @property
    def is_finite(self) -> bool:
        """True if it is known at once that all is finite: on the CPU, where there is no device to wait for."""
        if self._finite is None:
            squares = self.squares()
            nothing = squares - squares  # NaN for whoever is not
            self._finite = squares.device.type == "cpu" and torch.equal(nothing, nothing)
        return self._finite

    def passing(self) -> tuple[Tensor, Tensor]:
        """Rows on which x is not 0, and of each layer, ``[layers]``, those on which x of some neuron is not."""
        nonzero = torch.ne(self.wide, 0.0, out=self.out)
        live = nonzero.amax(2).sum(1)
        return _over_rows(nonzero), live if len(self.parts) > 1 else live.squeeze(0)

    def sizes(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Σ of the absolute of what ``function`` gives for each element.

        It gets single precision unless there is more: exponentials cost five times as much in double.
        """
        sizes = self.out
        for part, size in zip(self.parts, sizes, strict=True):
            outer, neurons, inner = part.shape
            found = function(part if part.dtype == torch.float64 else part.float())
            size.view(outer, inner, neurons).copy_(found.movedim(1, 2))
        return _over_rows(sizes.abs_())

    def total(self, write: Write, key: object = None) -> Tensor:
        """Σ of what ``write`` puts in; computed once for each ``key`` that is given."""
        found = self._sums.get(key)
        if found is None:
            wide, out = self.wide, self.out
            write(wide, out)
            found = _over_rows(out)
            if key is not None:
                self._sums[key] = found
        return found

    @property
    def wide(self) -> Tensor:
        """All of them in float64, ``[layers, rows, neurons]``."""
        if self._spread is None:
            self._spread = (self._workspace or Workspace()).spread(self.parts)
        return self._spread[0]

    @property
    def out(self) -> Tensor:
        """Room for a number of each element, which the next sum takes anew."""
        if self._spread is None:
            self._spread = (self._workspace or Workspace()).spread(self.parts)
        return self._spread[1]


def _evenly(x: Tensor, most: int, axis: int) -> tuple[Tensor, ...]:
    pieces = -(-x.shape[axis] // max(most, 1))
    return x.split(-(-x.shape[axis] // pieces), axis)


def _over_rows(x: Tensor) -> Tensor:
    """Sum of ``[layers, rows, neurons]`` over the rows, the neurons of all layers behind one another."""
    return x.flatten().clone() if x.shape[1] == 1 else x.sum(1).view(-1)


def _square(x: Tensor, out: Tensor) -> None:
    torch.mul(x, x, out=out)


def _magnitude(x: Tensor, out: Tensor) -> None:
    torch.abs(x, out=out)


def _non_finite(x: Tensor, out: Tensor) -> None:
    torch.mul(x, 0.0, out=out)  # NaN where x is not finite
    torch.ne(out, out, out=out)
