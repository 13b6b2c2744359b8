"""Reports of long ago in little memory: what a layer was like, no longer what each of its neurons was like."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_neurohealth.record import LayerReport, Record
from lightning_neurohealth.reporting.thin_layers import Measures, Schema, Table, ThinLayers

RECENT = 100
"""Windows before the present one that keep each neuron's numbers; rules look back on 50, pictures show 100."""

ROOM = 1 << 29
"""Bytes that whole reports take at most, the first one beside it: of a model of millions of neurons fewer are kept."""
LAST = 3
"""Windows that are kept whole, whatever they take."""


class Thinner:
    """Thins the reports of a run as new ones come; names that do not change are kept once."""

    def __init__(self) -> None:
        self._schemas: dict[tuple[tuple[str, Measures], ...], Schema] = {}
        self._layers: dict[tuple[object, ...], dict[str, LayerReport]] = {}
        self._oldest = 1  # which is still whole
        self._sizes: deque[int] = deque()  # bytes, of it and of those that came after it

    def thin(self, reports: Sequence[Record]) -> None:
        """Thin what is no longer recent, or has no room; the first report and the last ones are kept whole."""
        self._sizes += [_size(report) for report in reports[self._oldest + len(self._sizes) :]]
        while len(self._sizes) > RECENT + 1 or (len(self._sizes) > LAST and sum(self._sizes) > ROOM):
            self.reduce(reports[self._oldest])
            self._oldest += 1
            self._sizes.popleft()

    def reduce(self, report: Record) -> None:
        """Leave of each measure the mean: of a layer's over its neurons, of the run's over its points."""
        bare = {
            name: LayerReport(name, layer.neurons, {}, layer.activation, layer.function, layer.output)
            for name, layer in report.layers.items()
        }
        key = tuple((b.name, b.neurons, b.activation, b.function, b.output) for b in bare.values())
        sick = {name: layer.severity for name, layer in report.layers.items() if layer.severity}
        means = {name: layer.means for name, layer in report.layers.items()}
        layers = ThinLayers(self._table(means), self._layers.setdefault(key, bare), sick)
        parameters = {name: _means(measures) for name, measures in report.parameters.items()}
        for name, value in (
            ("layers", layers),
            ("parameters", self._table(parameters)),
            ("run", self._table({"": _means(report.run)})[""]),
        ):
            object.__setattr__(report, name, value)

    def _table(self, means: Mapping[str, Mapping[str, float]]) -> Table:
        rows = {name: tuple(measures) for name, measures in means.items()}
        schema = self._schemas.setdefault(tuple(rows.items()), Schema.of(rows))
        return Table(schema, torch.tensor([mean for measures in means.values() for mean in measures.values()]))


def _means(measures: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(values.double().mean()) for name, values in measures.items() if values.numel()}


def _size(report: Record) -> int:
    return sum(values.nbytes for layer in report.layers.values() for values in layer.measures.values())
