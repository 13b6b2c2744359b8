"""Fills a statistic with uneven batches."""

from __future__ import annotations

from typing import TypeVar

from lightning_neurohealth.folding import fold
from lightning_neurohealth.statistics import Statistic
from tests.measures.harness import Batches

AnyStatistic = TypeVar("AnyStatistic", bound=Statistic)


def filled(statistic: AnyStatistic, batches: Batches) -> AnyStatistic:
    """``statistic`` after an update with each batch; halves come as float32, as from the ledger."""
    for x in batches.tensors:
        statistic.update(fold(x.float() if x.element_size() == 2 else x, batches.axis))
    return statistic
