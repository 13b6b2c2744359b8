"""Finds sick neurons while a model trains: dead, dormant, saturated or starved of gradient."""

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
