"""Reports of long ago in little memory: what a layer was like, no longer what each of its neurons was like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_neurohealth.report import LayerReport, Report
from lightning_neurohealth.thin_layers import Measures, Schema, Table, ThinLayers

RECENT = 100
"""Windows before the present one that keep each neuron's numbers; rules look back on 50, pictures show 100."""


class Thinner:
    """Thins the reports of a run as new ones come; names that do not change are kept once."""

    def __init__(self) -> None:
        self._schemas: dict[tuple[tuple[str, Measures], ...], Schema] = {}
        self._layers: dict[tuple[object, ...], dict[str, LayerReport]] = {}

    def thin(self, reports: Sequence[Report]) -> None:
        """Thin the report that is no longer recent; the first one is kept whole."""
        if len(reports) > RECENT + 2:
            self.reduce(reports[-RECENT - 2])

    def reduce(self, report: Report) -> None:
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
