"""Evenly spaced elements of each parameter, which stand for all of it where a copy of all would cost too much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_neurohealth.native import Spaced, kernel
from lightning_neurohealth.sharding import Part, is_split, picks, piece, shards
from lightning_neurohealth.slices import Slice

MOST = 1024
"""Of one parameter: a norm of samples is within 1/√1024 ≈ 3 % of that of all."""


ORDINARY = (Tensor, nn.Parameter)


class Samples:
    """Up to 1,024 elements of each of ``tensors``, behind one another, float64 ``[samples]``.

    Of a tensor that is split over ranks, those of them that are here. With ``in_c``, what is compiled for the CPU may
    gather them.
    """

    def __init__(
        self, tensors: Sequence[Tensor], device: torch.device, slices: Mapping[int, Slice] = {}, in_c: bool = False
    ) -> None:
        self.tensors, self.device, self._slices, self._in_c = tensors, device, slices, in_c
        self.split = bool(slices) or any(map(is_split, tensors))
        self._ordinary = False
        self._owners: tuple[list[int], Tensor] | None = None
        self._owners_here: Tensor | None = None
        self._places: list[int] = []
        self._sizes: list[int] = []
        self._views: list[Tensor] = []
        self._spaced: Spaced | None = None

    def now(self) -> Tensor:
        """Of the tensors as they are."""
        if not self._are_ordinary():
            return self._sampled([p if is_lazy(p) else p.detach() for p in self.tensors])
        self._look()
        if self._spaced is not None and (in_c := kernel()) is not None:
            return in_c.gather(self._spaced, self._places)
        return self._joined(self._views)

    def step(self, before: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """``now``, ``of_gradients`` and ``changes`` since ``before`` in one call; ``None`` where C cannot tell them."""
        if self._spaced is None or before.numel() != self._spaced.total:
            return None
        self._look()
        gradients = [p.grad for p in self.tensors]
        if self._spaced is None or not all(map(is_plain, gradients)) or (in_c := kernel()) is None:
            return None
        return in_c.step(self._spaced, self._places, [g.data_ptr() for g in gradients if g is not None], before)

    def _look(self) -> None:
        """Find out where the tensors lie."""
        places, sizes = list(map(Tensor.data_ptr, self.tensors)), list(map(Tensor.numel, self.tensors))
        if self._places != places or self._sizes != sizes:  # an engine may change either
            self._places, self._sizes = places, sizes
            self._spaced = self._spaced_in_c()
            self._views = [] if self._spaced else [_evenly(p.detach()) for p in self.tensors if p.numel()]

    def _spaced_in_c(self) -> Spaced | None:
        if not self._in_c or not all(map(is_plain, self.tensors)) or kernel() is None:
            return None
        sizes = [p.numel() for p in self.tensors]
        return Spaced([_cut(size)[0][0] for size in sizes], [stride(size) for size in sizes])

    def _are_ordinary(self) -> bool:
        if not self._ordinary:  # what is once stays so
            lazy_or_split = (is_lazy(p) or piece(p) is not p for p in self.tensors)
            self._ordinary = not (self._slices or any(lazy_or_split))
        return self._ordinary

    def of_gradients(self) -> Tensor:
        """The same elements of their gradients; 0 where there is none."""
        gradients = [p.grad for p in self.tensors]
        if self._spaced is not None and all(map(is_plain, gradients)) and (in_c := kernel()) is not None:
            return in_c.gather(self._spaced, [g.data_ptr() for g in gradients if g is not None])
        if self._are_ordinary() and all(map(_is_dense, gradients)):
            return self._joined([g.as_strided(*_cut(g.numel())) for g in gradients if g is not None])
        return self._sampled([_dense_gradient(p) for p in self.tensors])

    def norms(self, samples: Tensor) -> Tensor:
        """L2 norm of the samples of each tensor, ``[…, samples]`` to ``[…, tensors]``."""
        if self._owners_here is None or len(self._owners_here) != samples.shape[-1]:
            owners, here = self.owners, self.here
            self._owners_here = owners.to(self.device) if here is None else owners.to(self.device)[here.columns]
        return self._summed(samples * samples, self._owners_here).sqrt_()

    def changes(self, before: Tensor, after: Tensor) -> Tensor:
        """‖after − before‖ and ‖before‖ of the samples of each tensor, and their ratio, ``[3, tensors]``."""
        if self._spaced is not None and before.numel() == self._spaced.total and (in_c := kernel()) is not None:
            return in_c.changes(self._spaced, before, after)
        return with_ratio(self.norms(torch.stack([after - before, before])))

    def by_tensor(self, samples: Tensor) -> Tensor:
        """Sum over the samples of each tensor, of all ranks, ``[samples]`` to ``[tensors]``."""
        return self._summed(samples, self.owners.to(samples.device))

    @property
    def owners(self) -> Tensor:
        """Index of the tensor that each sample belongs to, ``[samples]``."""
        sizes = [self._size(p) for p in self.tensors]
        if self._owners is None or self._owners[0] != sizes:
            counts = torch.tensor([len(range(0, size, stride(size))) for size in sizes], dtype=torch.long)
            self._owners = sizes, torch.arange(len(sizes)).repeat_interleave(counts)
            self._owners_here = None
        return self._owners[1]

    @cached_property
    def here(self) -> Part | None:
        """Which of all samples this rank has; ``None`` where that is all."""
        if not self.split:
            return None
        counts = [len(range(0, self._size(p), stride(self._size(p)))) for p in self.tensors]
        places, weights, start = [], [], 0
        for tensor, count in zip(self.tensors, counts, strict=True):
            here = self._slices.get(id(tensor))
            pieces = shards(tensor) if here is None else here.ranks
            if here is not None:
                own = here.picks(stride(here.of))[1]
            else:
                own = picks(tensor, stride(_numel(tensor)))[1] if is_split(tensor) else torch.arange(count)
            places.append(own + start)
            weights.append(torch.full((len(own),), float(pieces), dtype=torch.float64))
            start += count
        return Part(torch.cat(places).to(self.device), start, weight=torch.cat(weights).to(self.device))

    def _summed(self, samples: Tensor, owners: Tensor) -> Tensor:
        sums = samples.new_zeros(*samples.shape[:-1], len(self.tensors))
        return sums.index_add_(-1, owners, samples)

    def _sampled(self, tensors: list[Tensor]) -> Tensor:
        slices = [self._slices.get(id(p)) for p in self.tensors]
        return self._joined(
            [
                _evenly(t) if here is None else _real(t).reshape(-1)[here.picks(stride(here.of))[0].to(t.device)]
                for t, here in zip(tensors, slices, strict=True)
                if _numel(t)
            ]
        )

    def _size(self, tensor: Tensor) -> int:
        here = self._slices.get(id(tensor))
        return _numel(tensor) if here is None else here.of

    def _joined(self, parts: list[Tensor]) -> Tensor:
        if not parts:
            return torch.zeros(0, dtype=torch.float64, device=self.device)
        first = parts[0]
        if any(part.dtype != first.dtype or part.device != first.device for part in parts):
            parts = [part.to(self.device, torch.float64) for part in parts]
        return torch.cat(parts).to(self.device, torch.float64)


def with_ratio(changes_and_sizes: Tensor) -> Tensor:
    """Two rows and their ratio; NaN for what was 0."""
    changes, sizes = changes_and_sizes.unbind()
    return torch.stack([changes, sizes, (changes / sizes).masked_fill_(sizes == 0, torch.nan)])


@cache
def stride(size: int) -> int:
    """Distance between the samples of a tensor of that many elements."""
    # prime to the size, so that the samples wander over all rows and columns: those of one may never move
    step = max(1, -(-size // MOST))
    while math.gcd(step, size) > 1 and step > 1:
        step += 1
    return step


@cache
def _cut(size: int) -> tuple[tuple[int], tuple[int]]:
    """Shape and stride of the view of the samples of a tensor of that many elements."""
    return (-(-size // stride(size)),), (stride(size),)


def _evenly(tensor: Tensor) -> Tensor:
    """The samples of it that are here, a view wherever the memory allows it."""
    step, here = stride(tensor.numel()), piece(tensor)
    if is_split(tensor):
        return _real(here).reshape(-1)[picks(tensor, step)[0].to(here.device)]
    if here.is_contiguous() and not here.is_complex():
        return here.as_strided(*_cut(here.numel()))  # one call instead of two
    return _real(here).reshape(-1)[::step]


def is_plain(tensor: Tensor | None) -> TypeGuard[Tensor]:
    """True for what C can read: float32 behind one another on the CPU."""
    return (
        tensor is not None
        and type(tensor) in ORDINARY
        and tensor.dtype is torch.float32
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
    )


def _is_dense(gradient: Tensor | None) -> TypeGuard[Tensor]:
    return (
        isinstance(gradient, Tensor)
        and type(gradient) in ORDINARY
        and gradient.layout == torch.strided
        and not gradient.is_complex()
        and gradient.is_contiguous()
    )


def _dense_gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return parameter if is_lazy(parameter) else torch.zeros_like(parameter)
    return gradient.to_dense() if gradient.is_sparse else gradient


def _numel(tensor: Tensor) -> int:
    return 0 if is_lazy(tensor) else tensor.numel()


def _real(tensor: Tensor) -> Tensor:
    return tensor.abs() if tensor.is_complex() else tensor
