"""How the tensors of one signal of one subject are summed in C."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.counting.held import Held
from lightning_neurohealth.folding import Pick
from lightning_neurohealth.native import Plan, Targets
from lightning_neurohealth.statistics.base import Statistic
from lightning_neurohealth.statistics.slots import Slot

MANY = 64
"""Layouts that are remembered of each: texts may have another length in each step."""

Most = int | str | None


@dataclass(eq=False)
class Way:
    """How tensors of one layout are summed.

    Attributes:
        pick: Which rows.
        rows: How many those are.
        held: What keeps a copy of them, if something does.
    """

    pick: Pick
    plan: Plan
    rows: int
    held: Held | None


@dataclass(eq=False)
class Route:
    """How the tensors of one signal of one subject are summed.

    Attributes:
        slot: Its statistics.
        brought: Of each statistic that the kernel knows, what the step brings to each state.
        late: Those with large states.
        rest: Those that it does not know, ``None`` if there are none.
        targets: What the kernel adds to.
        still: True for a snapshot.
        ways: By layout of the tensors.
        held: By type, the rows that wait for ``late``.
        open: False once the statistics may have become others.
    """

    slot: Slot
    brought: list[tuple[Statistic, dict[str, Tensor]]]
    late: list[Statistic]
    rest: Slot | None
    targets: Targets
    still: bool
    ways: dict[Any, Way] = field(default_factory=dict)
    held: dict[torch.dtype, Held] = field(default_factory=dict)
    open: bool = True

    def hold(self, neurons: int, type: torch.dtype) -> Held | None:
        """What rows of numbers of that type wait in; ``None`` where nothing is late."""
        if not self.late:
            return None
        type = torch.float64 if type == torch.float64 else torch.float32
        if type not in self.held:
            self.held[type] = Held(self.late, neurons, type)
        return self.held[type]

    def way(self, x: Tensor, most: Most) -> Way:
        """How a tensor ``[outer, neurons, inner]`` is summed of which ``most`` rows count, ``None`` for all."""
        key = (x.shape, x.stride(), x.dtype)
        way = self.ways.get(key)
        if way is None:
            if len(self.ways) >= MANY:
                self.ways.clear()
            pick = Pick(x, most if isinstance(most, int) else None, whole=most is None)
            plan = Plan(pick.shape, pick.strides, x.dtype, self.targets)
            way = self.ways[key] = Way(pick, plan, math.prod(pick.shape[:3]), self.hold(x.shape[1], x.dtype))
        return way
