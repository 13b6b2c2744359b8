"""Reports of long ago in little memory: what a layer was like, no longer what each of its neurons was like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.report import LayerReport, Report

RECENT = 100
"""Windows before the present one that keep each neuron's numbers; rules look back on 50, pictures show 100."""
Schema = tuple[tuple[str, tuple[str, ...]], ...]


class Table(Mapping[str, Mapping[str, Tensor]]):
    """One number for each measure of each name, all in one tensor of single precision; equal tables share their names.

    Args:
        schema: Names, each with its measures.
        values: The numbers in that order, ``[numbers]``.
    """

    def __init__(self, schema: Schema, values: Tensor) -> None:
        self.schema, self.values_ = schema, values

    def __getitem__(self, name: str) -> dict[str, Tensor]:
        start = 0
        for known, measures in self.schema:
            if known == name:
                return dict(zip(measures, self.values_[start : start + len(measures)].unbind(), strict=True))
            start += len(measures)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.schema)

    def __len__(self) -> int:
        return len(self.schema)


class ThinLayers(Mapping[str, LayerReport]):
    """Layers of which only the means of their neurons are left.

    Args:
        means: Of each layer.
        layers: The layers without measures.
        sick: Severity of those that have a finding.
    """

    def __init__(self, means: Table, layers: Mapping[str, LayerReport], sick: Mapping[str, Severity]) -> None:
        self.means, self.layers, self.sick = means, layers, sick

    def __getitem__(self, name: str) -> LayerReport:
        bare = self.layers[name]
        severity = self.sick.get(name, Severity.HEALTHY)
        return LayerReport(name, bare.neurons, self.means[name], bare.activation, bare.function, bare.output, severity)

    def __iter__(self) -> Iterator[str]:
        return iter(self.means)

    def __len__(self) -> int:
        return len(self.means)


class Thinner:
    """Thins the reports of a run as new ones come; names that do not change are kept once."""

    def __init__(self) -> None:
        self._schemas: dict[Schema, Schema] = {}
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
        layers = ThinLayers(self._table(report.layers), self._layers.setdefault(key, bare), sick)
        for name, value in (
            ("layers", layers),
            ("parameters", self._table(report.parameters)),
            ("run", self._table({"": report.run})[""]),
        ):
            object.__setattr__(report, name, value)

    def _table(self, table: Mapping[str, Mapping[str, Tensor]]) -> Table:
        kept = {name: {m: v for m, v in measures.items() if v.numel()} for name, measures in table.items()}
        schema: Schema = tuple((name, tuple(measures)) for name, measures in kept.items())
        means = [value.double().mean() for measures in kept.values() for value in measures.values()]
        values = torch.stack(means).float() if means else torch.zeros(0)
        return Table(self._schemas.setdefault(schema, schema), values)
