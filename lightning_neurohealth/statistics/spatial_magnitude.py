"""Size of what a neuron does to a sample, over all of its places."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class SpatialMagnitude(Statistic):
    """Σ \\|Σ over space of x\\| over samples, and the number of samples.

    Samples are the outer axis, space is the inner one; where the neurons lie last, every row is a sample.
    """

    sums: Tensor
    samples: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.state("sums", "sum")
        self.state("samples", "sum", ())

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.x.double().sum(2).abs().sum(0), "samples": rows.x.shape[0]}

    def native_sums(self) -> dict[str, Sum]:
        return {"rows": ROWS, "sums": Sum(What.SPATIAL), "samples": Sum(What.SAMPLES)}
