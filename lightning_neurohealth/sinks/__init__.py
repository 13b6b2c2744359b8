"""Sinks: write reports somewhere. A file a sink; they see reports and nothing else."""

from lightning_neurohealth.sinks.base import Place, Sink
from lightning_neurohealth.sinks.console import Console
from lightning_neurohealth.sinks.files import Files
from lightning_neurohealth.sinks.loggers import Loggers
from lightning_neurohealth.sinks.page import Page

__all__ = ["Console", "Files", "Loggers", "Page", "Place", "Sink", "default_sinks"]


def default_sinks() -> list[Sink]:
    """The console, every logger of the Trainer, and files and a page in its log directory."""
    return [Console(), Loggers(), Files(), Page()]
