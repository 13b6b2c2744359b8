"""Slope of the activation where its neurons work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.activations import derivatives
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.native.sums import ROWS, Sum, What
from lightning_neurohealth.statistics.base import Partials, Statistic, Subject
from lightning_neurohealth.statistics.rows import Rows


class Slopes(Statistic):
    """Σ \\|f'(z)\\| over rows."""

    fusable = True
    sums: Tensor

    def __init__(self, subject: Layer) -> None:
        super().__init__(subject)
        self.derivative, self.is_gate = subject.function.derivative, subject.function.is_gate
        self.state("sums", "sum")

    @classmethod
    def applies(cls, subject: Subject) -> bool:
        return isinstance(subject, Layer) and not subject.function.linear

    @property
    def constants(self) -> tuple[object, ...]:
        return (self.derivative,)

    def reduce(self, rows: Rows) -> Partials:
        return {"sums": rows.counted(torch.gt, 0.0) if self.is_gate else rows.sizes(self.derivative)}

    def native_sums(self) -> dict[str, Sum]:
        found = Sum(What.ABOVE, 0.0) if self.is_gate else _IN_C.get(_key(self.derivative))
        return {} if found is None else {"rows": ROWS, "sums": found}


def _key(derivative: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(derivative, partial):
        return derivative.func, derivative.args, *derivative.keywords.items()
    return derivative


_IN_C = {
    derivatives.sigmoid_slope: Sum(What.SLOPE_OF_SIGMOID),
    derivatives.tanh_slope: Sum(What.SLOPE_OF_TANH),
    (derivatives.aten, ("silu_backward",)): Sum(What.SLOPE_OF_SILU),
    (derivatives.aten, ("gelu_backward",), ("approximate", "none")): Sum(What.SLOPE_OF_GELU),
    (derivatives.aten, ("gelu_backward",), ("approximate", "tanh")): Sum(What.SLOPE_OF_GELU_TANH),
}
"""The slopes that are known in C."""
