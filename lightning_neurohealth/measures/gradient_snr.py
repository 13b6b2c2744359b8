"""How much of a gradient is signal."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.statistics.sampled_moments import SampledMoments


class GradientSnr(Measure):
    """T · ‖mean g‖² / Var g over the T measured steps of the window, one number a parameter (a layer shows its
    weight's), no unit; g are sampled elements of the parameter's gradient, Var g the sum of their unbiased variances.

    1: noise, steps that agree no more than chance would have them. Below 1: each step undoes the one before. It grows
    with T where there is a signal: 1 + T times the signal's share of the noise. NaN with fewer than two steps, and
    where the gradient was 0; infinite where it never changed.

    Source: technical deep dive (S2), whose mean |g| / std |g| over elements is 1.32 for pure noise, whatever the steps.
    """

    def compute(self, gradient_sample: SampledMoments, subject: Parameters) -> Tensor:
        signal = subject.samples.by_tensor(gradient_sample.mean**2)
        return gradient_sample.steps * signal / subject.samples.by_tensor(gradient_sample.variance)
