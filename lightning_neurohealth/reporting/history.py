"""The windows of a run so far, side by side."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_neurohealth.layers import merged_order
from lightning_neurohealth.record import LayerReport, Record
from lightning_neurohealth.reporting.thin_layers import ThinLayers

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class History:
    """Reports of one run, the oldest first.

    A layer's number is the mean of its neurons. An early window of a long run may hold no more than that.
    """

    reports: Sequence[Record]

    @classmethod
    def of(cls, report: Record, most: int | None = None) -> History:
        """A report and those before it; of more than ``most``, some between the first and the last are left out."""
        chain: list[Record] = []
        current: Record | None = report
        while current is not None:
            chain.append(current)
            current = current.previous
        chain.reverse()
        if most is not None and len(chain) > most:
            chain = [chain[place] for place in spread(len(chain), most)]
        return cls(chain)

    @property
    def last(self) -> Record:
        """The latest report."""
        return self.reports[-1]

    @cached_property
    def layers(self) -> dict[str, LayerReport]:
        """Every layer of any window as it was seen last, in the order of execution."""
        known = {name: layer for report in self.reports for name, layer in report.layers.items()}
        orders = {tuple(report.layers): None for report in reversed(self.reports)}
        return {name: known[name] for name in merged_order(list(orders))}

    @cached_property
    def measures(self) -> dict[str, list[str]]:
        """Measure to the layers that have it in any window, both in a fixed order."""
        having: dict[tuple[str, ...], set[str]] = {}
        for report in self.reports:
            for name, layer in report.layers.items():
                having.setdefault(tuple(layer.measures), set()).add(name)
        found: dict[str, set[str]] = {}
        for measures, names in having.items():
            for measure in measures:
                found.setdefault(measure, set()).update(names)
        return {measure: [name for name in self.layers if name in found[measure]] for measure in sorted(found)}

    def means(self, measure: str) -> Tensor:
        """The layers' numbers, ``[windows, layers that have it]``; NaN where a window has none."""
        places = {name: place for place, name in enumerate(self.layers)}
        layers = [places[name] for name in self.measures[measure]]
        return self._means[:, layers, list(self.measures).index(measure)]

    @cached_property
    def _means(self) -> Tensor:
        """All of them, ``[windows, layers, measures]``."""
        none = [math.nan] * len(self.measures)
        numbers = array("d")
        for report in self.reports:
            layers = dict(report.layers.items())  # of an old window all at once, and gone before the next
            for name in self.layers:
                known = layers[name].means if name in layers else {}
                numbers.extend([known.get(measure, math.nan) for measure in self.measures] if known else none)
        shape = (len(self.reports), len(self.layers), len(self.measures))
        return torch.frombuffer(numbers, dtype=torch.float64).reshape(shape) if numbers else torch.zeros(shape).double()

    def neurons(self, measure: str, layer: str) -> tuple[list[int], Tensor]:
        """Places of the windows that hold each neuron's number, and the numbers, ``[these windows, neurons]``."""
        size = self.layers[layer].neurons
        found: list[tuple[int, Tensor]] = []
        for place, report in self._whole:
            values = report.layers[layer].measures.get(measure) if layer in report.layers else None
            if values is not None and values.shape == (size,):
                found.append((place, values.detach().cpu()))
        if not found:
            return [], torch.zeros(0, size, dtype=torch.float64)
        return [place for place, _ in found], torch.stack([values for _, values in found]).double()

    @cached_property
    def _whole(self) -> list[tuple[int, Record]]:
        found = enumerate(self.reports)
        return [(place, report) for place, report in found if not isinstance(report.layers, ThinLayers)]

    def frame(self) -> DataFrame:
        """A row for each window, layer and measure; rows of the run as a whole have no layer."""
        import pandas as pd

        rows: list[tuple[Any, ...]] = []
        for report in self.reports:
            where = (report.index, report.epoch, report.step)
            for name, layer in report.layers.items():
                rows += [(*where, name, measure, value) for measure, value in layer.means.items()]
            for measure, values in report.run.items():
                rows += [(*where, None, measure, float(values.double().mean()))] if values.numel() else []
        return pd.DataFrame(rows, columns=["window", "epoch", "step", "layer", "measure", "value"])


def spread(length: int, most: int) -> list[int]:
    """At most ``most`` of ``range(length)``, evenly, the first and the last among them."""
    if length <= most:
        return list(range(length))
    if most <= 1:
        return [length - 1]
    return sorted({round(i * (length - 1) / (most - 1)) for i in range(most)})
