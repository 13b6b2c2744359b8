"""Any tensor as rows of neurons, and a part of them where they are many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

WHOLE = 1 << 16
"""Elements of a tensor of which every row is measured: a quarter of a megabyte of float32."""
ELEMENTS = (1 << 14) - 1
"""What is measured of a larger one, so that one thread takes two of them at once: further rows tell less than they
cost."""
LEAST_ROWS = 31
"""Rows of a wide layer that are measured all the same: some thirty measured steps then give the thousand rows that a
dead neuron is judged by."""
MOST_ROWS = 255
"""The most of a narrow one: four measured steps give that thousand."""
FEWEST_ROWS = 8
"""Of a very wide one, such as a vocabulary's logits, which are so many that few rows tell as much."""
PRODUCTS = 1 << 14
"""What is taken of a signal that has to be computed for it, and of which only whole samples tell."""
LEAST_SAMPLES = 4
"""Samples of it, however large they are."""
LEAST_PLACES = 8
"""Places that stand for all of a sample where its mean is wanted."""
MEANS = 16
"""Samples of which it is taken, rather than over fewer places of more of them, which blurs it."""
LINE = 15
"""Neighbours in memory that are taken together: a processor fetches as many float32 at once anyway."""
SAMPLES = 64
"""Samples of which some are taken rather than more places of fewer, which tell less."""
GOLDEN, ROOT_OF_TWO = 5**0.5 / 2 - 0.5, 2**0.5 - 1
"""Multiples of an irrational number are spread evenly between two whole ones, however many there are."""


def fold(x: Tensor, axis: int) -> Tensor:
    """View of ``x`` as ``[outer, neurons, inner]``; rows are outer × inner.

    A view wherever the memory allows it, channels-last included (inner is 1 there); a copy for odd strides only.
    """
    axis %= x.dim()
    neurons = x.shape[axis]
    if axis == x.dim() - 1:
        return x.reshape(-1, neurons, 1) if x.numel() else x.reshape(0, neurons, 1)
    if x.is_contiguous():
        if axis == 1:
            return x.flatten(2)
    else:
        last = x.movedim(axis, -1)
        if last.is_contiguous():
            return last.reshape(math.prod(last.shape[:-1]), neurons, 1)
    return x.reshape(math.prod(x.shape[:axis]), neurons, math.prod(x.shape[axis + 1 :]))


def upright(x: Tensor) -> Tensor:
    """``[outer, neurons, inner]`` as ``[rows, neurons, 1]`` in memory of its own, over which sums are quickest."""
    turned = x if x.shape[2] == 1 else x.movedim(1, 2)
    return turned.clone(memory_format=torch.contiguous_format).view(-1, x.shape[1], 1)


def thin(x: Tensor, rows: int | None, phase: int) -> Tensor:
    """Evenly spaced rows of ``[outer, neurons, inner]``, at most ``rows``; with ``None``, all of what is small; a copy.

    Their distance has no divisor in common with the axis, so that all columns of images and all places of texts come,
    and ``phase``, which counts measured steps, moves the first one to and fro. As many come in each step.
    """
    pick = Pick(x, rows)
    if pick.all:
        return upright(x)
    some = x.as_strided(pick.shape, pick.strides, x.storage_offset() + pick.offset(phase))
    return some.clone(memory_format=torch.contiguous_format).view(-1, x.shape[1], 1)


