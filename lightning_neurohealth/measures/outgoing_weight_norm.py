"""Size of a neuron's outgoing weights."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.moments import Moments


class OutgoingWeightNorm(Measure):
    """L2 norm of all weights by which other layers read the neuron at the end of the window, ``[neurons]``, in units of
    the weight; only for layers that another one reads directly, neuron by neuron. A residual sum or a product that
    reads the neuron too does not count.

    Near 0 beside the others of its layer: nobody listens to the neuron, whatever it says.

    Sources: neuron health summary (S0), neuron fitness (S3).
    """

    def compute(self, outgoing_weight: Moments) -> Tensor:
        return (outgoing_weight.squares / outgoing_weight.rows).sqrt()
