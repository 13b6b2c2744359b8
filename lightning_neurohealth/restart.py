"""All that a monitor knows, as a checkpoint may hold it, and back: the run goes on as if it had never been cut."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lightning_neurohealth import ranks
from lightning_neurohealth.counting import bookkeeping
from lightning_neurohealth.counting.merging import Merged
from lightning_neurohealth.frozen import freeze, thaw
from lightning_neurohealth.layers import Subject
from lightning_neurohealth.measures.saturation_rate import SaturationRate
from lightning_neurohealth.memory import fitting, recall, remembered
from lightning_neurohealth.notes import unseen_by
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.roster import Facts
from lightning_neurohealth.tracing.finder import LayerFinder

if TYPE_CHECKING:
    from lightning_neurohealth.monitor import Monitor

VERSION = 1
COUNTERS = ("steps", "_window_start", "measured", "index", "_first_kept")


def state_of(monitor: Monitor, merged: Merged) -> dict[str, Any]:
    """Tensors and plain containers; equal on all ranks but for the sampled elements of sharded weights."""
    notes = monitor.ledger.notes
    state = {
        "version": VERSION,
        "counters": {name: getattr(monitor, name) for name in COUNTERS},
        "every": monitor.budget.every,
        "measures": sorted(monitor.settings.chosen_measures),
        "saturation_cutoff": monitor.settings.saturation_cutoff,
        "parameters": monitor.parameters.names,
        "samples": monitor.parameters.last_samples,
        "called": sorted({name for note in notes for name in note["called"]}),
        "unknown": {name: why for name, why in unseen_by(notes).items() if name != "*"},
        "failed_measures": dict(monitor.failed_measures),
        "unanswered": monitor.answers.reason,
        "progress": {f.name: getattr(monitor.progress, f.name) for f in fields(monitor.progress)},
        "initial": monitor.initial,
        "diagnosis": remembered(monitor.diagnosis),
        "ledger": bookkeeping.state_of(monitor.ledger, merged),
    }
    return freeze(state, shared={"progress": monitor.progress})


def restore(monitor: Monitor, frozen: Mapping[str, Any]) -> None:
    """Go on from a state, as far as it fits the model and the settings of now; what does not is named in one warning.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, ImportError: It is no state that this version has written.
    """
    state = thaw(frozen, shared={"progress": monitor.progress})
    if state["version"] != VERSION:
        raise ValueError(f"the state has version {state['version']}; this one reads {VERSION}")
    finder, parameters = monitor.finder, monitor.parameters
    layers = [facts for facts in state["ledger"]["layers"] if _fits(facts, finder, parameters)]
    same = state["parameters"] == parameters.names
    places = {facts["name"] for facts in layers} | finder.modules.keys() | set(parameters.names)

    for name in COUNTERS:
        setattr(monitor, name, state["counters"][name])
    for name, value in state["progress"].items():
        setattr(monitor.progress, name, value)
    if monitor.budget.limit is not None:
        monitor.budget.every = max(monitor.budget.least, state["every"])
    monitor.initial = fitting(state["initial"], places)
    monitor.taps.called.update(finder.modules.keys() & state["called"])
    for name, why in state["unknown"].items():
        if name.split("#")[0] in finder.modules:
            finder.unknown.setdefault(name, why)
    recall(monitor.diagnosis, state["diagnosis"], places)
    others: list[Subject] = [monitor.run, *([parameters] if same else [])]
    monitor.begin_ledger()
    bookkeeping.restore(monitor.ledger, state["ledger"], layers, others, monitor.run.device, sums=ranks.rank() == 0)
    samples = state["samples"]
    here = same and not parameters.pieces.any  # the samples of split parameters are of the rank that saved
    if here and samples is not None and samples.shape == getattr(parameters.last_samples, "shape", None):
        parameters.last_samples = samples.to(parameters.device)

    monitor.failed_measures.update(state["failed_measures"])
    monitor.answers.reason = state["unanswered"]
    gone = [facts["name"] for facts in state["ledger"]["layers"] if facts not in layers]
    _warn(
        {
            "layers that the model has not": gone,
            "measures that are not chosen": sorted(set(state["measures"]) - monitor.settings.chosen_measures.keys()),
            "what saturation_rate has counted from another cut-off": _other_cutoff(monitor, state),
            "what was seen of the parameters, which are others": [] if same else ["all"],
        }
    )


def _other_cutoff(monitor: Monitor, state: Mapping[str, Any]) -> list[str]:
    known = {SaturationRate.name} & monitor.settings.chosen_measures.keys() & set(state["measures"])
    other = state["saturation_cutoff"] != monitor.settings.saturation_cutoff
    return [f"{state['saturation_cutoff']:g}"] if known and other else []


def _fits(facts: Facts, finder: LayerFinder, parameters: Parameters) -> bool:
    """True if the model may still have this layer; calls of functions show only when they come."""
    call = facts["name"].split("#")[0]
    if not finder.patterns.wanted(facts["name"]):
        return False
    if facts["weight"] is None:
        function = facts["activation"] == facts["function"]["name"] or facts.get("channels")
        return call in finder.modules or bool(function and call.rpartition(".")[0] in finder.modules)
    if facts["weight"] not in parameters.names:
        return False
    weight = parameters.tensors[parameters.names.index(facts["weight"])]
    axis = facts["weight_axis"]
    if axis is None or id(weight) in parameters.slices:
        return True
    return bool(axis < weight.dim() and weight.shape[axis] == facts["neurons"])


def _warn(dropped: Mapping[str, list[str]]) -> None:
    parts = [f"{what} ({', '.join(names)})" for what, names in dropped.items() if names]
    if parts:
        warnings.warn(
            f"NeuronHealth: the checkpoint is of another model or other settings; left out: {'; '.join(parts)}",
            RuntimeWarning,
            stacklevel=2,
        )
