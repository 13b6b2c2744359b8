"""What is left of a layer of long ago: one number a measure, all numbers of a window in one tensor."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.record import LayerReport

Measures = tuple[str, ...]


@dataclass(frozen=True)
class Schema:
    """Which names a table has, and where in it their measures begin."""

    rows: Mapping[str, tuple[int, Measures]]

    @classmethod
    def of(cls, measures: Mapping[str, Measures]) -> Schema:
        """One row behind the other."""
        starts = accumulate(map(len, measures.values()), initial=0)
        return cls({name: (start, row) for start, (name, row) in zip(starts, measures.items(), strict=False)})

    def only(self, names: Iterable[str]) -> Schema:
        """Those rows of the same table."""
        return Schema({name: self.rows[name] for name in names})


class Row(Mapping[str, Tensor]):
    """One number for each of some measures, which stand in ``numbers`` from ``start`` on."""

    def __init__(self, measures: Measures, numbers: Tensor, start: int = 0) -> None:
        self.measures, self.numbers, self.start = measures, numbers, start

    def __getitem__(self, measure: str) -> Tensor:
        try:
            return self.numbers[self.start + self.measures.index(measure)]
        except ValueError:
            raise KeyError(measure) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.measures)

    def __len__(self) -> int:
        return len(self.measures)


class Table(Mapping[str, Row]):
    """One number for each measure of each name, all in one tensor of single precision; equal tables share their schema.

    Args:
        schema: Names, each with its measures.
        numbers: In that order, ``[numbers]``.
    """

    def __init__(self, schema: Schema, numbers: Tensor) -> None:
        self.schema, self.numbers = schema, numbers

    def __getitem__(self, name: str) -> Row:
        start, measures = self.schema.rows[name]
        return Row(measures, self.numbers, start)

    def __iter__(self) -> Iterator[str]:
        return iter(self.schema.rows)

    def __len__(self) -> int:
        return len(self.schema.rows)

    def __contains__(self, name: object) -> bool:
        return name in self.schema.rows


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
        bare, severity = self.layers[name], self.sick.get(name, Severity.HEALTHY)
        return LayerReport(name, bare.neurons, self.means[name], bare.activation, bare.function, bare.output, severity)

    def __iter__(self) -> Iterator[str]:
        return iter(self.means)

    def __len__(self) -> int:
        return len(self.means)

    def __contains__(self, name: object) -> bool:
        return name in self.means

    def items(self) -> ItemsView[str, LayerReport]:
        """All layers; reading their numbers at once is thirty times as quick as one by one."""
        table, numbers = self.means, self.means.numbers.tolist()
        found = {}
        for name, (start, measures) in table.schema.rows.items():
            found[name] = layer = self[name]
            layer.__dict__["means"] = dict(zip(measures, numbers[start : start + len(measures)], strict=True))
        return found.items()