class Pick:
    """Which rows ``thin`` takes of tensors like ``x``.

    Args:
        x: Of the shape ``[outer, neurons, inner]``.
        whole: True for all rows, however many they are.
        means: True if the mean over each sample is wanted: fewer samples and more of their places.

    Attributes:
        all: True if it takes all.
        shape: Samples, lines, places of a line, and neurons.
        strides: Of the four, in elements.
        step: From one sample to the next, in samples.
    """

    def __init__(self, x: Tensor, rows: int | None, whole: bool = False, means: bool = False) -> None:
        outer, neurons, inner = x.shape
        of_sample, of_neuron, of_place = x.stride()
        if whole:
            cut = None
        elif means:
            cut = _cut_of_means(outer, neurons, inner, rows, LINE if of_place == 1 else 1)
        else:
            cut = _cut(outer, neurons, inner, rows)
        self.all, self.step = cut is None, 1 if cut is None else cut[0].step
        if cut is None:
            self.shape, self.strides = (outer, 1, inner, neurons), (of_sample, 0, of_place, of_neuron)
            self._firsts = (0, 0, 0, 0)
            return
        samples, line, lines = cut
        self.shape = (samples.count, lines.count, line, neurons)
        self.strides = (samples.step * of_sample, lines.step * of_place, of_place, of_neuron)
        self._firsts = samples.firsts, of_sample, lines.firsts, of_place

    def first(self, phase: int) -> int:
        """The first sample."""
        return int(phase * GOLDEN % 1.0 * self._firsts[0])

    def offset(self, phase: int) -> int:
        """Elements from the beginning of the tensor to the first row."""
        samples, of_sample, places, of_place = self._firsts
        # the fraction goes around all places where the first one may be
        return int(phase * GOLDEN % 1.0 * samples) * of_sample + int(phase * ROOT_OF_TWO % 1.0 * places) * of_place


def some_samples(x: Tensor, axis: int, phase: int) -> Tensor:
    """Every s-th whole sample of what is large; where the neurons lie last, a sample is a row: ``[rows, neurons]``."""
    if axis in (-1, x.dim() - 1):
        x = x.reshape(-1, x.shape[-1])
    step = 1 if axis in (0, -x.dim()) else sample_step(x.shape[0], x.numel())
    return x if step == 1 else x[phase % step :: step]


@lru_cache(maxsize=4096)
def sample_step(samples: int, elements: int) -> int:
    """How far it is from one sample that ``some_samples`` takes to the next, in a tensor of so many elements."""
    most = max(LEAST_SAMPLES, PRODUCTS * samples // max(elements, 1))
    return 1 if samples <= most else _step(samples, most)


@dataclass(frozen=True)
class Spaced:
    """Evenly spaced places on an axis.

    Attributes:
        count: How many.
        step: From one to the next.
        firsts: Where the first may be, from 0 on.
    """

    count: int
    step: int
    firsts: int


@lru_cache(maxsize=4096)
def _cut(outer: int, neurons: int, inner: int, rows: int | None) -> tuple[Spaced, int, Spaced] | None:
    """Which samples are taken, how many neighbouring places go together, and which such lines; ``None`` for all."""
    fewest = max(min(LEAST_ROWS, WHOLE // max(neurons, 1)), FEWEST_ROWS)
    most = max(fewest, min(ELEMENTS // max(neurons, 1), MOST_ROWS)) if rows is None else rows
    if outer * inner <= most or (rows is None and outer * neurons * inner <= WHOLE):
        return None
    line = min(LINE, inner, max(1, most // min(outer, SAMPLES)))
    samples = min(outer, most // line)
    lines = min(inner // line, most // (samples * line))
    return _spaced(outer, outer, samples), line, _spaced(inner, inner - line + 1, lines)


@lru_cache(maxsize=4096)
def _cut_of_means(
    outer: int, neurons: int, inner: int, rows: int | None, line: int
) -> tuple[Spaced, int, Spaced] | None:
    """The same where the mean over each sample is wanted; ``line``: how many places go together at most."""
    fewest = min(inner, LEAST_PLACES)
    most = rows
    if most is None:
        most = max(LEAST_ROWS, min(ELEMENTS // max(neurons, 1), MOST_ROWS if inner == 1 else ELEMENTS), MEANS * fewest)
    if outer * inner <= most or (rows is None and outer * neurons * inner <= WHOLE):
        return None
    samples = min(outer, max(most // fewest, 1), max(MEANS, most // inner))
    line = min(line, inner, max(most // samples, 1))
    lines = min(inner // line, max(most // (samples * line), 1))
    return _spaced(outer, outer, samples), line, _spaced(inner, inner - line + 1, lines)


def _spaced(length: int, places: int, count: int) -> Spaced:
    step = next(step for step in range(places // count, 0, -1) if math.gcd(step, length) == 1)
    return Spaced(count, step, places - (count - 1) * step)


def _step(length: int, most: int) -> int:
    least = -(-length // most)
    return next(step for step in range(least, 2 * length + 2) if math.gcd(step, length) == 1 or step >= length)
