"""The shortest way from a hook to the sums: among a network's own kernels, every line of Python costs cache misses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from lightning_neurohealth.counting.native_sums import NativeSums, Route
from lightning_neurohealth.folding import Pick
from lightning_neurohealth.native import Plan

if TYPE_CHECKING:
    from lightning_neurohealth.intake import Intake


class Straight:
    """Takes one signal of one layer for as long as its tensors lie in memory as the first one did.

    Args:
        x: The first one, in its own shape.
        scaled: True if it carries the loss scale.
    """

    __slots__ = ("_dtype", "_intake", "_native", "_pick", "_plan", "_route", "_scaled", "_shape", "_strides")

    def __init__(
        self, intake: Intake, x: Tensor, native: NativeSums, way: tuple[Route, Pick, Plan], scaled: bool
    ) -> None:
        self._intake, self._native, self._scaled = intake, native, scaled
        self._route, self._pick, self._plan = way
        self._shape, self._strides, self._dtype = x.shape, x.stride(), x.dtype

    def take(self, x: Tensor) -> bool:
        """Add up what is wanted of ``x``; false, and nothing is done, where it has to be looked at more closely."""
        if (
            type(x) is not Tensor
            or x.shape != self._shape
            or x.dtype is not self._dtype
            or not self._route.open
            or is_functorch_wrapped_tensor(x)
            or x.stride() != self._strides
            or x.is_neg()
        ):
            return False
        intake = self._intake
        scale = float(intake.gradient_scale) if self._scaled else 1.0
        self._native.add(self._route, self._pick, self._plan, x, intake.phase, scale, intake.ledger.step)
        return True
