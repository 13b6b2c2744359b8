"""The shortest way from a hook to the sums: among a network's own kernels, every line of Python costs cache misses."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from lightning_neurohealth.counting.changes import Change
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.counting.products import Product
from lightning_neurohealth.counting.routes import Route, Way


class Moment(Protocol):
    """What changes from step to step.

    Attributes:
        phase: Says which rows count.
        gradient_scale: What turns a gradient as it flows into that of the loss of the whole step.
    """

    phase: int
    gradient_scale: Tensor | float


class NativeShortcut:
    """Takes one signal of one subject for as long as its tensors lie in memory as the first one did.

    Args:
        x: The first one, in its own shape.
        scaled: True if it carries the loss scale.
    """

    __slots__ = ("_dtype", "_ledger", "_moment", "_route", "_scaled", "_shape", "_strides", "_way")

    def __init__(self, moment: Moment, ledger: Ledger, x: Tensor, way: tuple[Route, Way], scaled: bool) -> None:
        self._moment, self._ledger, self._scaled = moment, ledger, scaled
        self._route, self._way = way
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
        moment, ledger = self._moment, self._ledger
        scale = float(moment.gradient_scale) if self._scaled else 1.0
        ledger.native.add(self._route, self._way, x, moment.phase, scale, ledger.step)
        return True


class SomeShortcut:
    """Takes some of the rows of ``[rows, neurons]`` of one layer for as long as they lie in memory as the first did."""

    __slots__ = ("_dtype", "_ledger", "_route", "_shape", "_strides", "_way")

    def __init__(self, ledger: Ledger, x: Tensor, way: tuple[Route, Way]) -> None:
        self._ledger, (self._route, self._way) = ledger, way
        self._shape, self._strides, self._dtype = x.shape, x.stride(), x.dtype

    def take(self, x: Tensor, some: Tensor) -> bool:
        """Add up ``some`` of the rows, int64; false, and nothing is done, for a closer look."""
        if (
            not self._route.open
            or x.shape != self._shape
            or x.dtype is not self._dtype
            or x.stride() != self._strides
            or not (is_plain(x) and some.is_cpu and some.is_contiguous())
        ):
            return False
        if len(some):
            self._ledger.native.add_some(self._route, self._way, x, some, self._ledger.step)
        return True


class ProductShortcut:
    """Takes the product of two tensors of one layer for as long as they lie in memory as the first ones did.

    Args:
        product: How those are multiplied.
    """

    __slots__ = ("_dtype", "_ledger", "_moment", "_product", "_route", "_shapes", "_strides")

    def __init__(
        self, moment: Moment, ledger: Ledger, a: Tensor, gradient: Tensor, route: Route, product: Product
    ) -> None:
        self._moment, self._ledger, self._route, self._product = moment, ledger, route, product
        self._shapes, self._strides, self._dtype = (a.shape, gradient.shape), (a.stride(), gradient.stride()), a.dtype

    def take(self, a: Tensor, gradient: Tensor) -> bool:
        """Add up what is wanted of ``a`` times ``gradient``; false, and nothing is done, for a closer look."""
        if (
            not self._route.open
            or a.stride() != self._strides[0]
            or gradient.stride() != self._strides[1]
            or (a.shape, gradient.shape) != self._shapes
            or not a.dtype is gradient.dtype is self._dtype
            or not (is_plain(a) and is_plain(gradient))
        ):
            return False
        moment, ledger = self._moment, self._ledger
        scale = float(moment.gradient_scale)
        ledger.native.add_products(self._route, self._product, a, gradient, moment.phase, scale, ledger.step)
        return True


class ChangeShortcut:
    """Takes how a weight changes for as long as it lies in memory as it did at first.

    Args:
        x: The weight, in its own shape.
    """

    __slots__ = ("_change", "_dtype", "_ledger", "_moment", "_route", "_shape", "_strides")

    def __init__(self, moment: Moment, ledger: Ledger, x: Tensor, way: tuple[Route, Change]) -> None:
        self._moment, self._ledger = moment, ledger
        self._route, self._change = way
        self._shape, self._strides, self._dtype = x.shape, x.stride(), x.dtype

    def keep(self, x: Tensor) -> bool:
        """Keep what is looked at of ``x`` as it is; false, and nothing is done, for a closer look."""
        if not (self._route.open and self._fits(x)):
            return False
        self._ledger.native.keep(self._change, x, self._moment.phase)
        return True

    def take(self, x: Tensor) -> None:
        """Add up how that has changed; nothing where it lies otherwise now."""
        if self._route.open and self._fits(x):
            self._ledger.native.add_change(self._route, self._change, x, self._ledger.step)

    def _fits(self, x: Tensor) -> bool:
        same = x.dtype is self._dtype and x.shape == self._shape and x.stride() == self._strides
        return same and is_plain(x)


def is_plain(x: Tensor) -> bool:
    """True if the numbers of ``x`` stand in memory of the CPU as they are."""
    return type(x) is Tensor and x.is_cpu and not is_functorch_wrapped_tensor(x) and not x.is_neg()
