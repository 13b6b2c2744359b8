"""How much a neuron has to say."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.histogram import Histogram


class ActivationEntropy(Measure):
    """−Σ p log₂ p over fixed bins of a, ``[neurons]``, in bits; p is the share of the window's rows in a bin, NaN left
    out. NaN for a neuron that was never anything else.

    0: the neuron always falls into one bin, it says the same whatever it sees. Bins are 64 equal ones for activations
    with two bounds and half octaves around 0 for others, so a spread of less than a fifth of a large mean may read as
    0. Over few rows it is too low: at most log₂(rows).

    Sources: neuron health summary (S0), neuron fitness (S3).
    """

    level = "full"

    def compute(self, activation: Histogram) -> Tensor:
        return entropy(activation.counts)


def entropy(counts: Tensor) -> Tensor:
    """Entropy in bits over the last axis."""
    shares = counts / counts.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1) / math.log(2)
