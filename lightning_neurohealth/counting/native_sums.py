"""Sums that the kernel in C adds up straight from the tensors of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.counting.vectors import Place, Vectors
from lightning_neurohealth.folding import Pick
from lightning_neurohealth.layers import Subject
from lightning_neurohealth.native import TYPES, Kernel, Plan, Sum, Targets, What, kernel, no_memory
from lightning_neurohealth.signals import SNAPSHOTS, Signal
from lightning_neurohealth.statistics.base import Partials, Statistic
from lightning_neurohealth.statistics.slots import Share, Slot

MANY = 64
"""Layouts that are remembered of each: texts may have another length in each step."""

Sizes = Mapping[tuple[Signal, type[Statistic]], What]
Most = int | str | None


class Late:
    """A statistic whose states are large: rows wait until they count, and are added to the states themselves."""

    def __init__(self, statistic: Statistic) -> None:
        self.statistic, self._sums = statistic, statistic.native_sums()
        self._states: list[Tensor] = []
        self._targets = Targets([])
        self._plans: dict[torch.Size, Plan] = {}

    def add(self, kernel: Kernel, rows: Tensor, step: int) -> None:
        """Add rows, ``[rows, neurons, 1]``, behind one another in memory."""
        if not self._sums:
            self.statistic.absorb(rows, step)
            return
        states = [getattr(self.statistic, name) for name in self._sums]
        if [id(state) for state in states] != [id(state) for state in self._states]:
            self._states, self._plans = states, {}
            self._targets = Targets(list(zip(self._sums.values(), states, strict=True)))
        plan = self._plans.get(rows.shape)
        if plan is None:
            if len(self._plans) >= MANY:
                self._plans.clear()
            count, neurons, _ = rows.shape
            plan = self._plans[rows.shape] = Plan((count, 1, 1, neurons), (neurons, 0, 0, 1), rows.dtype, self._targets)
        kernel.add(plan, rows, 0, 1.0, step)


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
        plans: By layout of the tensors.
        open: False once the statistics may have become others.
    """

    slot: Slot
    brought: list[tuple[Statistic, dict[str, Tensor]]]
    late: list[Late]
    rest: Slot | None
    targets: Targets
    still: bool
    plans: dict[Any, tuple[Pick, Plan]] = field(default_factory=dict)
    open: bool = True


