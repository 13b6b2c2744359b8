"""What all statistics share: states that merge by sum, minimum or maximum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_neurohealth.layers import Subject
from lightning_neurohealth.native.sums import Sum
from lightning_neurohealth.statistics.rows import Rows

Kind = Literal["sum", "min", "max"]
Partials = dict[str, "Tensor | int"]

EMPTY: dict[Kind, float] = {"sum": 0.0, "min": math.inf, "max": -math.inf}


class Statistic(Metric, ABC):
    """States of one signal of one subject, summed over rows, steps and ranks.

    ``reduce`` is pure and is all that a new statistic has to write beside its states; merging follows from each state's
    kind, exactly, whatever way the rows were split over batches, ranks and restarts.

    Attributes:
        rows: Number of rows seen.
        decay: Where set, the states are multiplied with it at every measured step and outlive the window, so that they
            hold an exponential average.
        steady: States that do neither all the same.
        side_by_side: True if ``reduce`` takes the rows of several layers at once, and what it gives is of each neuron.
        fusable: True if ``reduce`` treats each neuron by itself and can be compiled: it takes all from :class:`Rows`.
        counters: Names of plain numbers that belong to the states, equal on all ranks.
        large: True if its states are so many that steps are better kept as rows until several count than as sums. What
            C sums of them, if it does, is counted.
        together: True if it compares neurons, so that it says nothing of a layer that is split over ranks.
        home: Whose memory the states are in, ``None`` where they are its own.
    """

    full_state_update = False
    decay: ClassVar[float | None] = None
    steady: ClassVar[frozenset[str]] = frozenset()
    counters: ClassVar[tuple[str, ...]] = ()
    side_by_side: ClassVar[bool] = False
    fusable: ClassVar[bool] = False
    large: ClassVar[bool] = False
    together: ClassVar[bool] = False
    home: object | None = None
    kinds: dict[str, Kind]
    rows: Tensor

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.kinds = {}
        self.neurons = subject.neurons
        self.state("rows", "sum", ())

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        """False where this statistic says nothing about ``subject``."""
        return True

    def state(self, name: str, kind: Kind, shape: tuple[int, ...] | None = None) -> None:
        """Add a state of one float64 number a neuron, or of another shape."""
        empty = torch.full((self.neurons,) if shape is None else shape, EMPTY[kind], dtype=torch.float64)
        self.add_state(name, empty, dist_reduce_fx=kind)
        self.kinds[name] = kind

    @property
    def constants(self) -> tuple[object, ...]:
        """What ``reduce`` depends on beside the rows: statistics of one kind and the same constants share a kernel."""
        return ()

    @property
    def new_rows(self) -> Tensor:
        """Number of rows seen in the window."""
        return self.rows

    @abstractmethod
    def reduce(self, rows: Rows) -> Partials:
        """What the rows, which are not none, add to each state but ``rows``; a state that is left out stays."""

    def native_sums(self) -> dict[str, Sum]:
        """The same for the kernel in C: the sum that each state is; nothing where it knows none of them."""
        return {}

    def stamp(self, partials: Partials, step: int) -> None:
        """Add to the partials what depends on the step at which the rows were seen."""

    def alarming(self, partials: Partials) -> bool:
        """True if the partials may tell why a step failed, so that they count although it does not."""
        return False

    def partials(self, x: Tensor | Rows, step: int = 0) -> Partials:
        """``reduce`` with the number of rows and the step; ``x`` is ``[outer, neurons, inner]``."""
        return reduced([self], x if isinstance(x, Rows) else Rows(x), step)[0]

    def completed(self, partials: Partials, rows: int, step: int) -> Partials:
        """What ``reduce`` has found, with the number of rows and the step."""
        partials["rows"] = rows
        self.stamp(partials, step)
        return partials

    def join(self, partials: Partials, more: Partials) -> None:
        """Take what ``reduce`` has found in more of the same rows into ``partials``."""
        for name, found in more.items():
            known = partials.get(name)
            if known is None:
                partials[name] = found
            elif isinstance(known, int) or isinstance(found, int) or self.kinds[name] == "sum":
                partials[name] = known + found
            else:
                partials[name] = (torch.minimum if self.kinds[name] == "min" else torch.maximum)(known, found)

    def merge(self, partials: Partials) -> None:
        """Take partials into the states."""
        for name, partial in partials.items():
            state, kind = getattr(self, name), self.kinds[name]
            if kind == "sum" or isinstance(partial, int):
                state.add_(partial)
            else:
                (torch.minimum if kind == "min" else torch.maximum)(state, partial, out=state)

    def absorb(self, x: Tensor, batches: Sequence[tuple[int, int]]) -> None:
        """Take ``[rows, neurons]`` into the states, which nobody else holds.

        Args:
            batches: Of how many rows each was, and its step.
        """
        for rows, (_, step) in zip(x.split([count for count, _ in batches]), batches, strict=True):
            self.merge(self.partials(rows.unsqueeze(2), step))

    def take_steps(self, values: Tensor, steps: Sequence[int]) -> None:
        """Take one number of each of many steps, ``[steps]``."""
        self.merge(self.partials(values.view(-1, 1, 1), steps[-1]))

    def update(self, x: Tensor) -> None:
        """Take the rows of ``x``, shape ``[outer, neurons, inner]`` or ``[rows, neurons]``."""
        x = x if x.dim() == 3 else x.unsqueeze(-1)
        if x.numel():
            self.merge(self.partials(x))

    def compute(self) -> dict[str, Tensor]:
        """The states, as they are."""
        return {name: getattr(self, name) for name in self.kinds}

    def __hash__(self) -> int:
        return id(self)

    def twin(self) -> Statistic:
        """One for the same subject that holds the same states until it loads others.

        It can be read, not updated, and costs nothing: a Metric is made in half a millisecond.
        """
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def blank(self) -> Statistic:
        """An empty one for another subject, equal in all that ``__init__`` asks for; it costs next to nothing too."""
        blank = self.twin()
        for wrapped in ("update", "compute"):  # a Metric binds them to itself
            blank.__dict__.pop(wrapped, None)
        blank.load({name: torch.full_like(getattr(self, name), EMPTY[kind]) for name, kind in self.kinds.items()})
        return blank

    def load(self, states: dict[str, Any]) -> None:
        """Replace the states."""
        object.__setattr__(self, "home", None)
        for name, value in states.items():
            object.__setattr__(self, name, value)


def reduced(statistics: Sequence[Statistic], rows: Rows, step: int) -> list[Partials]:
    """``partials`` of each, from one pass over the rows."""
    pieces = rows.pieces()
    piece = next(pieces)
    found = [s.reduce(piece if s.fusable else rows) for s in statistics]
    for piece in pieces:
        for s, partials in zip(statistics, found, strict=True):
            if s.fusable:
                s.join(partials, s.reduce(piece))
    return [s.completed(partials, rows.count, step) for s, partials in zip(statistics, found, strict=True)]
