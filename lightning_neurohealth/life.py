"""The life-cycle of every neuron: since when it gives nothing, and whether it came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.window import Window

MEASURES = ("on_rate", "zero_rate", "activation_std", "activation_rows")
"""What a life is made of; the slope is looked at where it is measured."""


@dataclass(eq=False)
class Life:
    """The neurons of one layer over the whole run so far. All are host tensors of shape ``[neurons]``.

    Deaths and returns are dated by windows: a neuron that fell silent did so between the training steps ``active`` and
    ``died``. Shorter windows date them better; a date within the window would cost one more number a neuron at each
    measured step.

    Attributes:
        silent: True for a neuron that gave one constant from a flat end of its activation, and so passed no gradient,
            on every row of the last window.
        rows: Rows since it last gave anything else, float64.
        measured: Measured steps since then.
        epochs: Share of an epoch's steps that were measured since then; 0 where the length of an epoch is not known.
        windows: Windows in a row in which it was silent.
        born: True if it was silent at the first measured step, before any update, and ever since.
        active: Training steps at the start of the last window in which it was active; -1 where there was none.
        died: Training steps at the start of the first window that it was silent in; -1 for one that is not silent.
        rate: Learning rate at the end of that window, NaN where there was none.
        deaths: How often it fell silent after it had been active.
        revived: Training steps at the end of the window in which it last came back; -1 for never.
    """

    silent: Tensor
    rows: Tensor
    measured: Tensor
    epochs: Tensor
    windows: Tensor
    born: Tensor
    active: Tensor
    died: Tensor
    rate: Tensor
    deaths: Tensor
    revived: Tensor

    @classmethod
    def of(cls, at_birth: Tensor) -> Life:
        """A life of which only the first measured step is known: which neurons were silent then."""
        number, whole = torch.zeros(len(at_birth), dtype=torch.float64), torch.zeros(len(at_birth), dtype=torch.int64)
        return cls(
            silent=at_birth.clone(),
            rows=number,
            measured=whole,
            epochs=number.clone(),
            windows=whole.clone(),
            born=at_birth.clone(),
            active=whole - 1,
            died=whole - 1,
            rate=torch.full_like(number, torch.nan),
            deaths=whole.clone(),
            revived=whole - 1,
        )

    def observe(self, silent: Tensor, rows: float, window: Window) -> None:
        """Take one window in which the layer has seen ``rows`` rows and these neurons were silent.

        Tensors are replaced and never changed, as copies share them.
        """
        start = window.seen - window.steps
        if not (silent.any() or self.windows.any() or self.born.any()):
            self.active = torch.full_like(self.active, start)  # all else stays as it is
            return
        began, ended = silent & (self.windows == 0), ~silent & (self.windows > 0)
        for name, more in (("rows", rows), ("measured", window.measured), ("epochs", window.epochs), ("windows", 1)):
            total = getattr(self, name)
            setattr(self, name, torch.where(silent, total + more, torch.zeros_like(total)))
        self.born = self.born & silent
        self.deaths = self.deaths + (began & ~self.born).long()
        self.active = self.active.where(silent, start)
        self.died = torch.where(began, start, self.died).where(silent, -1)
        self.rate = torch.where(began, window.learning_rate, self.rate).where(silent, torch.nan)
        self.revived = torch.where(ended, window.seen, self.revived)
        self.silent = silent

    def confirmed(self, windows: int = 3) -> Tensor:
        """Neurons that have been silent, without activity or gradient, for so many windows in a row, ``[neurons]``."""
        return self.silent & (self.windows >= windows)

    def to_dict(self) -> dict[str, Any]:
        """Indices of neurons in plain containers fit for JSON; empty where none was ever silent.

        ``silent``: by the training step at the start of the first window that they were silent in (they died in the
        window before), ``born``: of these, those that were silent from the first measured step on, ``revived``: by the
        training step at the end of the window in which they last came back, ``deaths``: how often one fell silent after
        it had been active.
        """
        deaths, born = int(self.deaths.sum()), self.born.nonzero().flatten().tolist()
        silent, revived = _by_step(self.silent, self.died), _by_step(self.revived >= 0, self.revived)
        if not (deaths or born or silent or revived):
            return {}
        return {"silent": silent, "born": born, "revived": revived, "deaths": deaths}

    def copy(self) -> Life:
        """A life of its own, which later windows do not change."""
        return replace(self)


def _by_step(which: Tensor, steps: Tensor) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    neurons = which.nonzero().flatten()
    for neuron, step in zip(neurons.tolist(), steps[neurons].tolist(), strict=True):
        found.setdefault(str(step), []).append(neuron)
    return found


def observe(
    lives: dict[str, Life],
    layers: Mapping[str, Layer],
    now: Mapping[str, Mapping[str, Any]],
    initial: Mapping[str, Mapping[str, Any]],
    window: Window,
) -> None:
    """Take the measures of one window, and of the first measured step, into the lives of all layers."""
    for name, silent in silent_neurons(layers, now).items():
        known = lives.get(name)
        if known is None or len(known.silent) != len(silent):
            at_birth = silent_neurons({name: layers[name]}, initial).get(name, silent)
            known = lives[name] = Life.of(silent if len(at_birth) != len(silent) else at_birth)
        known.observe(silent, float(now[name]["activation_rows"]), window)


def silent_neurons(layers: Mapping[str, Layer], numbers: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Neurons with a constant output and no slope, bool ``[neurons]``, of each layer of which that was measured."""
    names = [name for name in layers if name in numbers and all(measure in numbers[name] for measure in MEASURES)]
    if not names:
        return {}
    of_each = [numbers[name] for name in names]
    sizes = [len(measures["on_rate"]) for measures in of_each]
    on_rate, zero_rate, std = (torch.cat([m[name] for m in of_each]) for name in MEASURES[:3])
    slope = torch.cat([m["slope"] if "slope" in m else torch.zeros_like(m["on_rate"]) for m in of_each])
    flat_ends = [layers[name].function.dead_values for name in names]
    known = _spread(["slope" in m for m in of_each], sizes)
    proof = known | _spread([0.0 in ends for ends in flat_ends], sizes)  # else only an exact flat end at 0 is proof
    off = (zero_rate == 1) & (on_rate == 0)
    constant = off | ((std == 0) & known & _spread([bool(ends) for ends in flat_ends], sizes))
    silent = constant & (slope == 0) & proof
    return {name: own.clone() for name, own in zip(names, silent.split(sizes), strict=True)}


def _spread(of_layers: list[bool], sizes: list[int]) -> Tensor:
    return torch.tensor(of_layers).repeat_interleave(torch.tensor(sizes))
