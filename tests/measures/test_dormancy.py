"""dormancy: E abs(a_i) / mean over neurons of E abs(a)."""

import numpy as np
import torch

from tests.measures.harness import Batches, assert_close, compute


def test_share_of_the_average_neuron(batches: Batches) -> None:
    magnitude = np.abs(batches.rows).mean(0)
    assert_close(compute("dormancy", batches), magnitude / magnitude.mean())


def test_silent_neuron_and_silent_layer() -> None:
    batch = torch.tensor([[0.0, 1.0, -3.0], [0.0, 1.0, 1.0]])
    assert compute("dormancy", Batches((batch,))).tolist() == [0, 1, 2]
    assert compute("dormancy", Batches((batch * 0,))).tolist() == [0, 0, 0]
