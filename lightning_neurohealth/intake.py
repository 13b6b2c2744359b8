"""What becomes of a signal between its tap and the ledger: which rows of it count, and when they are summed."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.folding import thin, upright
from lightning_neurohealth.layers import Layer, Subject
from lightning_neurohealth.sharding import Part
from lightning_neurohealth.shortcut import ChangeShortcut, NativeShortcut, ProductShortcut, SomeShortcut, is_plain
from lightning_neurohealth.signals import FLOWS, OF_ELEMENTS, Signal

FLOWING = {Signal.ACTIVATION_GRADIENT, Signal.ACTIVATION_TIMES_GRADIENT}
"""Signals that carry the loss scale."""
OF_ROWS = FLOWING | {Signal.ACTIVATION, Signal.PREACTIVATION}
STILL = {
    *(Signal.PARAMETER_GRADIENT, *OF_ELEMENTS, Signal.GRADIENT_SAMPLE, Signal.UPDATE),
    *(Signal.WEIGHT, Signal.OUTGOING_WEIGHT, Signal.BIAS),
    *(Signal.WEIGHT_GRADIENT, Signal.NEURON_GRADIENT, Signal.WEIGHT_UPDATE),
    Signal.ACTIVATION_TIMES_GRADIENT,
}
"""Signals whose numbers nobody changes until they are counted: ours, and the weights between two steps."""
HALVES = (torch.float16, torch.bfloat16)
IN_C = {
    *OF_ROWS,
    *(Signal.RIGHT_ACTIVATION, Signal.WRONG_ACTIVATION),
    *(Signal.WEIGHT_GRADIENT, Signal.NEURON_GRADIENT, Signal.WEIGHT_UPDATE),
    *(Signal.WEIGHT, Signal.OUTGOING_WEIGHT, Signal.BIAS),
    *(Signal.PARAMETER_GRADIENT, *OF_ELEMENTS, Signal.UPDATE, Signal.GRADIENT_SAMPLE),
}
"""Signals that come at every measured step, or of every layer, of which C may take what it can."""
SOON = 1 << 16
"""Elements of rows that may wait to be summed together with others."""


class Intake:
    """Takes what the taps bring.

    Attributes:
        ledger: Where it is counted.
        most: Rows of one tensor that count at most; ``"auto"`` for all of what is small, ``None`` for all.
        phase: Moves on with each measured step, so that other rows count.
        repeats: True on a rank that gets the rows of another, which counts them.
        gradient_scale: What turns a gradient as it flows into that of the loss of the whole step.
    """

    ledger: Ledger

    def __init__(self, most: int | str | None) -> None:
        self.most = most
        self.phase = 0
        self.repeats = False
        self.gradient_scale: Tensor | float = 1.0

    def wants(self, signal: Signal) -> bool:
        """False where no measure needs the signal."""
        return signal in self.ledger.wanted

    def take(
        self, subject: Subject, signal: Signal, x: Tensor, part: Part | None = None, some: Tensor | None = None
    ) -> None:
        """Take ``[outer, neurons, inner]``.

        Args:
            part: Says which neurons those are, where they are not all.
            some: Which of ``[rows, neurons, 1]`` count, int64; ``None`` for all.
        """
        if signal is Signal.GLOBAL_GRADIENT:
            self.ledger.record_later(subject, signal, x)
            return
        own = signal in STILL
        if signal in OF_ROWS and isinstance(subject, Layer):
            part = subject.part
            if part is None and self.repeats:
                return
        in_c = signal in IN_C and part is None and type(x) is Tensor  # others may not have their numbers yet
        if in_c:
            scale = self.gradient_scale if signal in FLOWING else 1.0
            most = self.most if signal in FLOWS else None
            route = self.ledger.route(subject, signal)
            if route and self.ledger.native.take(route, x, most, self.phase, scale, self.ledger.step, some):
                return
        if some is not None:
            x = x[some]
        if signal in FLOWS and (self.most is not None or x.numel() <= SOON):
            rows = self.most if isinstance(self.most, int) else None
            x, own = upright(x) if self.most is None else thin(x, rows, self.phase), True
        if signal in FLOWING and not (isinstance(self.gradient_scale, float) and self.gradient_scale == 1.0):
            x = (x.float() if x.dtype in HALVES else x) * self.gradient_scale
        if part is None and own and x.numel() <= SOON:
            self.ledger.take_soon(subject, signal, x, rest=in_c)
        else:
            self.ledger.take(subject, signal, x, part, rest=in_c)

    def shortcut(self, subject: Subject, signal: Signal, x: Tensor, folded: Tensor) -> NativeShortcut | None:
        """What takes further tensors that lie in memory as ``x`` does; ``folded`` is that as ``take`` gets it."""
        if signal not in IN_C or getattr(subject, "part", None) is not None or folded.data_ptr() != x.data_ptr():
            return None
        if signal in OF_ROWS and (signal not in FLOWS or self.repeats):
            return None
        most = self.most if signal in FLOWS else None
        if signal is Signal.WEIGHT_GRADIENT and self.most is not None:
            most = "auto"
        way = self.ledger.native.way(subject, signal, folded, most)
        return None if way is None else NativeShortcut(self, self.ledger, x, way, signal in FLOWING)

    def change(self, layer: Layer, signal: Signal, x: Tensor, folded: Tensor) -> ChangeShortcut | None:
        """What takes further changes of weights that lie in memory as ``x`` does; ``folded`` is ``[1, neurons, …]``."""
        if signal not in IN_C or layer.part is not None or folded.data_ptr() != x.data_ptr() or not is_plain(x):
            return None
        way = self.ledger.native.change(layer, signal, folded)
        return None if way is None else ChangeShortcut(self, self.ledger, x, way)

    def some(self, layer: Layer, signal: Signal, x: Tensor) -> SomeShortcut | None:
        """What takes some of the rows of further ``[rows, neurons]`` that lie in memory as ``x`` does."""
        if signal not in IN_C or not is_plain(x):
            return None
        way = self.ledger.native.way(layer, signal, x.unsqueeze(2), None)
        return None if way is None else SomeShortcut(self.ledger, x, way)

    def products(
        self, layer: Layer, a: Tensor, gradient: Tensor, laid_out: tuple[Tensor, Tensor], axis: int
    ) -> ProductShortcut | None:
        """What takes the product of further tensors that lie in memory as these two do.

        Args:
            laid_out: The same, with the neurons on ``axis``.
        """
        plain = is_plain(a) and is_plain(gradient)
        if layer.part is not None or self.repeats or not plain or a.dtype != gradient.dtype:
            return None
        signal = Signal.ACTIVATION_TIMES_GRADIENT
        self.ledger.route(layer, signal)
        found = self.ledger.native.product(layer, signal, *laid_out, axis, whole=self.most is None)
        return None if found is None else ProductShortcut(self, self.ledger, a, gradient, *found)
