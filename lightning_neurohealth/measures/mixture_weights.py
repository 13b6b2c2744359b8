"""What a learned mixture of activations is made of."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.shares import Shares


class MixtureWeights(Measure):
    """Share of each function in a layer's learned mixture at the end of the window, ``[functions]`` in the order of
    their names in the activation, adding up to 1: softmax(w).

    All equal at the start. One near 1: the mixture has chosen; if that is the identity, the layer has become linear.

    Source: advanced activation techniques (S4).
    """

    percent = True

    def compute(self, mixture: Shares) -> Tensor:
        return mixture.shares
