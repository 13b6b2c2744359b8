"""The example that compares activations, in a short form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.test_cli import example


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory):
    module = example("compare_activations")
    picture = tmp_path_factory.mktemp("example") / "out.png"
    results = module.main(["--depth", "8", "--width", "32", "--steps", "12", "--picture", str(picture)])
    return module, {(r.activation, r.initialisation): r for r in results}, picture


class TestCompareActivations:
    def test_every_activation_with_both_initialisations(self, study) -> None:
        module, results, picture = study
        assert set(results) == {(a, i) for a in module.ACTIVATIONS for i in module.INITIALISATIONS}
        assert Path(picture).read_bytes()[:4] == b"\x89PNG"

    def test_gradients_reach_the_input_with_the_matched_initialisation(self, study) -> None:
        _, results, _ = study
        for activation in ("ReLU", "LeakyReLU", "tanh", "GELU"):
            default, matched = (results[activation, i].input_gradient for i in ("default", "matched"))
            assert matched > 20 * default
        assert results["sigmoid", "matched"].input_gradient < 1e-4
        assert not results["ReLU", "default"].before.healthy
        assert results["ReLU", "matched"].before.healthy

    def test_input_gradient_is_that_of_autograd(self, study) -> None:
        module, results, _ = study
        images, labels = module.data()
        torch.manual_seed(0)
        net = nn.Sequential(
            *(m for i in range(8) for m in (nn.Linear(32 if i else 64, 32), nn.Tanh())), nn.Linear(32, 10)
        )
        x = images[:256].clone().requires_grad_()
        F.cross_entropy(net(x), labels[:256]).backward()
        assert x.grad is not None
        np.testing.assert_allclose(results["tanh", "default"].input_gradient, x.grad.norm().item(), rtol=1e-4)
