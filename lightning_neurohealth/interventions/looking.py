"""Finds the layers of a model in one forward, as the monitor does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, TypeVar

from torch import Tensor, nn

from lightning_neurohealth.compiled import eager
from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.patterns import Patterns
from lightning_neurohealth.sharding import Part
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.taps import Taps
from lightning_neurohealth.tracing.finder import LayerFinder

T = TypeVar("T", bound=Taps)


class Nobody:
    """A receiver that wants nothing."""

    def take(self, subject: Subject, signal: Signal, x: Tensor, part: Part | None = None) -> None:
        """Let it pass."""

    def wants(self, signal: Signal) -> bool:
        """Nothing."""
        return False

    def shortcut(self, layer: Subject, signal: Signal, x: Tensor, folded: Tensor) -> None:
        """There is nowhere to go."""

    def products(self, layer: Subject, a: Tensor, gradient: Tensor, laid_out: tuple[Tensor, Tensor], axis: int) -> None:
        """Nor there."""


@contextmanager
def tapped(taps: T) -> Iterator[T]:
    """Hooks on for a block, and off after it."""
    taps.attach()
    eager.enter(taps)
    try:
        yield taps
    finally:
        taps.remove()
        eager.leave(taps)


@contextmanager
def armed(taps: Taps) -> Iterator[None]:
    """One forward that the taps see."""
    taps.arm()
    try:
        yield
    finally:
        taps.disarm()


def look(model: nn.Module, run: Callable[[], Any], make: Callable[..., T]) -> T:
    """Taps of the kind that ``make`` builds, after one forward by ``run`` in which they have found the layers."""
    taps = make(model, LayerFinder(model, Patterns(None, None), seeks_heads=False), Nobody())
    with tapped(taps), armed(taps):
        run()
    return taps


def chosen(layers: dict[str, Layer], patterns: Sequence[str] | None, missed: dict[str, str]) -> dict[str, Layer]:
    """The layers that match a glob pattern; all hidden ones where none is given.

    Raises:
        TypeError: ``patterns`` is no list of strings.
        ValueError: A pattern matches no layer, or there is none at all.
    """
    if patterns is not None and (isinstance(patterns, str) or not all(isinstance(p, str) for p in patterns)):
        raise TypeError(f'layers={patterns!r}: must be a list of glob patterns, e.g. ["encoder.*"]')
    wanted = Patterns(patterns, None)
    for pattern in wanted.unmatched(layers):
        raise unknown_layer(pattern, layers, missed)
    found = {n: layer for n, layer in layers.items() if wanted.wanted(n) and (patterns or not layer.output)}
    if not found:
        raise ValueError("the model has no hidden layer; name layers to take its output, layers=[...]")
    return found


def unknown_layer(name: str, layers: Sequence[str] | dict[str, Any], missed: dict[str, str]) -> ValueError:
    """An error that says what there is."""
    near = get_close_matches(name, layers, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(layers) or 'none'}"
    why = f" ({missed[name]})" if name in missed else ""
    return ValueError(f"no layer is called {name!r}{why}; {hint}")
