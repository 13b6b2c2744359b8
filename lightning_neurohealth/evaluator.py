"""Measures a model that is not trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lightning_neurohealth import ranks
from lightning_neurohealth.closing import close_window
from lightning_neurohealth.intake import Intake
from lightning_neurohealth.layers import Subject
from lightning_neurohealth.monitor import Monitor
from lightning_neurohealth.progress import Progress
from lightning_neurohealth.report import Report
from lightning_neurohealth.settings import Settings
from lightning_neurohealth.sharding import Part
from lightning_neurohealth.signals import Signal

FORWARD = {Signal.ACTIVATION, Signal.PREACTIVATION}
"""What there is without a backward pass."""


@dataclass
class Trained(Progress):
    """Of a model that is evaluated nobody knows how its loss went: it has the benefit of the doubt."""

    @property
    def learning(self) -> bool:
        """What is only statistical is a WARNING at most."""
        return True


class OfForwards(Intake):
    """Takes signals in inference mode too, whose tensors cannot be added to later."""

    def take(
        self, subject: Subject, signal: Signal, x: Tensor, part: Part | None = None, some: Tensor | None = None
    ) -> None:
        with torch.inference_mode(False), torch.no_grad():
            super().take(subject, signal, x, part, some)


class Evaluator(Monitor):
    """Watches forwards alone."""

    intake_type = OfForwards

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        self._setup(model, settings, hook_root=False)
        self.progress, self.taps.backward = Trained(), False

    def finish(self, epoch: int, step: int) -> Report | None:
        """The report of all batches, the same on ranks that had none; ``None`` if nobody had one."""
        most = ranks.all_reduce(torch.tensor([self.steps], dtype=torch.float64, device=self.run.device), "max")
        self.steps = self.measured = int(most)
        if not self.steps:
            return None
        return close_window(self, epoch, step, float("nan"), last=True, alone=False)


def of_forwards(settings: Settings) -> Settings:
    """Those of the measures and rules that need no backward pass; every batch is measured.

    Raises:
        ValueError: There is no such measure.
    """
    known = settings.chosen_measures.items()
    measures = [name for name, m in known if set(m.needs) | set(m.of_next) <= FORWARD]
    if not measures:
        raise ValueError(f"evaluate=True: none of the measures {', '.join(settings.chosen_measures)} is of activations")
    rules = [
        rule
        for rule in settings.chosen_rules
        if all(optional or name in measures for name, optional in rule.needs.items())
    ]
    return replace(settings, every_n_steps=1, window="epoch", measures=measures, rules=rules, max_overhead=None)
