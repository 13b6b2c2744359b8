"""Size of the activation."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.magnitude import Magnitude


class ActivationMagnitude(Measure):
    """E |a| over the rows of the window, ``[neurons]``, in units of the activation.

    Near 0: silent.

    Sources: activation monitoring (S1), neuron fitness (S3).
    """

    def compute(self, activation: Magnitude) -> Tensor:
        return activation.sums / activation.rows
