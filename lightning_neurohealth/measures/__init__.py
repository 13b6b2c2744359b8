"""Measures: formulas over statistics. A file a measure; each is found by walking this folder."""

from __future__ import annotations

import sys
from functools import cache

from lightning_neurohealth.discovery import concrete_classes
from lightning_neurohealth.measures.base import Measure

__all__ = ["Measure", "all_measures"]


@cache
def all_measures() -> dict[str, Measure]:
    """Every measure by name, in alphabetical order."""
    classes = concrete_classes(sys.modules[__name__], Measure)  # type: ignore[type-abstract]
    return {cls.name: cls() for cls in sorted(classes, key=lambda cls: cls.name)}
