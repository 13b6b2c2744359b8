"""gradient_rms: root mean square over the elements of a parameter and over steps."""

import numpy as np
import torch

from tests.measures.harness import assert_close, compute, parameters, series


def test_root_mean_square_of_all_elements_of_all_steps() -> None:
    subject = parameters()
    generator = torch.Generator().manual_seed(0)
    steps = [[torch.randn(p.shape, generator=generator).double() for p in subject.tensors] for _ in range(3)]
    norms = series([[gradient.norm().item() for gradient in gradients] for gradients in steps])
    elements = [np.concatenate([np.ravel(g) for g in gradients]) for gradients in zip(*steps, strict=True)]
    assert_close(compute("gradient_rms", norms, subject), [np.sqrt(np.mean(e**2)) for e in elements])
