"""What stands against a cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from lightning_neurohealth.interventions import CannotCutError, compact
from tests.interventions.cuttable import (
    IMAGES,
    MLP,
    SEQUENCE,
    X4,
    Block,
    Gated,
    HardCoded,
    ReadTwice,
    Recurrent,
    ResNet,
    Scaled,
    Tied,
    Twice,
    Unseen,
    gone,
)
from tests.interventions.state import state


class TestObstacles:
    @pytest.mark.parametrize(
        ("make", "x", "layer", "neurons", "words"),
        [
            (ResNet, IMAGES, "stem", 6, "part of a sum, as in a residual connection"),
            (ResNet, IMAGES, "conv2", 6, "part of a sum"),
            (lambda: Block(nn.Linear(8, 16), nn.Linear(16, 8)), SEQUENCE, "fc2", 8, "part of a sum"),
            (MLP, X4, "4", 3, "gives it to the user"),
            (lambda: Tied(), X4, "fc1", 4, "tied to those of fc2"),
            (lambda: Tied(), X4, "fc0", 4, "reader fc1: its weights are tied"),
            (lambda: Twice(), X4, "fc", 4, "runs 2 times in one forward"),
            (lambda: Scaled(), X4, "fc", 6, "mul reads it"),
            (lambda: Gated(residual=True), X4, "gate", 6, "up, which goes with it: it is part of a sum"),
            (lambda: ReadTwice(), X4, "fc1", 4, "its reader out: it runs 2 times"),
            (
                lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1, groups=3)),
                IMAGES,
                "0",
                6,
                "1 reads it in groups",
            ),
            (
                lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1, groups=6)),
                IMAGES,
                "0",
                6,
                "1, which goes with it: the model gives it to the user",
            ),
            (
                lambda: nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 2, 1)),
                IMAGES,
                "0",
                3,
                "read their inputs in groups",
            ),
            (
                lambda: nn.Sequential(nn.Conv2d(6, 6, 1, groups=2), nn.Conv2d(6, 6, 1)),
                torch.randn(2, 6, 4, 4),
                "0",
                6,
                "read their inputs in groups",
            ),
            (
                lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)),
                X4,
                "0",
                6,
                "layer_norm in 1 reads it",
            ),
            (
                lambda: nn.Sequential(nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 2)),
                X4,
                "0",
                6,
                "softmax in 1 reads it",
            ),
            (
                lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6)), nn.Linear(6, 2)),
                X4,
                "0",
                6,
                "parametrized",
            ),
            (lambda: Recurrent(), SEQUENCE, "rnn", 6, "cannot be taken out of a RNN"),
            (lambda: Unseen(), X4, "fc", 6, "nothing was seen to read it"),
            (lambda: HardCoded(), X4, "fc", 6, "the narrower copy fails"),
        ],
    )
    def test_refuses_what_is_not_safe(self, make: Any, x: Any, layer: str, neurons: int, words: str) -> None:
        model, masks = make(), {layer: gone(neurons, 0)}
        before = state(model)
        with pytest.raises(CannotCutError, match=words):
            compact(model, masks, x)
        assert state(model) == before
