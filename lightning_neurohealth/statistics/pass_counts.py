"""How often a gradient gets through to a neuron."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.statistics.base import Partials, Statistic, Subject, total


class PassCounts(Statistic):
    """Rows on which a neuron's gradient is not zero, and rows on which some neuron's of the layer is not."""

    passed: Tensor
    live: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("passed", "sum")
        self.state("live", "sum", ())

    def reduce(self, x: Tensor) -> Partials:
        passed = x != 0
        return {"passed": total(passed), "live": passed.any(dim=1).sum()}
