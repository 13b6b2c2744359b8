"""Nothing of ours ends a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from lightning_neurohealth import Report
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import LayerRule
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.sinks import Sink
from tests.callback.alarm import Alarm
from tests.training import MLP, Functional, Learner, at_each_signal, fit, make_data, make_health, make_trainer, traces


def our_warning(run: Callable[[], object]) -> str:
    """The one warning of NeuronHealth that ``run`` gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    messages = [str(w.message) for w in caught if "NeuronHealth" in str(w.message)]
    assert len(messages) == 1
    assert issubclass(next(w.category for w in caught if str(w.message) == messages[0]), RuntimeWarning)
    return messages[0]


class Broken(Sink):
    """Raises in one of its methods."""

    def __init__(self, where: str) -> None:
        self.where, self.calls = where, []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.where:
            raise OSError("disk full")

    def open(self, place: Any) -> None:
        self._call("open")

    def write(self, report: Report, step: int) -> None:
        self._call("write")

    def close(self, report: Report | None) -> None:
        self._call("close")


@pytest.mark.parametrize("where", ["open", "write", "close"])
def test_a_broken_sink_is_named_once(where: str) -> None:
    broken, sound = Broken(where), Broken("nowhere")
    health = make_health(sinks=[broken, sound])
    trainer = make_trainer(health, max_epochs=3)
    message = our_warning(lambda: trainer.fit(Learner(MLP()), make_data()))
    assert "Broken failed" in message
    assert "disk full" in message
    assert trainer.global_step == 12
    assert sound.calls == ["open", "write", "write", "write", "close"]
    assert broken.calls.count(where) == 1
    assert len(health.reports) == 3


@dataclass(frozen=True, kw_only=True)
class BrokenRule(LayerRule):
    """Raises."""

    grace: int = 0

    def judge(self, on_rate: Tensor) -> None:
        raise ZeroDivisionError("in a rule")


def test_a_broken_rule_is_named_once() -> None:
    health = make_health(rules=[BrokenRule(), Alarm()])
    message = our_warning(lambda: fit(MLP(), health=health, max_epochs=3))
    assert "broken_rule failed" in message
    assert "in a rule" in health.report.not_judged["broken_rule"]
    assert [r.findings[0].condition for r in health.reports] == ["alarm"] * 3


def fails_at(signal: Signal) -> Callable[[pytest.MonkeyPatch], None]:
    def broken(step: int, taken: Signal) -> None:
        if taken is signal:
            raise RuntimeError("of ours")

    return lambda patch: at_each_signal(patch, broken)


def fails(owner: type, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("of ours")

    return lambda patch: patch.setattr(owner, name, broken)


FAULTS = {
    "a forward hook": fails_at(Signal.ACTIVATION),
    "a backward hook": fails_at(Signal.ACTIVATION_GRADIENT),
    "adding up": fails(Ledger, "commit"),
    "reading gradients": fails(Parameters, "gradient_norms"),
    "agreeing": fails(Ledger, "agree"),
    "closing a window": fails(Ledger, "merged"),
    "sampling parameters": fails(Parameters, "norms"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_ours_switches_us_off(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch)
    model, health = Learner(Functional()), make_health()
    before, trainer = traces(model), make_trainer(health, max_epochs=2)
    message = our_warning(lambda: trainer.fit(model, make_data()))
    assert "of ours" in message
    assert trainer.global_step == 8
    assert traces(model) == before


def test_a_fault_in_a_measure_leaves_the_others() -> None:
    from lightning_neurohealth.measures.on_rate import OnRate

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnRate, "compute", lambda self, activation: 1 / 0)
        health = fit(MLP())
    assert "on_rate" not in health.report["net.fc1"]
    assert "zero_rate" in health.report["net.fc1"]
    assert "division by zero" in health.report.coverage.missed["on_rate"]
