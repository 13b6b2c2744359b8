"""How often a neuron would be in the tails of its activation, going by its weights alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import ndtr

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.measures.weight_norm import norm
from lightning_neurohealth.statistics.biases import TailedBias
from lightning_neurohealth.statistics.moments import Moments


class PreactivationPrior(Measure):
    """P(z beyond the tails of f) for z ~ N(b, ‖w‖²), ``[neurons]``, a share; the tails are those of ``tail_rate``. Only
    for layers with a bias. A neuron without weights has z = b.

    What ``tail_rate`` would be if all inputs were independent of variance 1 around 0; near 1: likely saturated. About
    0.5 for a ReLU, whose tail begins at 0. Left out where a norm stands between weight and activation.

    Source: neuron health summary (S0), "pre-activation prior".
    """

    level = "full"
    percent = True

    def compute(self, weight: Moments, bias: TailedBias, subject: Layer) -> Tensor:
        (low, high), b, spread = subject.function.tails, bias.mean, norm(weight, subject)
        beyond = ndtr((low - b) / spread) + ndtr((b - high) / spread)
        return torch.where(spread == 0, ((b <= low) | (b >= high)).double(), beyond)
