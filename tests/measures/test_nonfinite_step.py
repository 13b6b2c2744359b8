"""nonfinite_step: the first measured step on which a neuron of the layer was NaN or infinite."""

import math

import pytest
import torch

from tests.measures.harness import Batches, compute


@pytest.mark.parametrize(("steps", "first"), [([], math.inf), ([0], 0), ([2, 4], 2), ([4], 4)])
def test_first_step(steps: list[int], first: float) -> None:
    tensors = [torch.ones(1 + step % 3, 4) for step in range(5)]
    for step in steps:
        tensors[step][-1, 2] = math.nan if step % 2 else -math.inf
    assert compute("nonfinite_step", Batches(tuple(tensors))) == first
