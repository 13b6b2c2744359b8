"""The rows of one tensor, and the sums over them of which statistics are made, each computed once and at least cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

ROOM = (1 << 15) - 1
"""Elements that are looked at at once: they stay in a processor's cache. Of one more, torch makes two halves for two
threads, and waking a thread costs more than all the arithmetic."""
LARGE = 1 << 22
"""The same on devices where a call costs more than that."""

Write = Callable[[Tensor, Tensor], object]
"""``write(x, out)`` puts a number for each element of ``x`` into ``out``; the two may be the same."""
Compare = Callable[..., Tensor]


class Rows:
    """Rows of ``x``, shape ``[outer, neurons, inner]``; every sum is over outer and inner, float64 ``[neurons]``.

    All is computed in float64, block by block: a variance keeps nine digits while the mean is below some thousand
    times the spread, and no block is so large that its arithmetic costs more than the calls.

    Attributes:
        x: The tensor.
        count: Number of rows.
        nonnegative: True if no element is known to be less than 0.
        layers: Number of layers whose neurons these are, as many of each.
    """

    def __init__(self, x: Tensor, nonnegative: bool = False, layers: int = 1) -> None:
        self.x = x
        self.count = x.shape[0] * x.shape[2]
        self.nonnegative, self.layers = nonnegative, layers
        self._sums: dict[object, Tensor] = {}
        self._moments: tuple[Tensor, Tensor, Tensor] | None = None
        self._room: Tensor | None = None
        self._whole: Tensor | None = None

    # What statistics are made of

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Σx, Σx², and Σ(x − mean)² of these rows."""
        if self._moments is None:
            self._moments = self._computed_moments()
        return self._moments

    def sums(self) -> Tensor:
        """Σx."""
        return self.moments()[0]

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

    @cached_property
    def is_finite(self) -> bool:
        """True if it is known at once that all is finite: on the CPU, where there is no device to wait for."""
        within = self.moments()[2]  # NaN for whoever is not
        return within.device.type == "cpu" and torch.equal(within, within)

    def passing(self) -> tuple[Tensor, Tensor]:
        """Rows on which x is not 0, and of each layer, ``[layers]``, those on which x of some neuron is not."""
        counts, live = [], []
        for block in self._blocks():
            nonzero = torch.ne(block, 0.0, out=self._space(block))
            counts.append(over_rows(nonzero))
            live.append(self.by_layer(nonzero).amax(2).sum((0, 2)))
        return _add(counts), self.of_layers(_add(live))

    def by_layer(self, x: Tensor) -> Tensor:
        """``[outer, neurons, inner]`` as ``[outer, layers, neurons, inner]``."""
        return x.unflatten(1, (self.layers, -1))

    def of_layers(self, x: Tensor) -> Tensor:
        """One number a layer, a scalar where there is but one."""
        return x if self.layers > 1 else x.squeeze(0)

    def apart(self) -> list[Rows]:
        """The rows of each layer."""
        if self.layers == 1:
            return [self]
        return [Rows(x, self.nonnegative) for x in self.x.chunk(self.layers, 1)]

    def total(self, write: Write, key: object = None) -> Tensor:
        """Σ of what ``write`` puts in; computed once for each ``key`` that is given."""
        found = self._sums.get(key)
        if found is None:
            found = _add([self._total(block, write) for block in self._blocks()])
            if key is not None:
                self._sums[key] = found
        return found

    def total_and_nonzero(self, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Σ of what ``function`` gives for each element, and the rows on which that is not 0."""
        totals, counts = [], []
        for block in self._blocks():
            numbers = function(block)
            totals.append(over_rows(numbers))
            counts.append(over_rows(torch.ne(numbers, 0.0, out=self._space(block))))
        return _add(totals), _add(counts)

    # How

    def _computed_moments(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.count == 1:
            x = self.x.flatten().to(torch.float64, copy=True)
            return x, x * x, x - x  # NaN where x is not finite
        sums = _add([over_rows(block) for block in self._blocks()])
        squares = _add([over_rows(torch.mul(block, block, out=self._space(block))) for block in self._blocks()])
        return sums, squares, torch.addcmul(squares, sums, sums, value=-1.0 / self.count).clamp_min_(0.0)

    def _total(self, block: Tensor, write: Write) -> Tensor:
        out = self._space(block)
        write(block, out)
        return over_rows(out)

    def _space(self, block: Tensor) -> Tensor:
        if self._room is None:
            self._room = torch.empty(block.shape, dtype=torch.float64, device=block.device)
        if self._room.shape == block.shape:
            return self._room
        return self._room.view(-1)[: block.numel()].view(block.shape)

    def _blocks(self) -> Iterator[Tensor]:
        most = ROOM if self.x.device.type == "cpu" else LARGE
        if self.x.numel() <= most:
            if self._whole is None:
                self._whole = self.x.double()
            yield self._whole
            return
        _, neurons, inner = self.x.shape
        for part in _evenly(self.x, most // (neurons * inner), 0):
            for block in _evenly(part, most // neurons, 2):
                yield block.double()


def _evenly(x: Tensor, most: int, axis: int) -> tuple[Tensor, ...]:
    pieces = -(-x.shape[axis] // max(most, 1))
    return x.split(-(-x.shape[axis] // pieces), axis)


def over_rows(x: Tensor) -> Tensor:
    """Sum of ``[outer, neurons, inner]`` over outer and inner, ``[neurons]``."""
    if x.shape[0] == x.shape[2] == 1:
        return x.flatten().clone()
    return x.sum((0, 2))


def _add(parts: list[Tensor]) -> Tensor:
    first, *others = parts
    for other in others:
        first = first + other
    return first


def _magnitude(x: Tensor, out: Tensor) -> None:
    torch.abs(x, out=out)


def _non_finite(x: Tensor, out: Tensor) -> None:
    torch.mul(x, 0.0, out=out)  # NaN where x is not finite
    torch.ne(out, out, out=out)
