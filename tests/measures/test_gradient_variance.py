"""gradient_variance: population variance of g over rows and neurons together."""

import numpy as np

from tests.measures.harness import Batches, assert_close, compute


def test_variance_of_all_elements(batches: Batches) -> None:
    elements = np.concatenate([np.asarray(tensor.double()).ravel() for tensor in batches.tensors])
    assert_close(compute("gradient_variance", batches), np.mean((elements - elements.mean()) ** 2), rtol=1e-9)
