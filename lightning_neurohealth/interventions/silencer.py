"""Silences neurons in a forward, by hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth.interventions.looking import armed
from lightning_neurohealth.interventions.stages import CopiesDisagreeError, Stage, Stages
from lightning_neurohealth.interventions.task import Task, rows_of
from lightning_neurohealth.layers import Layer, axis_in
from lightning_neurohealth.taps import Taps

Group = tuple[int, ...]
AGREE = 1e-4
"""Relative difference up to which a batched ablation counts as the single one: single precision over many sums."""

ROUNDING = 4
"""Units in the last place of the loss by which copies in one forward may differ from one alone."""


class Silencer(Taps):
    """Taps that set activations to 0 in the very tensor that the model goes on with.

    Attributes:
        layer: The layer to silence, ``None`` for none.
        groups: Neurons to silence, a group for each copy of the batch.
        silenced: How often they were.
    """

    layer: str | None = None
    groups: Sequence[Group] = ()
    silenced = 0

    def _activation(self, layer: Layer, a: Tensor) -> None:
        super()._activation(layer, a)
        if layer.name != self.layer:
            return
        copies = len(self.groups)
        if copies > 1 and (a.shape[0] % copies or axis_in(layer, a) == 0):
            raise CopiesDisagreeError(f"{layer.name} gives {tuple(a.shape)} for {copies} copies of a batch")
        self.silenced += 1
        for part, group in zip(a.chunk(copies), self.groups, strict=True):
            part.index_fill_(axis_in(layer, part), torch.tensor(group, device=a.device), 0)


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
        self.model, self.task, self.taps, self.together = model, task, taps, together
        self.stages = Stages(taps.finder.modules, taps.finder.layers.values())
        self.forwards = 0
        self.resolution = 0.0
        self._batchable: dict[str, bool] = {}

    def whole(self, batch: Any) -> float:
        """The loss of ``batch`` with nothing silenced; comes before its ablations."""
        with self.stages.watched(rows_of(batch)):
            return float(self.loss(batch))

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
        stage = self.stages.of(layer)
        while len(found) < len(groups):
            rest = groups[len(found) : len(found) + self.together]
            if len(rest) == 1 or stage is None or not self._batchable.get(layer, True):
                found.append(self.loss(batch, layer, rest[0]))
                continue
            try:
                several = self._several(batch, stage, layer, rest)
            except torch.OutOfMemoryError:
                self.together //= 2
                continue
            except Exception:  # what ails single ablations too shows itself there
                several = None
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

    def _several(self, batch: Any, stage: Stage, layer: str, groups: Sequence[Group]) -> Tensor:
        """One forward of the stage for all of ``groups``; then the rest of the step for each."""
        self.taps.layer, self.taps.groups, self.taps.silenced = layer, groups, 0
        self.forwards += 1
        with armed(self.taps):
            outputs = stage.run(len(groups))
        self.taps.layer = None
        if not self.taps.silenced:
            raise CopiesDisagreeError(f"{layer} stands outside what was run for all copies")
        found = []
        for output in outputs:
            with stage.giving(output):
                found.append(self.task(self.model, batch).double())
        return torch.stack(found)
