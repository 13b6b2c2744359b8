"""The loss that a network should have before it has learnt anything."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_neurohealth.tracing.origins import function_name


class ExpectedLoss(TorchFunctionMode):
    """Watches which loss is computed, and knows what it is for a network that knows nothing.

    log(classes) for cross-entropy, log 2 for binary cross-entropy, the variance of the targets for squared errors.

    Attributes:
        value: That loss, NaN where none of these was computed, or several.
        kind: Name of the function.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kind = ""
        self._found: list[tuple[str, float]] = []

    @property
    def value(self) -> float:
        """The expected loss."""
        return self._found[0][1] if len(self._found) == 1 else math.nan

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        if name in _EXPECTED and kwargs.get("reduction", "mean") == "mean":
            output = args[0] if args else kwargs.get("input")
            target = args[1] if len(args) > 1 else kwargs.get("target")
            if isinstance(output, Tensor) and isinstance(target, Tensor):
                with torch._C.DisableTorchFunction(), torch.no_grad():
                    self._found.append((name, _EXPECTED[name](output.detach(), target.detach())))
                self.kind = name
        return func(*args, **kwargs)


def _classes(output: Tensor, target: Tensor) -> float:
    return math.log(max(output.shape[1 if output.dim() > 1 else 0], 1))


def _variance(output: Tensor, target: Tensor) -> float:
    return float(target.float().var(correction=0))


_EXPECTED = {
    "cross_entropy": _classes,
    "nll_loss": _classes,
    "binary_cross_entropy": lambda output, target: math.log(2),
    "binary_cross_entropy_with_logits": lambda output, target: math.log(2),
    "mse_loss": _variance,
}
