"""How far a parameter has moved."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.statistics.magnitude import Magnitude


class ParameterChange(Measure):
    """Size of the change of up to 1,024 sampled elements since the window before, one number a parameter, in units of
    the parameter; infinite in the first window.

    0: the optimizer does not move it, or the type is too coarse for its updates.

    Source: neuron fitness (S3), "weight change rate".
    """

    def compute(self, parameter_change: Magnitude) -> Tensor:
        return parameter_change.sums / parameter_change.rows