class NativeSums:
    """The states of those statistics of signals on the CPU that the kernel in C knows.

    They are made views of a few long vectors, to which a step is added in one call; those of snapshots of others, which
    a step leaves alone.

    Args:
        wanted: False to leave all to torch.
        sizes: By signal and statistic, the sum whose mean is the size of the signal.
        kinds: What slots do, for those of what the kernel does not know.

    Attributes:
        routes: By subject and signal; ``None`` where the kernel has nothing to do.
    """

    def __init__(self, wanted: bool, sizes: Sizes, kinds: dict[Any, object]) -> None:
        self._wanted, self._of_sizes, self._kinds = wanted, sizes, kinds
        self.routes: dict[tuple[Subject, Signal], Route | None] = {}
        self._kernel: Kernel | None = None
        self._vectors, self._snapshots = Vectors(), Vectors()
        self._bound: dict[Statistic, dict[str, Place]] = {}
        self._still: set[Statistic] = set()
        self._sized: list[Slot] = []
        self._touched: dict[Slot, Route] = {}
        self._touched_still: set[Slot] = set()
        self._waiting: list[tuple[Route, Tensor, int]] = []

    def __contains__(self, statistic: Statistic) -> bool:
        return statistic in self._bound

    def holds(self, statistic: Statistic) -> bool:
        """True if all states of ``statistic`` stand in the vectors."""
        return statistic.home is self._vectors or statistic.home is self._snapshots

    def empty(self) -> None:
        """Forget what was seen in the window; exponential averages go on."""
        self._vectors.empty(averages=False)
        self._snapshots.empty(averages=False)

    def empty_snapshots(self) -> None:
        """Forget all of them."""
        self._snapshots.empty(averages=True)

    def open(self, subject: Subject, slot: Slot) -> None:
        """Make a route for the tensors of ``slot``, if there is something to sum in C."""
        self.routes[subject, slot.signal] = None
        possible = self._wanted and subject.device.type == "cpu" and getattr(subject, "part", None) is None
        if possible and any(one.native_sums() for one in slot.statistics):
            self._kernel = self._kernel or kernel()
            if self._kernel is not None:
                self._add_sums = self._kernel.add_sums
                self.routes[subject, slot.signal] = self._route(slot)

    def take(
        self, subject: Subject, signal: Signal, x: Tensor, most: Most, phase: int, scale: Tensor | float, step: int
    ) -> bool:
        """Add up rows of ``x``, shape ``[outer, neurons, inner]``, times ``scale``; true if nothing more is wanted.

        With ``most``, those that ``thin`` takes; ``None`` for all.
        """
        route = self.routes[subject, signal]
        if route is None:
            return False
        if x.numel():
            if x.dtype not in TYPES or x.is_neg() or not x.is_cpu:
                x = x.to("cpu", torch.promote_types(x.dtype, torch.float32)).resolve_neg()
            self.add(route, *self._plan(route, x, most), x, phase, float(scale), step)
            if route.still:
                self._touched_still.add(route.slot)
        return route.rest is None

    def add(self, route: Route, pick: Pick, plan: Plan, x: Tensor, phase: int, scale: float, step: int) -> None:
        """The same for tensors of which the plan is known."""
        self._touched[route.slot] = route
        offset = 0 if pick.all else pick.offset(phase)
        if self._add_sums(plan.reference, x.data_ptr() + offset * plan.itemsize, scale, step):
            raise no_memory()
        if route.late:
            some = x.detach().as_strided(pick.shape, pick.strides, x.storage_offset() + offset)
            rows = some.clone(memory_format=torch.contiguous_format).view(-1, pick.shape[3], 1)
            self._waiting.append((route, rows if scale == 1.0 else rows * scale, step))

    def plan(self, subject: Subject, signal: Signal, x: Tensor, most: Most) -> tuple[Route, Pick, Plan] | None:
        """How ``take`` takes tensors that lie in memory as ``x`` does, if it takes all that is wanted of them."""
        route = self.routes.get((subject, signal))
        if route is None or route.rest is not None or x.dtype not in TYPES or not x.is_cpu or not x.numel():
            return None
        return route, *self._plan(route, x, most)

    def _plan(self, route: Route, x: Tensor, most: Most) -> tuple[Pick, Plan]:
        key = (x.shape, x.stride(), x.dtype)
        plan = route.plans.get(key)
        if plan is None:
            if len(route.plans) >= MANY:
                route.plans.clear()
            pick = Pick(x, most if isinstance(most, int) else None, whole=most is None)
            plan = route.plans[key] = pick, Plan(pick.shape, pick.strides, x.dtype, route.targets)
        return plan

    def forget_routes(self, kept: Iterable[Statistic]) -> None:
        """Statistics may have become others; between two steps, states of those that are ``kept`` move together."""
        for route in self.routes.values():
            if route is not None:
                route.open = False
        self.routes.clear()
        if self._touched:
            return  # what the step has brought lies beside the states
        self.settle()
        bound, still, self._bound, self._still, self._sized = self._bound, self._still, {}, set(), []
        self._vectors, self._snapshots = Vectors(), Vectors()
        for statistic in kept:
            if statistic in bound:
                if bound[statistic]:
                    self._bind(statistic, still=statistic in still)
                else:
                    self._bound[statistic] = {}

    # A step

    def fade(self) -> None:
        """Exponential averages fade by one measured step."""
        self._vectors.fade()
        self._snapshots.fade()

    def settle(self) -> None:
        """Bring all states up to date."""
        self._vectors.settle()
        self._snapshots.settle()

    def commit(self) -> None:
        """What the step has brought counts."""
        if self._touched and self._kernel is not None:
            if self._touched_still:
                self._snapshots.commit(self._kernel)
            if len(self._touched) > len(self._touched_still):
                self._vectors.commit(self._kernel)
            for route, rows, step in self._waiting:
                for late in route.late:
                    late.add(self._kernel, rows, step)
            self._forget()

    def rest(self, subject: Subject, signal: Signal) -> Slot | None:
        """What ``take`` has left to others."""
        route = self.routes.get((subject, signal))
        return None if route is None else route.rest

    def taken(self) -> list[Share]:
        """What the step has brought, to be dealt with one by one, where it may not count as a whole."""
        shares: dict[Statistic, Share] = {}
        for slot, route in self._touched.items():
            for one, own in route.brought:
                partials: Partials = {name: step.clone().view(getattr(one, name).shape) for name, step in own.items()}
                shares[one] = Share((slot,), slot.alone[one], partials)
        waited = [
            Share((route.slot,), route.slot.alone[late.statistic], late.statistic.partials(rows, step))
            for route, rows, step in self._waiting
            for late in route.late
        ]
        self.discard()
        return [*shares.values(), *waited]

    def discard(self) -> None:
        """What the step has brought does not count."""
        if self._touched:
            self._vectors.discard()
            self._snapshots.discard()
            self._forget()

    def sizes(self) -> tuple[list[Slot], Tensor]:
        """Whose sizes somebody wants, and what the step has brought of each, ``[slots, 2]``: a sum and of how many.

        The list only grows, until another takes its place.
        """
        return self._sized, self._vectors.sizes

    def _forget(self) -> None:
        self._touched.clear()
        self._touched_still.clear()
        self._waiting.clear()

    def _route(self, slot: Slot) -> Route:
        late = [one for one in slot.statistics if one.large]
        known = [one for one in slot.statistics if not one.large and one.native_sums()]
        rest = [one for one in slot.statistics if not one.large and not one.native_sums()]
        still = slot.signal in SNAPSHOTS
        brought = [(one, {name: step for name, (_, step) in self._bind(one, still).items()}) for one in known]
        self._bound.update((one, {}) for one in late)
        sums = [(s, own[name]) for one, own in brought for name, s in one.native_sums().items()]
        for one in known:
            size = self._of_sizes.get((slot.signal, type(one)))
            if size is not None:
                self._sized.append(slot)
                sums.append((Sum(size), self._vectors.place_for_size()))
        unknown = Slot(slot.subject, slot.signal, rest, self._kinds) if rest else None
        return Route(slot, brought, [Late(one) for one in late], unknown, Targets(sums), still)

    def _bind(self, statistic: Statistic, still: bool) -> dict[str, Place]:
        vectors = self._snapshots if still else self._vectors
        places = self._bound.get(statistic)
        if places is None:
            self._still.update([statistic] if still else [])
            places = self._bound[statistic] = {
                name: vectors.place(
                    kind, None if name in statistic.steady else statistic.decay, getattr(statistic, name).numel()
                )
                for name, kind in statistic.kinds.items()
            }
        self.settle()
        if statistic.home is not vectors:  # new here, or loaded since
            for name, (state, _) in places.items():
                now = getattr(statistic, name)
                state.copy_(now.reshape(-1))
                statistic.load({name: state.view(now.shape)})
            object.__setattr__(statistic, "home", vectors)
        return places
