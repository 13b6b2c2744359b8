"""A rule that always finds something."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth import Severity
from lightning_neurohealth.rules.base import RunRule, Verdict


@dataclass(frozen=True, kw_only=True)
class Alarm(RunRule):
    """CRITICAL from the start."""

    windows: int = 1
    grace: int = 0

    def judge(self, train_loss: Tensor) -> list[Verdict]:
        return [Verdict(Severity.CRITICAL, 1.0, 0.5, "it is bad", "a test", "none")]
