"""The rows of one tensor, and the sums over them of which statistics are made, each computed once and at least cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

EXACT = 1 << 14
"""Elements up to which all is computed in float64: there calls cost more than arithmetic."""
ROOM = (1 << 15) - 1
"""Elements of the one temporary, which stays in a processor's cache. Of one more, torch makes two halves for two
threads, and waking a thread costs more than all the arithmetic."""

Write = Callable[[Tensor, Tensor], object]
"""``write(x, out)`` puts a number for each element of ``x`` into ``out``; the two may be the same."""
Compare = Callable[..., Tensor]


class Rows:
    """Rows of ``x``, shape ``[outer, neurons, inner]``; every sum is over outer and inner, float64 ``[neurons]``.

    Larger tensors are summed in float32, block by block; the first row is taken off before they are squared, so that
    moments keep six digits where the mean is far above the spread. Counts are exact.

    Attributes:
        x: The tensor, as float32 where it came in halves.
        count: Number of rows.
        nonnegative: True if no element is known to be less than 0.
        layers: Number of layers whose neurons these are, as many of each.
    """

    def __init__(self, x: Tensor, nonnegative: bool = False, layers: int = 1) -> None:
        self.x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        self.count = x.shape[0] * x.shape[2]
        self.nonnegative, self.layers = nonnegative, layers
        self.exact = x.numel() <= EXACT * layers or x.dtype == torch.float64
        self._sums: dict[object, Tensor] = {}
        self._kept_moments: tuple[Tensor, Tensor, Tensor] | None = None
        self._room: Tensor | None = None
        self._parts: list[Tensor] | None = None

    # What statistics are made of

    def moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Σx, Σx², and Σ(x − mean)² of these rows."""
        if self._kept_moments is None:
            self._kept_moments = self._exact_moments() if self.exact else self._fast_moments()
        return self._kept_moments

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

    def total(self, write: Write, key: object = None) -> Tensor:
        """Σ of what ``write`` puts in; computed once for each ``key`` that is given."""
        if key in self._sums:
            return self._sums[key]
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

    def _exact_moments(self) -> tuple[Tensor, Tensor, Tensor]:
        (x,) = self._blocks()
        sums, squares = over_rows(x), over_rows(torch.mul(x, x, out=self._space(x)))
        return sums, squares, (squares - sums * sums / self.count).clamp_min_(0.0)

    def _fast_moments(self) -> tuple[Tensor, Tensor, Tensor]:
        # without its first row, what is near its mean leaves small numbers, and a constant leaves nothing
        first = self.x[:1, :, :1].nan_to_num(0.0, 0.0, 0.0)
        sums, squares = [], []
        for block in self._blocks():
            out = torch.sub(block, first, out=self._space(block))
            sums.append(over_rows(out))
            squares.append(over_rows(out.square_()))
        total = _add(sums)
        within = (_add(squares) - total * total / self.count).clamp_min_(0.0)
        return moved(total, within, first, self.count)

    def _total(self, block: Tensor, write: Write) -> Tensor:
        out = self._space(block)
        write(block, out)
        return over_rows(out)

    def _space(self, block: Tensor) -> Tensor:
        if self._room is None:
            dtype = torch.float64 if self.exact else torch.float32
            self._room = torch.empty(block.shape, dtype=dtype, device=block.device)
        if self._room.shape == block.shape:
            return self._room
        return self._room.view(-1)[: block.numel()].view(block.shape)

    def _blocks(self) -> list[Tensor]:
        if self._parts is None:
            x = self.x.double() if self.exact else self.x
            self._parts = [x] if x.numel() <= ROOM or self.exact else _split(x)
        return self._parts


def over_rows(x: Tensor) -> Tensor:
    """Sum of ``[outer, neurons, inner]`` over outer and inner, float64 ``[neurons]``."""
    if x.shape[0] == x.shape[2] == 1:
        return x.flatten().to(torch.float64, copy=True)
    if x.dtype == torch.float64:
        return x.sum((0, 2))
    if x.shape[2] == 1:
        return x.sum((0, 2)).double()
    return x.sum(2).double().sum(0)


def moved(sums: Tensor, within: Tensor, by: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Moments of x from those of x − ``by``."""
    sums = sums + rows * by.flatten().double()
    return sums, within + sums * sums / rows, within


def _split(x: Tensor) -> list[Tensor]:
    _, neurons, inner = x.shape
    parts = x.split(max(1, ROOM // (neurons * inner)))
    return [piece for part in parts for piece in part.split(max(1, ROOM // neurons), dim=2)]


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
