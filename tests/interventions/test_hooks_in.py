"""What NeuronHealth offers of the interventions by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.interventions import fitness
from tests.training import Learner, make_data, make_health, make_trainer


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def fitted(health: NeuronHealth, model: Learner | None = None, **options: Any) -> Learner:
    learner = model or Learner(net())
    make_trainer(health, **options).fit(learner, make_data())
    return learner


class TestFitness:
    def test_is_that_of_the_last_report(self) -> None:
        health = make_health(measures="full")
        fitted(health, max_epochs=2)
        found, expected = health.fitness(), fitness(health.reports[1], "taylor")
        assert list(found) == ["net.0", "net.2"]
        assert torch.equal(found["net.0"], expected["net.0"])
        weights = {"weight": 1.0, "gradient": 0.0, "activation": 0.0}
        assert float(health.fitness("composite", **weights)["net.0"].max()) == pytest.approx(1.0)

    def test_needs_a_report_with_the_measure(self) -> None:
        health = make_health()
        with pytest.raises(ValueError, match="no window has closed"):
            health.fitness()
        fitted(health)
        with pytest.raises(ValueError, match="ask for it with measures=\\['standard', 'taylor'\\]"):
            health.fitness()


class TestPreflight:
    def test_looks_once_and_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        health = make_health(preflight=True)
        fitted(health, max_epochs=2, accumulate_grad_batches=2)
        assert health.birth is not None
        assert list(health.birth.layers) == ["net.0", "net.2"]
        assert capsys.readouterr().out.count("initial loss") == 1

    def test_training_is_untouched(self) -> None:
        learners = [fitted(make_health(preflight=wanted)) for wanted in (True, False)]
        for a, b in zip(*(learner.parameters() for learner in learners), strict=True):
            assert torch.equal(a, b)

    def test_ranks_look_together(self) -> None:
        fitted(make_health(preflight=True), devices=2, strategy="ddp_fork")

    def test_nothing_of_it_ends_a_run(self) -> None:
        class Manual(Learner):
            def __init__(self) -> None:
                super().__init__(net())
                self.automatic_optimization = False

            def training_step(self, batch: Any, batch_idx: int) -> None:
                self.losses.append(0.0)

        health = make_health(preflight=True)
        with pytest.warns(RuntimeWarning, match="no preflight; training goes on: ValueError"):
            learner = fitted(health, Manual())
        assert len(learner.losses) == 4
        assert health.birth is None

    def test_bad_setting(self) -> None:
        with pytest.raises(TypeError, match="preflight='yes'"):
            NeuronHealth(preflight="yes")  # type: ignore[arg-type]
