"""Which layer a call belongs to that runs again while backward does, in a stretch that a checkpoint has dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_neurohealth.activations import Activation
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.tracing.calls import Calls
from lightning_neurohealth.tracing.composed import Composed
from lightning_neurohealth.tracing.origins import function_name, tensors_in
from lightning_neurohealth.tracing.stretches import UNHEARD, stretch


class Recall:
    """Finds the layers of functions by their place in the stretch, and knows of which layers no gradient is heard.

    Args:
        calls: Of the step.
        functions: The layers of functions, by call.
        composed: What activations that are written out were found to be.
        unknown: Takes the layers whose gradients are out of sight, each with the reason.
    """

    def __init__(
        self, calls: Calls, functions: Mapping[str, Layer], composed: Composed, unknown: dict[str, str]
    ) -> None:
        self._calls, self._functions, self._verdicts, self._unknown = calls, functions, composed.verdicts, unknown
        self._composed = Composed()
        self._heard: set[tuple[str, str | None]] = set()

    def clear(self) -> None:
        """Forget the tensors of a step."""
        self._composed.clear()

    def function(self, caller: str | None, function: Activation) -> Layer | None:
        """The layer of a function that is applied again within ``caller``."""
        name = f"{caller}.{function.name}" if caller else function.name
        return self._functions.get(self._calls.renumbered(name, self._functions))

    def product(
        self, caller: str | None, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> Layer | None:
        """The layer of an activation that is written out, and computed again within ``caller``."""
        if not isinstance(out, Tensor):
            return None
        tensors = tensors_in((*args, *kwargs.values()))
        if self._composed.follow(function_name(function), tensors, out) is None:
            return None
        site = self._calls.renumbered(f"{caller}.product" if caller else "product", self._verdicts)
        found = self._verdicts.get(site)
        return None if found is None else self.function(caller, found)

    def applied(self, function: Activation, z: Tensor, out: Tensor) -> None:
        """An activation module, which may be a part of one that is written out, has read ``z`` again."""
        self._composed.follow(function.name, [z], out)

    def unheard(self, layer: Layer) -> None:
        """The activation of ``layer`` was computed without a graph."""
        if (layer.name, layer.activation) not in self._heard and stretch() is not None:
            self._unknown.setdefault(layer.name, UNHEARD)

    def heard(self, layer: Layer) -> None:
        """The activation of ``layer`` waits for a gradient."""
        if (layer.name, layer.activation) not in self._heard:
            self._heard.add((layer.name, layer.activation))
            if self._unknown.get(layer.name) == UNHEARD:
                del self._unknown[layer.name]
