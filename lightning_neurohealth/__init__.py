"""Finds sick neurons while a model trains: dead, dormant, saturated or starved of gradient."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_neurohealth.callback import NeuronHealth
    from lightning_neurohealth.findings import CriticalFindingError, Finding, Severity
    from lightning_neurohealth.interventions import (
        RecycleDormant,
        ablate,
        assert_healthy,
        check_initialization,
        compact,
        initialize,
        swap_activation,
    )
    from lightning_neurohealth.monitor import Monitor
    from lightning_neurohealth.report import Report

__all__ = [
    "CriticalFindingError",
    "Finding",
    "Monitor",
    "NeuronHealth",
    "RecycleDormant",
    "Report",
    "Severity",
    "ablate",
    "assert_healthy",
    "check_initialization",
    "compact",
    "initialize",
    "swap_activation",
]

ROOMS = {
    "callback": ("NeuronHealth",),
    "findings": ("CriticalFindingError", "Finding", "Severity"),
    "monitor": ("Monitor",),
    "report": ("Report",),
}
"""Where names come from; the others come from ``interventions``."""


def __getattr__(name: str) -> Any:
    """Import what is asked for: Lightning takes seconds, which the command line need not wait for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = next((room for room, names in ROOMS.items() if name in names), "interventions")
    found = globals()[name] = getattr(import_module(f"{__name__}.{room}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
