from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.interventions import compact, initialize, model_pruning, prune_neurons, recycle
from lightning_neurohealth.interventions.sample import call, sample_for
from tests.interventions.cuttable import MLP, gone
from tests.interventions.state import state
from tests.training import Learner


class Two(nn.Module):
    """Takes what nobody can make up."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.fc(x) * mask


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(11, 6), nn.GRU(6, 5, batch_first=True), nn.Linear(5, 11)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids))[0])


class TestSampleFor:
    def test_is_what_was_given(self) -> None:
        given = {"x": torch.ones(3, 4)}
        assert sample_for(MLP(), given) is given

    @pytest.mark.parametrize(
        ("make", "shape"),
        [
            (MLP, (8, 4)),
            (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 62 * 62, 2)), (2, 3, 64, 64)),
            (lambda: nn.Sequential(nn.Conv1d(5, 4, 3), nn.ReLU()), (2, 5, 32)),
            (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (8, 8)),
            (Recurrent, (2, 8)),
            (lambda: MLP().double(), (8, 4)),
        ],
    )
    def test_is_made_up_for_the_first_layer(self, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
        model = make().train()
        before = state(model)
        found = sample_for(model)
        assert found.shape == shape
        assert state(model) == before
        call(model, found)

    def test_is_the_example_of_a_lightning_module(self) -> None:
        learner = Learner(MLP())
        learner.example_input_array = torch.ones(5, 4)
        assert torch.equal(sample_for(learner), torch.ones(5, 4))

    def test_an_example_that_does_not_fit_is_passed_over(self) -> None:
        learner = Learner(MLP())
        learner.example_input_array = torch.ones(5, 3)
        assert sample_for(learner).shape == (8, 4)

    def test_says_so_where_nothing_fits(self) -> None:
        with pytest.raises(ValueError, match="Two runs on no input that was made up for it; pass sample="):
            sample_for(Two())

    def test_all_that_look_at_a_model_do_without(self) -> None:
        model = MLP()
        assert initialize(model).chosen == {"0": "he", "2": "xavier", "4": "lecun"}
        assert compact(model, {"0": gone(6, 1)}).removed == {"0": 1}
        assert recycle(model, {"0": [1]}) == 1
        assert prune_neurons(model, {"0": gone(6, 1)}) == {}

    @pytest.mark.parametrize("act", [compact, prune_neurons, model_pruning])
    @pytest.mark.parametrize(
        ("sample", "words"), [(torch.ones(0, 4), "has no row"), (torch.ones(3, 9), "does not run on the sample")]
    )
    def test_a_sample_that_does_not_fit_is_refused(self, act: Any, sample: Tensor, words: str) -> None:
        model = MLP()
        before = state(model)
        with pytest.raises(ValueError, match=words):
            act(model, {"0": gone(6, 1)}, sample)
        assert state(model) == before

    @pytest.mark.parametrize(
        "act", [initialize, lambda m: compact(m, {}), lambda m: recycle(m, {}), lambda m: prune_neurons(m, {})]
    )
    def test_the_model_is_checked_first(self, act: Any) -> None:
        with pytest.raises(ValueError, match="several devices"):
            act(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3, device="meta")))
