"""Ablation: what the loss would be without a neuron."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.progress import Progress
from torch import nn

from lightning_neurohealth.interventions.ablated import Ablation, LayerAblation, intervals
from lightning_neurohealth.interventions.estimate import announcement, seconds_a_batch
from lightning_neurohealth.interventions.looking import chosen, look, tapped
from lightning_neurohealth.interventions.selection import Choice, report_of, select
from lightning_neurohealth.interventions.silencer import Ablator, Silencer
from lightning_neurohealth.interventions.task import Loss, Step, Task, batches, length_of, rows_of
from lightning_neurohealth.interventions.untouched import device_of, untouched
from lightning_neurohealth.report import Report
from lightning_neurohealth.settings import whole_number


@torch.no_grad()
def ablate(
    model: nn.Module,
    data: Any,
    *,
    layers: Sequence[str] | None = None,
    neurons: Choice = "all",
    report: Report | None = None,
    loss: Loss | None = None,
    step: Step | None = None,
    together: int = 16,
    max_batches: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Ablation:
    """Loss with a neuron silenced minus the loss without, in evaluation mode.

    A neuron is silenced by setting its activation to 0, behind the activation function, for every row. No weight is
    touched, and everything is as before afterwards, also after an error.

    Args:
        model: On one device.
        data: A DataLoader or any iterable of batches, or a Trainer (its validation data).
        layers: Glob patterns over names of layers; ``None`` for all hidden ones.
        neurons: ``"all"``; ``"suspects"`` for those that a finding of ``report`` names; a number for as many of each
            layer, drawn with ``seed``; or a mapping of layer to indices, where a list of indices is a group.
        report: Where suspects come from; ``None`` for the last report of the NeuronHealth of a Trainer.
        loss: ``loss(output, target)`` for batches ``(*inputs, target)``. By default a LightningModule's
            ``training_step``, or its ``validation_step`` where the first optimizes by itself; the loss that a model
            gives for a mapping; else cross-entropy where targets are whole numbers and mean squared error elsewhere.
        step: ``step(model, batch)``, the loss as a scalar, for everything else.
        together: Most ablations in one forward, on copies of the batch; fewer where memory runs out, one where the
            copies do not give what single ablations give. With ``training_step``, ``step`` or batches that are mappings
            the network that is called within runs on the copies, and the rest for each.
        max_batches: Use no more batches than that.
        seed: For the draw of neurons.
        progress: Show a bar, and before it how long it will take, from the first groups of three layers.

    Raises:
        TypeError, ValueError: An argument, a layer, an index or the data is not what it should be.
    """
    whole_number("together", together)
    if max_batches is not None:
        whole_number("max_batches", max_batches)
    device = device_of(model)
    task = Task.of(model, loss, step)
    with untouched(model, training=False):
        stream = batches(data, device, max_batches)
        first = next(stream)
        taps = look(model, lambda: task(model, first), Silencer)
        found = {layer.name: layer for layer in taps.finder.ordered()}
        if isinstance(neurons, dict) and layers is None:
            layers = ["*"]
        suspects = report_of(data) if report is None else report
        groups = select(chosen(found, layers, taps.finder.unknown), neurons, suspects, seed)
        groups = {name: groups[name] for name in found if name in groups}
        ablator = Ablator(model, task, taps, together)
        with tapped(taps), Progress(disable=not progress, transient=True) as bar:
            started = time.perf_counter()
            count = sum(map(len, groups.values()))
            length = length_of(data, max_batches)
            if progress:
                ablator.whole(first)
                seconds = seconds_a_batch(ablator, first, groups)
                bar.console.print(announcement(count, len(groups), length, seconds))
            shown = bar.add_task("Ablating", total=None if length is None else count * length)
            losses, rows, changes = [], [], {name: list[torch.Tensor]() for name in groups}
            for batch in itertools.chain([first], stream):
                losses.append(ablator.whole(batch))
                rows.append(rows_of(batch))
                for name, wanted in groups.items():
                    changes[name].append(ablator.changes(batch, name, wanted, losses[-1]))
                    bar.advance(shown, len(wanted))
            seconds = time.perf_counter() - started
    layers_found = {
        name: LayerAblation(tuple(groups[name]), *intervals(torch.stack(change), rows))
        for name, change in changes.items()
    }
    mean = sum(value * weight for value, weight in zip(losses, rows, strict=True)) / sum(rows)
    return Ablation(layers_found, mean, len(rows), sum(rows), ablator.forwards, seconds)
