"""Calls what is written in C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int64, c_void_p
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.native.brought import Brought
from lightning_neurohealth.native.compiling import NoLibraryError, load
from lightning_neurohealth.native.sums import OF_ALL, Sum, What

TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
"""Types of numbers that it reads."""
MOST = 48
"""Sums of one plan."""
BINS = 128
"""Bins of a histogram."""


class _Sum(Structure):
    _fields_ = (
        ("what", c_int64),
        ("low", c_double),
        ("high", c_double),
        ("weight", c_double),
        ("edges", c_int64),
        ("edge", c_void_p),
        ("out", c_void_p),
    )


class _Plan(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("samples", "lines", "places", "neurons")),
        *((name, c_int64) for name in ("sample", "line", "place", "neuron")),
        *((name, c_int64) for name in ("sample_2", "line_2", "place_2", "neuron_2")),
        *((name, c_int64) for name in ("minus", "type", "count")),
        ("sums", POINTER(_Sum)),
    )


class Targets:
    """Sums and where each is added to.

    Attributes:
        neurons: How many they are of; ``None`` if none is of single neurons.

    Raises:
        ValueError: They are too many, or of different numbers of neurons, or a histogram has too many bins.
    """

    def __init__(self, sums: Sequence[tuple[Sum, Tensor]]) -> None:
        if len(sums) > MOST:
            raise ValueError(f"{len(sums)} sums: one plan has {MOST} at most")
        bins = max((len(s.edges) + 1 for s, _ in sums), default=0)
        if bins > BINS:
            raise ValueError(f"{bins} bins: a histogram has {BINS} at most")
        widths = {out.numel() // (len(s.edges) + 1) for s, out in sums if s.what not in OF_ALL}
        if len(widths) > 1:
            raise ValueError(
                f"sums of {' and '.join(map(str, sorted(widths)))} neurons: one plan has one number of them"
            )
        self.count, self.neurons = len(sums), next(iter(widths), None)
        self._tensors = [out for _, out in sums]  # their memory must stay
        self._edges = [(c_double * len(s.edges))(*s.edges) for s, _ in sums]
        self.array = (_Sum * len(sums))(
            *(
                _Sum(s.what, s.low, s.high, s.weight, len(s.edges), ctypes.addressof(edges), out.data_ptr())
                for (s, out), edges in zip(sums, self._edges, strict=True)
            )
        )


class Plan:
    """Which rows of tensors of one layout are summed, and into what.

    Args:
        shape: Samples, lines, places of a line, and neurons; rows are all but the last.
        strides: Of the four, in elements.
        type: Of the numbers.
        others: The strides of a second tensor, with which each is multiplied; rows are samples × lines then.
        minus: True to take away rows that a plan without sums has copied before.

    Raises:
        ValueError: The tensors have another number of neurons than what is added to.
    """

    def __init__(
        self,
        shape: Sequence[int],
        strides: Sequence[int],
        type: torch.dtype,
        targets: Targets,
        others: Sequence[int] = (0, 0, 0, 0),
        minus: bool = False,
    ) -> None:
        if targets.neurons not in (None, shape[3]):
            raise ValueError(f"tensors of {shape[3]} neurons: the sums are of {targets.neurons}")
        self.targets, self.itemsize, self.samples = targets, type.itemsize, shape[0]
        self._plan = _Plan(*shape, *strides, *others, minus, TYPES[type], targets.count, targets.array)
        self.reference = byref(self._plan)


class Spaced:
    """Evenly spaced elements of some tensors of float32 on the CPU.

    Args:
        counts: How many of each.
        strides: From one to the next.
    """

    def __init__(self, counts: Sequence[int], strides: Sequence[int]) -> None:
        self.tensors, self.total = len(counts), sum(counts)
        self.counts, self.strides = (c_int64 * len(counts))(*counts), (c_int64 * len(counts))(*strides)
        self.pointers = c_void_p * len(counts)


class Lengths:
    """Groups of rows whose lengths are wanted.

    Args:
        counts: Rows of each.
        begins: Where the squares of the first one are.
        beside: The tensor that has one more element of each row, -1 for none.
    """

    def __init__(self, counts: Sequence[int], begins: Sequence[int], beside: Sequence[int]) -> None:
        self.groups = len(counts)
        self.arrays = tuple((c_int64 * len(counts))(*numbers) for numbers in (counts, begins, beside))


class Kernel:
    """The compiled functions."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._gather, self._compare = library.gather_samples, library.compare_samples
        self._gather.argtypes = (c_void_p, c_void_p, c_void_p, c_int64, c_void_p)
        self._compare.argtypes = (c_void_p, c_void_p, c_void_p, c_int64, c_void_p)
        self._elements, self._merge = library.sum_elements, library.merge_states
        self._merge.argtypes, self._merge.restype = (c_void_p, c_int64), None
        self._elements.argtypes = (c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_void_p)
        self._lengths = library.find_lengths
        self._lengths.argtypes, self._lengths.restype = (*[c_void_p] * 4, c_int64, c_void_p, c_void_p), None
        self._norms, self._step = library.find_norms, library.sample_step
        self._norms.argtypes, self._norms.restype = (c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_void_p), None
        self._step.argtypes = (c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p)
        self._step.restype = None
        self._gather.restype = self._compare.restype = self._elements.restype = None
        self.add_sums = library.add_sums
        self.add_sums.argtypes = (POINTER(_Plan), *[c_void_p] * 3, c_int64, c_void_p, c_double, c_double)
        self.add_sums.restype = c_int

    def add(self, plan: Plan, x: Tensor, offset: int, scale: float, step: int, copy: int | None = None) -> None:
        """Add the sums over the rows of ``x``, the first of which lies ``offset`` elements behind its beginning.

        Args:
            copy: Address of memory that gets the rows too, one behind another, float64 if they are, else float32.

        Raises:
            MemoryError: There is none.
        """
        place = x.data_ptr() + offset * plan.itemsize
        if self.add_sums(plan.reference, place, None, None, plan.samples, copy, scale, step):
            raise no_memory()

    def add_products(
        self,
        plan: Plan,
        x: Tensor,
        y: Tensor,
        offsets: tuple[int, int],
        samples: int,
        scale: float,
        step: int,
        copy: int | None = None,
    ) -> None:
        """The same of the first samples of ``x`` times ``y``, of each line the sum over its places."""
        first, second = x.data_ptr() + offsets[0] * plan.itemsize, y.data_ptr() + offsets[1] * plan.itemsize
        if self.add_sums(plan.reference, first, second, None, samples, copy, scale, step):
            raise no_memory()

    def add_changes(self, plan: Plan, x: Tensor, offset: int, before: Tensor, step: int) -> None:
        """The same of what the rows of ``x`` are more than those ``before``, a ``copy`` of as many."""
        place = x.data_ptr() + offset * plan.itemsize
        if self.add_sums(plan.reference, place, before.data_ptr(), None, plan.samples, None, 1.0, step):
            raise no_memory()

    def merge(self, brought: Brought) -> None:
        """Add to all states what the step has brought, which is nothing afterwards."""
        self._merge(brought.array, brought.count)

    def gather(self, spaced: Spaced, places: Sequence[int]) -> Tensor:
        """Those elements of the tensors at ``places`` behind one another, float64 ``[elements]``."""
        out = torch.empty(spaced.total, dtype=torch.float64)
        self._gather(spaced.pointers(*places), spaced.counts, spaced.strides, spaced.tensors, out.data_ptr())
        return out

    def elements(
        self, tensors: Sequence[Tensor], rows: Sequence[int] | None = None, squares: Tensor | None = None
    ) -> Tensor:
        """Σx, Σx², the least and the greatest x of contiguous float32 tensors, float64 ``[4, tensors]``; 0 of none.

        Args:
            rows: Of each, into how many rows it is cut, 0 for none.
            squares: Gets the Σx² of all rows, one behind another, float64.
        """
        out = torch.empty(4, len(tensors), dtype=torch.float64)
        cut = (c_int64 * len(tensors))(*(rows or ()))
        place = None if squares is None else squares.data_ptr()
        self._elements(*_places(tensors), cut, len(tensors), out.data_ptr(), place)
        return out

    def lengths(self, lengths: Lengths, squares: Tensor, tensors: Sequence[Tensor], out: Tensor) -> None:
        """Put what ``lengths`` says of the ``squares`` of rows, and of tensors beside them, into ``out``."""
        of_all = (c_void_p * len(tensors))(*map(Tensor.data_ptr, tensors))
        self._lengths(squares.data_ptr(), *lengths.arrays, lengths.groups, of_all, out.data_ptr())

    def norms(self, tensors: Sequence[Tensor], most: int, large: Tensor | None) -> Tensor:
        """L2 norms of contiguous float32 tensors and of all together, float64 ``[tensors + 1]``.

        Args:
            large: Σx² of those with more than ``most`` elements, float32, in their order; ``None`` if there are none.
        """
        out = torch.empty(len(tensors) + 1, dtype=torch.float64)
        squares = None if large is None else large.data_ptr()
        self._norms(*_places(tensors), len(tensors), most, squares, out.data_ptr())
        return out

    def step(
        self, spaced: Spaced, parameters: Sequence[int], gradients: Sequence[int], before: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``gather`` of parameters and of gradients at these places, and ``changes`` of the former since ``before``."""
        after, of_gradients = torch.empty_like(before), torch.empty_like(before)
        out = torch.empty(3, spaced.tensors, dtype=torch.float64)
        self._step(
            spaced.pointers(*parameters),
            spaced.pointers(*gradients),
            spaced.counts,
            spaced.strides,
            spaced.tensors,
            before.data_ptr(),
            after.data_ptr(),
            of_gradients.data_ptr(),
            out.data_ptr(),
        )
        return after, of_gradients, out

    def changes(self, spaced: Spaced, before: Tensor, after: Tensor) -> Tensor:
        """‖after − before‖ and ‖before‖ of the elements of each tensor, and their ratio, ``[3, tensors]``."""
        out = torch.empty(3, spaced.tensors, dtype=torch.float64)
        self._compare(before.data_ptr(), after.data_ptr(), spaced.counts, spaced.tensors, out.data_ptr())
        return out


def no_memory() -> MemoryError:
    """What ``add_sums`` means if it gives anything but 0."""
    return MemoryError("no memory for the sums over the rows of a tensor")


def _places(tensors: Sequence[Tensor]) -> tuple[Any, Any]:
    """Where they lie, and how many elements each has."""
    count = len(tensors)
    return (c_void_p * count)(*map(Tensor.data_ptr, tensors)), (c_int64 * count)(*map(Tensor.numel, tensors))


@lru_cache(maxsize=1)
def kernel() -> Kernel | None:
    """The functions on this machine; ``None`` where there is no compiler, or what it makes does not add up."""
    try:
        found = Kernel(load())
    except (NoLibraryError, AttributeError):  # or a library that is not what it is called
        return None
    return found if _adds_up(found) else None


def _adds_up(found: Kernel) -> bool:
    x = torch.arange(-7.0, 8.0).view(3, 5)
    sums, above = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    plan = Plan((3, 1, 1, 5), (5, 0, 0, 1), x.dtype, Targets([(Sum(What.SUM), sums), (Sum(What.ABOVE, 0.0), above)]))
    found.add(plan, x, 0, 1.0, 0)
    return torch.equal(sums, x.double().sum(0)) and torch.equal(above, (x > 0).double().sum(0))
