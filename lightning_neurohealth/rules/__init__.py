"""Rules: a file a diagnosis; each is found by walking this folder."""

from __future__ import annotations

import sys
from functools import cache

from lightning_neurohealth.discovery import concrete_classes
from lightning_neurohealth.rules.base import LayerRule, Rule, RunRule, Verdict

__all__ = ["LayerRule", "Rule", "RunRule", "Verdict", "all_rules"]


@cache
def all_rules() -> dict[str, type[Rule]]:
    """Every rule by the name of its condition, in alphabetical order."""
    classes = concrete_classes(sys.modules[__name__], Rule)  # type: ignore[type-abstract]
    return {cls.name: cls for cls in sorted(classes, key=lambda cls: cls.name)}
