"""Statistics: what is summed over rows, steps and ranks. A file a statistic."""

from lightning_neurohealth.statistics.base import Statistic, Subject

__all__ = ["Statistic", "Subject"]
