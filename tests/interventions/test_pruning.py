"""Masks that silence neurons as a cut does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelPruning
from torch import Tensor, nn
from torch.nn.utils import prune

from lightning_neurohealth.interventions import CannotCutError, compact, model_pruning, prune_neurons
from tests.interventions.cuttable import IMAGES, MLP, X4, ResNet, gone
from tests.interventions.state import state
from tests.training import Learner, make_data, make_trainer


class TestPruneNeurons:
    def test_silences_as_a_cut_does(self, case: tuple[nn.Module, Any, dict[str, Tensor]]) -> None:
        model, x, masks = case
        expected = compact(model, masks, x).model(x)
        assert prune_neurons(model, masks, x) == {}
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)

    def test_masks_both_sides(self) -> None:
        model = MLP()
        prune_neurons(model, {"0": gone(6, 1), "2": gone(5, 0, 4)}, X4)
        middle = model[2].weight_mask
        assert (model[0].weight[1].abs().sum(), model[0].bias[1]) == (0, 0)
        assert {tuple(rc) for rc in (middle == 0).nonzero().tolist()} == {
            (r, c) for r in range(5) for c in range(6) if r in (0, 4) or c == 1
        }
        assert (model[4].weight[:, [0, 4]] == 0).all()

    def test_stays_through_training(self) -> None:
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
        prune_neurons(net, {"0": gone(6, 1)}, X4)
        make_trainer().fit(Learner(net), make_data())
        assert net[0].weight[1].abs().sum() == 0
        assert net[0].weight[0].abs().sum() > 0

    def test_refuses_and_changes_nothing(self) -> None:
        model = ResNet()
        before = state(model)
        with pytest.raises(CannotCutError, match="stem: it is part of a sum"):
            prune_neurons(model, {"conv1": gone(5, 0), "stem": gone(6, 0)}, IMAGES)
        assert state(model) == before
        assert list(prune_neurons(model, {"conv1": gone(5, 0), "stem": gone(6, 0)}, IMAGES, skip=True)) == ["stem"]
        assert prune.is_pruned(model.conv1)
        assert not prune.is_pruned(model.stem)


class TestModelPruning:
    def test_prunes_in_a_fit(self) -> None:
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
        pruning = ModelPruning(**model_pruning(net, {"0": gone(6, 1, 4)}, X4))
        make_trainer(pruning, max_epochs=2).fit(Learner(net), make_data())
        assert net[0].weight[[1, 4]].abs().sum() == 0
        assert net[2].weight[:, [1, 4]].abs().sum() == 0
        assert (net[0].weight[[0, 2, 3, 5]] != 0).all()
