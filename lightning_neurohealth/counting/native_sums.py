"""Sums that the kernel in C adds up straight from the tensors of a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.counting.changes import Change
from lightning_neurohealth.counting.held import Held
from lightning_neurohealth.counting.products import Product, in_lines, product_of
from lightning_neurohealth.counting.routes import Most, Route, Way
from lightning_neurohealth.counting.vectors import Place, Vectors
from lightning_neurohealth.layers import Subject
from lightning_neurohealth.native import TYPES, Kernel, Sum, Targets, What, kernel, no_memory
from lightning_neurohealth.signals import SNAPSHOTS, Signal
from lightning_neurohealth.statistics.base import Partials, Statistic
from lightning_neurohealth.statistics.slots import Share, Slot

Sizes = Mapping[tuple[Signal, type[Statistic]], What]


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
        self._holding: dict[Held, None] = {}

    def __contains__(self, statistic: Statistic) -> bool:
        return statistic in self._bound

    def holds(self, statistic: Statistic) -> bool:
        """True if all states of ``statistic`` stand in the vectors."""
        return statistic.home is self._vectors or statistic.home is self._snapshots

    def empty(self) -> None:
        """Forget what was seen in the window; exponential averages go on."""
        self._vectors.empty(averages=False)
        self._snapshots.empty(averages=False)
        for held in self._holding:
            held.reset()
        self._holding.clear()

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
        self,
        route: Route,
        x: Tensor,
        most: Most,
        phase: int,
        scale: Tensor | float,
        step: int,
        some: Tensor | None = None,
    ) -> bool:
        """Add up rows of ``x``, shape ``[outer, neurons, inner]``; true if nothing more is wanted.

        Args:
            most: Rows that are taken at most, as ``thin`` does; ``None`` for all.
            phase: Which.
            scale: They are multiplied with it.
            some: Those that count, of ``[rows, neurons, 1]`` that are all ours; none of the three matters then.
        """
        if x.numel():
            if x.dtype not in TYPES or x.is_neg() or not x.is_cpu:
                x = x.to("cpu", torch.promote_types(x.dtype, torch.float32)).resolve_neg()
            if some is None:
                self.add(route, route.way(x, most), x, phase, float(scale), step)
            elif len(some):
                self.add_some(route, route.way(x, None), x, some.to("cpu").contiguous(), step)
            if route.still:
                self._touched_still.add(route.slot)
        return route.rest is None

    def add(self, route: Route, way: Way, x: Tensor, phase: int, scale: float, step: int) -> None:
        """The same for tensors of which it is known how they are summed."""
        self._touched[route.slot] = route
        offset = 0 if way.pick.all else way.pick.offset(phase)
        copy = None if way.held is None else way.held.room(way.rows, step)
        plan, place = way.plan, x.data_ptr() + offset * way.plan.itemsize
        if self._add_sums(plan.reference, place, None, None, plan.samples, copy, scale, step):
            raise no_memory()

    def add_some(self, route: Route, way: Way, x: Tensor, some: Tensor, step: int) -> None:
        """The same for some rows of tensors that are ours, int64 and behind one another."""
        self._touched[route.slot] = route
        copy = None if way.held is None else way.held.room(len(some), step)
        place, chosen = x.data_ptr(), some.data_ptr()
        if self._add_sums(way.plan.reference, place, None, chosen, len(some), copy, 1.0, step):
            raise no_memory()

    def add_products(
        self, route: Route, product: Product, x: Tensor, y: Tensor, phase: int, scale: float, step: int
    ) -> None:
        """The same for the product of two tensors."""
        self._touched[route.slot] = route
        assert self._kernel is not None
        samples, offsets = product.some(phase)
        copy = None if product.held is None else product.held.room(samples * product.lines, step)
        self._kernel.add_products(product.plan, x, y, offsets, samples, scale, step, copy)

    def keep(self, change: Change, x: Tensor, phase: int) -> None:
        """Keep rows of ``x`` until it has changed."""
        assert self._kernel is not None
        change.keep(self._kernel, x, phase)

    def add_change(self, route: Route, change: Change, x: Tensor, step: int) -> None:
        """Add up how those have changed."""
        self._touched[route.slot] = route
        assert self._kernel is not None
        change.add(self._kernel, x, step)

    def change(self, subject: Subject, signal: Signal, x: Tensor) -> tuple[Route, Change] | None:
        """How the last two see tensors that lie in memory as ``x`` does, if they can."""
        route = self.routes.get((subject, signal))
        if route is None or route.rest is not None or route.late or x.dtype not in TYPES or not x.numel():
            return None
        return route, Change(x, route.targets)

    def way(self, subject: Subject, signal: Signal, x: Tensor, most: Most) -> tuple[Route, Way] | None:
        """How ``take`` takes tensors that lie in memory as ``x`` does, if it takes all that is wanted of them."""
        route = self.routes.get((subject, signal))
        if route is None or route.rest is not None or x.dtype not in TYPES or not x.is_cpu or not x.numel():
            return None
        return route, route.way(x, most)

    def product(
        self, subject: Subject, signal: Signal, x: Tensor, y: Tensor, axis: int, whole: bool
    ) -> tuple[Route, Product] | None:
        """How ``add_products`` takes those of tensors that lie in memory as ``x`` and ``y`` do, if it can.

        With ``whole``, of all their samples.
        """
        route = self.routes.get((subject, signal))
        if route is None or route.rest is not None or x.dtype not in TYPES or not x.numel():
            return None
        first, second = in_lines(x, axis), in_lines(y, axis)
        if first is None or second is None:
            return None
        held = route.hold(first.shape[2], x.dtype)
        return route, product_of(first, second, route.targets, held, whole)

    def close(self) -> None:
        """Nobody is to take a shorter way here any more."""
        for route in self.routes.values():
            if route is not None:
                route.open = False
        self.routes.clear()

    def forget_routes(self, kept: Iterable[Statistic]) -> None:
        """Statistics may have become others; between two steps, states of those that are ``kept`` move together."""
        self.close()
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
        holding, self._holding = self._holding, {}
        for held in holding:
            assert self._kernel is not None
            held.settle(self._kernel)

    def commit(self) -> None:
        """What the step has brought counts."""
        if self._touched and self._kernel is not None:
            if self._touched_still:
                self._snapshots.commit(self._kernel)
            if len(self._touched) > len(self._touched_still):
                self._vectors.commit(self._kernel)
            for held in self._held():
                held.commit(self._kernel)
                self._holding[held] = None
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
            Share((route.slot,), route.slot.alone[one], partials)
            for route in self._touched.values()
            for held in route.held.values()
            for one, partials in held.brought()
        ]
        self.discard()
        return [*shares.values(), *waited]

    def discard(self) -> None:
        """What the step has brought does not count."""
        if self._touched:
            self._vectors.discard()
            self._snapshots.discard()
            for held in self._held():
                held.discard()
            self._forget()

    def sizes(self) -> tuple[list[Slot], Tensor]:
        """Whose sizes somebody wants, and what the step has brought of each, ``[slots, 2]``: a sum and of how many.

        The list only grows, until another takes its place.
        """
        return self._sized, self._vectors.sizes

    def _held(self) -> Iterator[Held]:
        """What may hold rows of the step."""
        for route in self._touched.values():
            yield from route.held.values()

    def _forget(self) -> None:
        self._touched.clear()
        self._touched_still.clear()

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
        return Route(slot, brought, late, unknown, Targets(sums), still)

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
