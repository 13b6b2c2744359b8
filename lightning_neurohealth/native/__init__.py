"""Sums over rows in C, for tensors on the CPU: one call where torch needs twenty."""

from lightning_neurohealth.native.kernel import TYPES, Kernel, Plan, Spaced, Targets, kernel
from lightning_neurohealth.native.sums import Sum, What

__all__ = ["TYPES", "Kernel", "Plan", "Spaced", "Sum", "Targets", "What", "kernel"]
