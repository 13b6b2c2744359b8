"""NeuronHealth: tells a monitor what a Lightning Trainer does."""

from lightning_neurohealth.callback.neuron_health import NeuronHealth

__all__ = ["NeuronHealth"]
