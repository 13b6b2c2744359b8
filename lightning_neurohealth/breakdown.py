"""Where a run began to break: the first signal that was no number any more, or a thousand times its usual size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

EXPLODED = 1000.0
"""Times its median size in the measured steps before."""

Sizes = Mapping[tuple[str, str], Sequence[float]]


@dataclass(frozen=True)
class Breakdown:
    """What went first.

    Attributes:
        layer: Name of the layer.
        signal: ``"activations"`` or ``"gradients"``.
        step: The training step, which was a measured one.
        size: How large the signal was then, NaN or infinite where not all were numbers: the root mean square of
            activations, or the mean absolute value of gradients.
        before: Its median in the measured steps before, NaN where there were none.
    """

    layer: str
    signal: str
    step: int
    size: float
    before: float = math.nan

    def __str__(self) -> str:
        known = math.isfinite(self.before)
        where = f"the {self.signal} of {self.layer}"
        if not math.isfinite(self.size):
            after = f", after {self.before:.2g} in the measured steps before" if known else ""
            return f"{where} were no finite numbers at training step {self.step}{after}"
        return f"{where} grew from {self.before:.2g} to {self.size:.2g} by training step {self.step}"

    def to_dict(self) -> dict[str, Any]:
        """The same fit for JSON: numbers that are none are left out."""
        return {n: v for n, v in asdict(self).items() if not isinstance(v, float) or math.isfinite(v)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Breakdown:
        """What ``to_dict`` has given."""
        return cls(**{"size": math.nan, **facts})


@dataclass(frozen=True)
class Record:
    """The last measured steps as one rank has seen them.

    Attributes:
        steps: Their numbers, the oldest first.
        sizes: By layer and signal, the size in each of them; less than 0 where it was not seen.
    """

    steps: Sequence[int]
    sizes: Sizes


def first_to_go(records: Iterable[Record], order: Iterable[str]) -> Breakdown | None:
    """What broke at the earliest step, of all that did the first in the flow of the computation.

    Args:
        records: Of each rank.
        order: Names of all layers in the order of execution: in it activations flow, and gradients against it.
    """
    layers = list(order)
    flow = [(layer, "activations") for layer in layers] + [(layer, "gradients") for layer in reversed(layers)]
    seen = merged(records)
    found = [b for place in flow if place in seen and (b := _breakdown(*place, seen[place])) is not None]
    return min(found, key=lambda breakdown: breakdown.step, default=None)


def merged(records: Iterable[Record]) -> dict[tuple[str, str], dict[int, float]]:
    """By layer and signal, the largest size that some rank has seen at each step; NaN is larger than all."""
    seen: dict[tuple[str, str], dict[int, float]] = {}
    for record in records:
        for place, sizes in record.sizes.items():
            of_place = seen.setdefault(place, {})
            for step, size in zip(record.steps, sizes, strict=True):
                if not size < 0:
                    of_place[step] = max(of_place.get(step, 0.0), math.inf if math.isnan(size) else size)
    return seen


def _breakdown(layer: str, signal: str, sizes: Mapping[int, float]) -> Breakdown | None:
    before: list[float] = []
    for step, size in sorted(sizes.items()):
        usual = median(before) if before else math.nan
        if not math.isfinite(size) or size > EXPLODED * usual:
            return Breakdown(layer, signal, step, size, usual)
        if size > 0:  # what begins at zero has no usual size yet
            before.append(size)
    return None
