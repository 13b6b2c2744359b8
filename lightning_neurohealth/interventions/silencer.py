"""Silences neurons in a forward, by hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from lightning_neurohealth.interventions.looking import armed
from lightning_neurohealth.interventions.task import Task, rows_of, split
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.taps import Taps

Group = tuple[int, ...]
AGREE = 1e-4
"""Relative difference up to which a batched ablation counts as the single one: single precision over many sums."""


ROUNDING = 4
"""Units in the last place of the loss by which copies in one forward may differ from one alone."""


class CopiesDisagreeError(RuntimeError):
    """Copies of a batch behind one another are not what the model takes for rows of one batch."""


class Silencer(Taps):
    """Taps that set activations to 0 in the very tensor that the model goes on with.

    Attributes:
        layer: The layer to silence, ``None`` for none.
        groups: Neurons to silence, a group for each copy of the batch.
    """

    layer: str | None = None
    groups: Sequence[Group] = ()

    def _activation(self, layer: Layer, a: Tensor) -> None:
        super()._activation(layer, a)
        if layer.name != self.layer:
            return
        copies = len(self.groups)
        if copies > 1 and (a.shape[0] % copies or layer.axis % a.dim() == 0):
            raise CopiesDisagreeError(f"{layer.name} gives {tuple(a.shape)} for {copies} copies of a batch")
        for part, group in zip(a.chunk(copies), self.groups, strict=True):
            part.index_fill_(layer.axis, torch.tensor(group, device=a.device), 0)


class Ablator:
    """Losses of one batch with one group of neurons silenced after another.

    Args:
        taps: Have seen the model once, and are on.
        together: Most copies of a batch in one forward; shrinks where memory runs out.

    Attributes:
        forwards: How many forwards it has run.
        resolution: Least relative change that numbers of the loss's kind can show.
    """

    def __init__(self, model: nn.Module, task: Task, taps: Silencer, together: int) -> None:
        self.model, self.task, self.taps = model, task, taps
        self.together = together if task.by_output else 1
        self.forwards = 0
        self.resolution = 0.0
        self._batchable: dict[str, bool] = {}

    def loss(self, batch: Any, layer: str | None = None, group: Group = ()) -> Tensor:
        """The loss of ``batch``, a float64 scalar, with one group of ``layer`` silenced."""
        self.taps.layer, self.taps.groups = layer, [group]
        self.forwards += 1
        with armed(self.taps):
            found = self.task(self.model, batch)
        self.resolution = ROUNDING * torch.finfo(found.dtype).eps
        return found.double()

    def changes(self, batch: Any, layer: str, groups: Sequence[Group], whole: float) -> Tensor:
        """Those losses minus ``whole``, the loss with nothing silenced; 0 where no more than rounding is between."""
        change = self.losses(batch, layer, groups).cpu() - whole
        return torch.where(change.abs() <= self.resolution * abs(whole), 0.0, change)

    def losses(self, batch: Any, layer: str, groups: Sequence[Group]) -> Tensor:
        """The losses of ``batch`` with each of ``groups`` silenced, ``[groups]``; as many at once as go."""
        found: list[Tensor] = []
        while len(found) < len(groups):
            rest = groups[len(found) : len(found) + self.together]
            if len(rest) == 1 or not isinstance(batch, (tuple, list)) or not self._batchable.get(layer, True):
                found.append(self.loss(batch, layer, rest[0]))
                continue
            try:
                several = self._several(batch, layer, rest)
            except torch.OutOfMemoryError:
                self.together //= 2
                continue
            except (CopiesDisagreeError, RuntimeError, ValueError):
                several = None  # what ails single ablations too shows itself there
            if (
                several is not None
                and layer not in self._batchable
                and not self._as_single(several, batch, layer, rest)
            ):
                several = None
            self._batchable[layer] = several is not None
            found.extend(several if several is not None else ())
        return torch.stack(found)

    def _as_single(self, several: Tensor, batch: Any, layer: str, groups: Sequence[Group]) -> bool:
        """True if copies give what single ablations give: the one that stands out, and the last, which all the others
        stand before where rows are taken for steps in time."""
        odd = int((several - several.mean()).abs().argmax())
        return all(
            torch.isclose(several[i], self.loss(batch, layer, groups[i]), rtol=AGREE, atol=1e-7, equal_nan=True)
            for i in dict.fromkeys((odd, len(groups) - 1))
        )

    def _several(self, batch: Any, layer: str, groups: Sequence[Group]) -> Tensor:
        inputs, target = split(batch)
        rows, copies = rows_of(inputs), len(groups)
        self.taps.layer, self.taps.groups = layer, groups
        self.forwards += 1
        with armed(self.taps):
            output = self.model(*tree_map(lambda x: _repeated(x, rows, copies), inputs))
        self.taps.layer = None
        parts = [tree_map(lambda x, i=i: _part(x, rows, copies, i), output) for i in range(copies)]
        return torch.stack([self.task.of_output(part, target).double() for part in parts])


def _repeated(x: Any, rows: int, copies: int) -> Any:
    return torch.cat([x] * copies) if isinstance(x, Tensor) and x.dim() and len(x) == rows else x


def _part(x: Any, rows: int, copies: int, index: int) -> Any:
    if not isinstance(x, Tensor) or x.dim() == 0:
        return x
    if len(x) != rows * copies:
        raise CopiesDisagreeError(f"the model gives {tuple(x.shape)} for {copies} copies of {rows} rows")
    return x[index * rows : (index + 1) * rows]
