"""Findings of a run, its score, and what loggers get of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from lightning_neurohealth import Finding, Severity
from lightning_neurohealth.rules.base import RunRule, Verdict
from lightning_neurohealth.sinks import Loggers
from tests.training import MLP, Learner, fit, make_data, make_health, make_trainer


def alarms(*severities: Severity) -> list[RunRule]:
    """Rules named alarm0, alarm1, … of the given severities that always speak."""

    def rule(index: int, severity: Severity) -> RunRule:
        def judge(self: RunRule, train_loss: Tensor) -> list[Verdict]:
            return [Verdict(severity, 1.0, 0.5, f"message {index}", "cause", "remedy", immediate=True)]

        kind = type(f"Alarm{index}", (RunRule,), {"judge": judge})
        return dataclass(frozen=True, kw_only=True)(kind)(grace=0)

    return [rule(index, severity) for index, severity in enumerate(severities)]


def test_findings_are_sorted_and_since_is_kept() -> None:
    warning, serious, critical = Severity.WARNING, Severity.SERIOUS, Severity.CRITICAL
    health = fit(MLP(), rules=alarms(warning, critical, serious), max_epochs=3)
    for report in health.reports:
        assert [f.severity for f in report.findings] == [critical, serious, warning]
        assert all(isinstance(f, Finding) for f in report.findings)
        assert {f.since for f in report.findings} == {(0, 4)}
        assert report.severity is critical
    assert health.report.findings[0].condition == "alarm1"
    assert "message 1" in str(health.report)


@pytest.mark.parametrize(
    ("severities", "score"),
    [((), 1.0), ((Severity.WARNING,), 2 / 3), ((Severity.WARNING, Severity.CRITICAL), 0.0)],
)
def test_score(severities: tuple[Severity, ...], score: float) -> None:
    assert fit(MLP(), rules=alarms(*severities)).report.score == pytest.approx(score)


def test_score_and_conditions_can_be_monitored() -> None:
    health = make_health(rules=alarms(Severity.WARNING))
    trainer = make_trainer(health)
    trainer.fit(Learner(MLP()), make_data())
    metrics = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("neurohealth/")}
    assert metrics == pytest.approx({"neurohealth/score": 2 / 3, "neurohealth/alarm0": 1.0})


class Memory(DummyLogger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.points.setdefault(name, []).append((step, float(value)))


@pytest.mark.parametrize("window", ["epoch", 2])
def test_a_logger_gets_few_keys_at_lightnings_steps(window: Any) -> None:
    logger = Memory()
    rules = alarms(*[Severity.WARNING] * 30)
    fit(MLP(), rules=rules, sinks=[Loggers()], logger=logger, window=window, max_epochs=2, log_every_n_steps=1)
    ours = {name: points for name, points in logger.points.items() if name.startswith("neurohealth/")}
    assert 1 < len(ours) <= 11
    steps = [step for step, _ in ours["neurohealth/score"]]
    assert steps == ([3, 7] if window == "epoch" else [1, 3, 5, 7])
    assert set(steps) <= {step for step, _ in logger.points["train_loss"]}
