"""Sums from which the signal and the noise of sampled elements follow."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class SampledMoments(Statistic):
    """Σx and Σx² over steps of each sampled element, and the number of steps.

    Ranks that train together have the same gradient at the end of a step: each counts for its share of one, so that
    many ranks do not pass for many steps.
    """

    sums: Tensor
    squares: Tensor
    steps: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        owners = getattr(subject, "sample_owners", None)
        samples = (subject.neurons if owners is None else len(owners),)
        self.state("sums", "sum", samples)
        self.state("squares", "sum", samples)
        self.state("steps", "sum", ())

    def reduce(self, rows: Rows) -> Partials:
        x, share = rows.x.double(), _share()
        steps = x.new_full((), rows.count * share)
        return {"sums": x.sum((0, 2)) * share, "squares": (x * x).sum((0, 2)) * share, "steps": steps}

    def native_sums(self) -> dict[str, Sum]:
        share = _share()
        of_each = {"sums": Sum(What.SUM, weight=share), "squares": Sum(What.SQUARE, weight=share)}
        return {"rows": ROWS, "steps": Sum(What.ROWS, weight=share), **of_each}

    @property
    def mean(self) -> Tensor:
        """Mean over steps, ``[samples]``."""
        return self.sums / self.steps

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over steps, ``[samples]``; NaN with fewer than two."""
        if self.steps < 1.5:  # shares of ranks need not add up to a whole number
            return self.sums * float("nan")
        return (self.squares - self.sums**2 / self.steps).clamp_min(0.0) / (self.steps - 1)


def _share() -> float:
    return 1.0 / (dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1)
