"""Which neurons know when the model is right."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class OutputCorrelation(Measure):
    """(E(a | right) − E(a | wrong)) / standard deviation of a over both, ``[neurons]``, in standard deviations; a is
    the mean over space and time of each sample; of large tensors, of some samples and over some places, as `max_rows`
    says. 0 for a neuron that gives a constant.

    Above 0: the neuron is more active where the model is right, below 0 where it is wrong; within a few tenths of 0,
    and with few wrong samples of one, it does not tell. Labels come from the batch ``(inputs, labels)`` or from the
    step, predictions from the step or the output layer; only for one class a sample.

    Source: neuron and layer fitness (S3), whose difference is in units of the activation.
    """

    level = "full"

    def compute(self, right_activation: Moments, wrong_activation: Moments) -> Tensor:
        right = right_activation.rows / (right_activation.rows + wrong_activation.rows)
        wrong = 1 - right
        apart = right_activation.mean - wrong_activation.mean
        within = right * right_activation.variance + wrong * wrong_activation.variance
        return torch.where(apart == 0, 0.0, apart / (within + right * wrong * apart**2).sqrt())
