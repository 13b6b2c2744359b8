"""Gradients are those of the whole batch, before clipping."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from tests.callback.numbers import gradient_numbers
from tests.training import MLP, fit, make_data


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    def numbers(batch: int, accumulate: int) -> dict[str, Tensor]:
        data = make_data(rows=64, batch=batch, dtype=torch.float64)
        return gradient_numbers(MLP().double(), data, accumulate_grad_batches=accumulate)

    torch.testing.assert_close(numbers(8, 2), numbers(16, 1), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradient_norms_are_those_before_clipping(algorithm: str) -> None:
    plain = gradient_numbers(MLP(), make_data())
    clipped = gradient_numbers(MLP(), make_data(), gradient_clip_val=1e-4, gradient_clip_algorithm=algorithm)
    torch.testing.assert_close(clipped, plain, rtol=0.0, atol=0.0)


def test_gradient_of_a_sparse_embedding_is_seen() -> None:
    class Words(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.head(self.words(torch.arange(4))).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    report = fit(Words(), make_data(rows=240)).report
    assert float(report.parameters["words.weight"]["gradient_norm"]) > 0
    assert "no_gradient" not in {f.condition for f in report.findings}
