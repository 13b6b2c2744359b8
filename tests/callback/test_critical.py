"""What a critical finding does to a run."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_neurohealth import CriticalFindingError, Severity
from tests.callback.alarm import Alarm
from tests.training import MLP, Learner, make_data, make_health, make_trainer, traces


@pytest.mark.parametrize("window", [3, "epoch"])
def test_on_critical_stop(window: Any) -> None:
    health = make_health(on_critical="stop", rules=[Alarm()], window=window)
    trainer = make_trainer(health, max_epochs=5)
    trainer.fit(Learner(MLP()), make_data())
    assert trainer.global_step == (3 if window == 3 else 4)
    assert health.report.severity is Severity.CRITICAL
    assert trainer.state.finished


@pytest.mark.parametrize("window", [3, "epoch", 100])
def test_on_critical_raise(window: Any) -> None:
    health = make_health(on_critical="raise", rules=[Alarm()], window=window)
    model = Learner(MLP())
    before = traces(model)
    with pytest.raises(CriticalFindingError, match="it is bad"):
        make_trainer(health).fit(model, make_data())
    assert [r.severity for r in health.reports] == [Severity.CRITICAL]
    assert traces(model) == before


def test_on_critical_warn() -> None:
    health = make_health(on_critical="warn", rules=[Alarm()])
    trainer = make_trainer(health, max_epochs=3)
    trainer.fit(Learner(MLP()), make_data())
    assert trainer.global_step == 12
    assert [r.severity for r in health.reports] == [Severity.CRITICAL] * 3
