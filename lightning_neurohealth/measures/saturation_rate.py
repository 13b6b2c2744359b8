"""How often a neuron is stuck at an end of its range."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.measures.base import Measure
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.bound_counts import BoundCounts, bound_counts


class SaturationRate(Measure):
    """P(a within the cut-off of a bound of f, either bound), ``[neurons]``, a share; only for activations with a
    bound. With a cut-off of c: |a| ≥ c for tanh, a ≤ 1 − c or a ≥ c for sigmoid; the bound itself, whatever the
    cut-off, for ReLU6 and the hard functions. A flat end at exactly 0 is a dead zone and counts in ``zero_rate``
    instead. c is 0.99, or what ``NeuronHealth(saturation_cutoff=0.9)`` says; the report says which it was.

    Near 1: the neuron passes no gradient. 0.3 to 0.7 is common in healthy tanh networks at a cut-off of 0.9, where the
    slope is still 0.19 of its largest; at 0.99 it is 0.02. Rules read what is counted at 0.99, for which they are made.

    Sources: activation monitoring (S1), technical deep dive (S2), Glorot and Bengio (2010).
    """

    level = "economy"
    percent = True

    def compute(self, activation: BoundCounts) -> Tensor:
        return (activation.low + activation.high) / activation.rows

    @classmethod
    def at(cls, cutoff: float) -> SaturationRate:
        """The measure with another cut-off than 0.99."""
        measure, kind = cls(), bound_counts(cutoff)
        vars(measure).update(needs={Signal.ACTIVATION: kind}, asks=(("activation", Signal.ACTIVATION, kind),))
        return measure
