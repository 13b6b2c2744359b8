"""How C multiplies two tensors of one shape while it sums them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.counting.held import Held
from lightning_neurohealth.folding import sample_step
from lightning_neurohealth.native import Plan, Targets


@dataclass(frozen=True, eq=False)
class Product:
    """How two tensors that lie in memory as some others do are multiplied.

    A row is the sum over all places of a sample; where the neurons lie last, every row is a sample.

    Attributes:
        samples: How many there are.
        lines: Rows of a sample.
        step: From one sample that is taken to the next.
        strides: From one sample to the next, in elements of either tensor.
        held: What keeps a copy of the rows, if something does.
    """

    plan: Plan
    samples: int
    lines: int
    step: int
    strides: tuple[int, int]
    held: Held | None

    def some(self, phase: int) -> tuple[int, tuple[int, int]]:
        """How many samples are taken, and where the first of them begins in either tensor."""
        first = phase % self.step
        return -(-(self.samples - first) // self.step), (first * self.strides[0], first * self.strides[1])


def in_lines(x: Tensor, axis: int) -> Tensor | None:
    """View of ``x`` as ``[samples, lines, neurons, places]``; ``None`` where the memory does not allow it."""
    axis %= x.dim()
    if axis == x.dim() - 1:
        shape = (math.prod(x.shape[:-1]), 1, x.shape[-1], 1)
    elif axis == 0:
        return None
    else:
        shape = (x.shape[0], math.prod(x.shape[1:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :]))
    try:
        return x.view(shape)
    except RuntimeError:
        return None


def product_of(x: Tensor, y: Tensor, targets: Targets, held: Held | None, whole: bool) -> Product:
    """How ``x`` and ``y``, both ``[samples, lines, neurons, places]``, are multiplied; with ``whole``, all samples."""
    samples, lines, neurons, places = x.shape
    step = 1 if whole else sample_step(samples, x.numel())
    strides = [(step * sample, line, place, neuron) for sample, line, neuron, place in (t.stride() for t in (x, y))]
    shape = (-(-samples // step), lines, places, neurons)
    plan = Plan(shape, strides[0], x.dtype, targets, strides[1])
    return Product(plan, samples, lines, step, (x.stride(0), y.stride(0)), held)
