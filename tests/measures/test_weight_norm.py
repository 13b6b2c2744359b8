"""weight_norm: the Euclidean norm of a neuron's incoming weights."""

import math

import numpy as np
import torch
from torch import Tensor

from tests.measures.harness import assert_close
from tests.measures.weights import every_weight, layer_of, measured, rows


@every_weight
def test_norm_of_each_neuron(weight: Tensor, ranks: int) -> None:
    norm = measured("weight_norm", layer_of(weight), ranks, weight=weight)
    assert_close(norm, [math.sqrt(sum(w * w for w in neuron)) for neuron in rows(weight)])


def test_a_weight_seen_twice_counts_once() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert_close(measured("weight_norm", layer_of(weight), weight=[weight, weight]), [5, 0])


def test_sizes_that_single_precision_could_not_square() -> None:
    weight = torch.tensor([[3e30, 4e30], [3e-30, 4e-30]])
    assert_close(measured("weight_norm", layer_of(weight), weight=weight), [5e30, 5e-30], rtol=1e-6)


def test_what_is_not_finite_stays_so() -> None:
    weight = torch.tensor([[1.0, math.nan], [-math.inf, 0.0], [3.0, 4.0]])
    np.testing.assert_equal(measured("weight_norm", layer_of(weight), weight=weight), [math.nan, math.inf, 5.0])
