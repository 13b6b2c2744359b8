"""Spread of a layer's weights beside what its activation asks for."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class InitScale(Measure):
    """std(W) over all weights of a layer / standard deviation that keeps variances, a scalar, no unit. That is
    gain / √fan-in (He for ReLU and its like, LeCun for SELU and for no activation) or gain · √(2 / (fan-in + fan-out))
    (Xavier for tanh and sigmoid), with the gain of the activation; fans count the kernel's area.

    1 is ideal at the start. torch's own default for Linear and convolutions is 0.41 for a ReLU; far from 1 it is the
    activations' scale along the depth that tells whether it hurts. Later it shows how weights grow.

    Sources: technical deep dive (S2), advanced activation techniques (S4), He et al. (2015), Glorot and Bengio (2010),
    LeCun et al. (1998).
    """

    def compute(self, weight: Moments, subject: Layer) -> Tensor:
        function = subject.function
        fan = (subject.fan_in + subject.fan_out) / 2 if function.init == "xavier" else subject.fan_in
        return weight.pooled_variance.sqrt() * math.sqrt(fan) / function.gain
