"""Sinks: write reports somewhere. A file a sink; they see reports and nothing else."""

from lightning_neurohealth.sinks.base import Place, Sink
from lightning_neurohealth.sinks.console import Console
from lightning_neurohealth.sinks.files import Files
from lightning_neurohealth.sinks.loggers import Loggers

__all__ = ["Console", "Files", "Loggers", "Place", "Sink", "default_sinks"]


def default_sinks() -> list[Sink]:
    """The console, every logger of the Trainer, and files in its log directory."""
    return [Console(), Loggers(), Files()]
