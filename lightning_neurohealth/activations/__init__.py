"""Activation functions f, a = f(z): what is known of each, and how one is recognised in a running network."""

from lightning_neurohealth.activations.activation import HEADS, IDENTITY, PLACES, Activation
from lightning_neurohealth.activations.recognition import from_function, from_module, register

__all__ = ["HEADS", "IDENTITY", "PLACES", "Activation", "from_function", "from_module", "register"]
