"""Sums over rows in C, for tensors on the CPU: one call where torch needs twenty."""

from lightning_neurohealth.native.brought import Brought
from lightning_neurohealth.native.kernel import TYPES, Kernel, Lengths, Plan, Spaced, Targets, kernel, no_memory
from lightning_neurohealth.native.sums import Sum, What

__all__ = ["TYPES", "Brought", "Kernel", "Lengths", "Plan", "Spaced", "Sum", "Targets", "What", "kernel", "no_memory"]
