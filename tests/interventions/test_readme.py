"""What the README says about cures, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelPruning
from torch import nn

from lightning_neurohealth import NeuronHealth
from tests.training import Validated, make_data, make_health, make_trainer

README = Path(__file__).parents[2] / "README.md"


def test_cures(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"## Cure it\n.*?```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    torch.manual_seed(0)
    model = Validated(nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 1)))
    health = make_health(measures="full")
    trainer = make_trainer(health)
    trainer.fit(model, make_data(), make_data())
    batch = next(iter(make_data()))
    known = {"nn": nn, "model": model, "batch": batch, "trainer": trainer, "health": health}
    exec(code, {**known, "Trainer": Trainer, "NeuronHealth": NeuronHealth, "ModelPruning": ModelPruning})
    assert isinstance(model.net[1], nn.LeakyReLU)
    assert (model.net[0].weight.detach() == 0).all(1).sum() == 1
    assert "1 neurons of 1 layers taken out" in capsys.readouterr().out
