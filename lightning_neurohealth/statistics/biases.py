"""Biases, where the activation is of a kind that they say something about."""

from __future__ import annotations

import math

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.statistics.base import Subject
from lightning_neurohealth.statistics.moments import Moments


class DirectBias(Moments):
    """Moments, only for layers whose activation reads z = Wx + b itself: behind a norm, b says nothing of z."""

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and not subject.normalized


class SmoothBias(DirectBias):
    """Of these, only layers with an activation that is nowhere exactly flat."""

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        smooth = isinstance(subject, Layer) and not subject.function.linear and not subject.function.dead_values
        return smooth and super().applies(subject)


class TailedBias(DirectBias):
    """Of these, only layers with an activation that has a tail on some side."""

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        tailed = isinstance(subject, Layer) and subject.function.tails != (-math.inf, math.inf)
        return tailed and super().applies(subject)
