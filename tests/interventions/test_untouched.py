"""An ablation leaves the model as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth.interventions import ablate
from tests.interventions.classified import classes, conv_net, mlp
from tests.interventions.state import state


class TestUntouched:
    @pytest.mark.parametrize("training", [True, False])
    def test_leaves_everything_as_it_was(self, training: bool) -> None:
        model = conv_net().train(training)
        model[3].eval()
        x = torch.randn(8, 2, 5, 5)
        model(x).sum().backward()
        before = state(model)
        ablate(model, DataLoader(TensorDataset(x, torch.zeros(8).long()), 4, shuffle=True), progress=False)
        assert state(model) == before

    def test_puts_back_buffers_that_a_forward_replaces(self) -> None:
        class Averaged(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = mlp()
                self.register_buffer("mean", torch.zeros(4))
                self.register_buffer("last", None)

            def forward(self, x: Tensor) -> Tensor:
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
                self.last = x
                return self.net(x)

        model = Averaged()
        mean = model.mean
        ablate(model, classes(), neurons=1, progress=False)
        assert model.mean is mean
        assert (mean == 0).all()
        assert model.last is None

    def test_restores_after_an_error(self) -> None:
        model, calls = conv_net(), iter(range(3))

        def failing(model: nn.Module, batch: Any) -> Tensor:
            next(calls)
            model.train()
            return F.cross_entropy(model(batch[0]), batch[1])

        before = state(model)
        with pytest.raises(StopIteration):
            ablate(model, classes((2, 5, 5)), step=failing, progress=False)
        assert state(model) == before
