"""Biases, where the activation is of a kind that they say something about."""

from __future__ import annotations

import math

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Subject
from lightning_neurohealth.statistics.moments import Moments


class SmoothBias(Moments):
    """Moments, only for layers with an activation that is nowhere exactly flat."""

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and not subject.function.linear and not subject.function.dead_values


class TailedBias(Moments):
    """Moments, only for layers with an activation that has a tail on some side."""

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and subject.function.tails != (-math.inf, math.inf)
