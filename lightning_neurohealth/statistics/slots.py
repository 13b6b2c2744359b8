"""The statistics of one signal of one layer, and those of equal layers together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.base import Partials, Statistic


class Members:
    """One statistic of each of several layers of one width.

    Attributes:
        statistics: Of one kind and the same constants, so that what one of them gives for rows that lie side by side
            is what each would give for its own.
    """

    __slots__ = ("statistics",)

    def __init__(self, statistics: Sequence[Statistic]) -> None:
        self.statistics = tuple(statistics)

    @property
    def first(self) -> Statistic:
        """One of them, which stands for all."""
        return self.statistics[0]

    def split(self, partials: Partials) -> Iterator[tuple[Statistic, Partials]]:
        """Each statistic with what is its own."""
        count = len(self.statistics)
        for i, statistic in enumerate(self.statistics):
            yield (
                statistic,
                {
                    name: partial if isinstance(partial, int) or count == 1 else partial.view(count, -1)[i].view(shape)
                    for name, partial in partials.items()
                    for shape in (getattr(statistic, name).shape,)
                },
            )


@dataclass(eq=False)
class Slot:
    """The statistics of one signal of one subject.

    Attributes:
        joint: Those whose sums may be computed with those of equal layers.
        single: All others.
        alone: Each as the only member.
        kinds: Those of other slots, by what their ``joint`` do.
        kind: The same object for all slots whose ``joint`` do the same.
    """

    subject: Subject
    signal: Signal
    statistics: Sequence[Statistic]
    kinds: InitVar[dict[Any, object] | None] = None
    joint: list[Statistic] = field(init=False)
    single: list[Statistic] = field(init=False)
    alone: dict[Statistic, Members] = field(init=False)
    kind: object = field(init=False)

    def __post_init__(self, kinds: dict[Any, object] | None) -> None:
        may = isinstance(self.subject, Layer)
        self.joint = [s for s in self.statistics if may and (s.fusable or s.side_by_side)]
        self.single = [s for s in self.statistics if not (may and (s.fusable or s.side_by_side))]
        self.alone = {statistic: Members([statistic]) for statistic in self.statistics}
        key = (self.signal, len(self.single), *((type(s), s.constants) for s in self.joint))
        self.kind = ({} if kinds is None else kinds).setdefault(key, object())  # quicker to compare


@dataclass(frozen=True, eq=False)
class Share:
    """What some rows bring to one statistic of each of the slots that they are of."""

    slots: Sequence[Slot]
    members: Members
    partials: Partials

    @property
    def signal(self) -> Signal:
        """The same for all."""
        return self.slots[0].signal


def one_by_one(shares: Iterable[Share]) -> Iterator[Share]:
    """The same, each for one slot."""
    for share in shares:
        for slot, (statistic, partials) in zip(share.slots, share.members.split(share.partials), strict=True):
            yield Share((slot,), slot.alone[statistic], partials)
