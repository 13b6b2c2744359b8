"""How far a step moves a parameter."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.known_mean import KnownMean


class UpdateRatio(Measure):
    """Mean over measured steps of ‖ΔW‖ / ‖W‖, one number a parameter (a layer shows its weight's), no unit, from
    sampled elements; steps that began with W = 0 are left out, NaN where all did.

    About 1e-3 is common; 0: the parameter stands still; above 0.1: a few steps replace it.

    Source: technical deep dive (S2), whose band from 1e-3 to 1e-2 holds on a third of a healthy GPT-2's steps.
    """

    over_run = "median"

    def compute(self, update: KnownMean) -> Tensor:
        return update.mean
