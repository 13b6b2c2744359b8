"""A model of which modules or parameters are replaced while it is watched: what is new is watched from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from lightning_neurohealth.activations import from_module
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.diagnosis import Diagnosis
from lightning_neurohealth.layers import Layer, is_owner
from lightning_neurohealth.measuring import Numbers
from lightning_neurohealth.memory import fitting
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.tracing.finder import LayerFinder

if TYPE_CHECKING:
    from lightning_neurohealth.monitor import Monitor

SHOWN = 3
OFTEN = 10
"""Measured steps in a row after which a model is taken for one that builds its modules anew in every step."""
RESTLESS = "it builds modules anew all the time; those that it had at first are watched"


class Structure:
    """The modules and parameters of a model at one moment, which are looked at again before every measured step."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._look()
        self._counting = self._that_count()

    def _look(self) -> None:
        model = self._model
        self._held = [(module._modules, module._parameters) for module in model.modules()]
        self._parts = [[*modules.values(), *parameters.values()] for modules, parameters in self._held]
        self._known = [[*map(id, parts)] for parts in self._parts]  # none is used anew: the parts are kept

    def _that_count(self) -> list[tuple[str, object]]:
        """What layers are made of: a loss that is built anew in every step is no part of it."""
        parts: list[tuple[str, object]] = []
        for name, module in self._model.named_modules():
            own = [(f"{name}.{n}", p) for n, p in module._parameters.items()]
            if own or is_owner(module) or from_module(module) is not None:
                parts += [(name, module), *own]
        return parts

    @property
    def is_still(self) -> bool:
        """True if the modules and parameters that count are the same."""
        same = all(
            [*map(id, modules.values()), *map(id, parameters.values())] == known
            for (modules, parameters), known in zip(self._held, self._known, strict=True)
        )
        if not same:
            now = self._that_count()
            same = len(now) == len(self._counting) and all(
                name == other and part is before
                for (name, part), (other, before) in zip(now, self._counting, strict=True)
            )
            if same:
                self._look()
        return same


def look_again(monitor: Monitor) -> None:
    """Watch the model as it is now, before a measured step.

    What was measured in the window so far of layers that are others now is left out of its report, which says so.
    """
    if monitor.failure is not None or monitor.renewals > OFTEN or monitor.is_still:
        return
    in_a_row = monitor.steps - monitor.renewed_at <= monitor.budget.every
    monitor.renewals = monitor.renewals + 1 if in_a_row else 1
    monitor.renewed_at = monitor.steps
    if monitor.renewals > OFTEN:
        monitor.left_out["*"] = RESTLESS
        return
    finder, parameters, taps, ledger = monitor.finder, monitor.parameters, monitor.taps, monitor.ledger
    taps.remove()
    monitor.watch(taps.model, taps.hook_root)
    monitor.taps.backward = taps.backward
    gone = _gone(finder, monitor.finder) | _lost(parameters, monitor.parameters)
    same = parameters.names == monitor.parameters.names and not _lost(parameters, monitor.parameters)
    _keep(monitor, ledger, gone, parameters if same else None)
    _forget(monitor.diagnosis, gone)
    initial = fitting(monitor.initial, _Others(gone))
    monitor.initial = initial if initial.layers and initial.parameters else Numbers()
    if monitor.drop_window():
        names = sorted(gone & finder.modules.keys()) or sorted(gone)
        some = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        what = "them" if same else "them and of the parameters"
        at = f"modules were replaced at step {monitor.steps} ({some})"
        monitor.left_out["*"] = f"{at}; of {what} nothing before it is in here"


class _Others:
    """All names but some."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def __contains__(self, name: object) -> bool:
        return name not in self.names


def _gone(old: LayerFinder, new: LayerFinder) -> set[str]:
    """Modules that are others now or none, and the layers of which they were a part."""
    modules = {name for name, module in old.modules.items() if new.modules.get(name) is not module}
    return modules | {layer.name for layer in old.layers.values() if modules & _parts(layer)}


def _parts(layer: Layer) -> set[str | None]:
    return {layer.owner, layer.activation, layer.name, layer.name.split("#")[0]}


def _lost(old: Parameters, new: Parameters) -> set[str]:
    now = dict(zip(new.names, new.tensors, strict=True))
    return {name for name, p in zip(old.names, old.tensors, strict=True) if now.get(name) is not p}


def _keep(monitor: Monitor, old: Ledger, gone: set[str], parameters: Parameters | None) -> None:
    """Go on with the losses, with layers that are none of ``gone``, and with ``parameters`` where they are the same."""
    old.settle()
    owed = old.first_owed and (parameters is not None or not monitor._first_kept)
    layers = [
        layer
        for layer, _ in old.all()
        if isinstance(layer, Layer) and not layer.superseded and not gone & _parts(layer)
    ]
    monitor.begin_ledger()
    ledger = monitor.ledger
    for before, now in ((monitor.run, monitor.run), (parameters, monitor.parameters)):
        if before is not None and before in old.books:
            ledger.books[now] = ledger.others[now] = book = old.books[before]
            ledger.keep_first_of(old, book)
    if parameters is not None:
        monitor.parameters.last_samples = parameters.last_samples
    ledger.inherit(old, layers, monitor.run.device)
    ledger.first_owed = owed  # where the parameters are left out, the first step is too
    if not owed:
        ledger.first.clear()
    monitor._first_kept |= not owed


def _forget(diagnosis: Diagnosis, gone: set[str]) -> None:
    kept = _Others(gone)
    diagnosis.lives = {name: life for name, life in diagnosis.lives.items() if name in kept}
    diagnosis._streaks = {key: streak for key, streak in diagnosis._streaks.items() if key[1] in kept}
    diagnosis._since = {key: since for key, since in diagnosis._since.items() if key[1] in kept}
    history = [(window, fitting(numbers, kept)) for window, numbers in diagnosis._history]
    diagnosis._history = [(window, numbers) for window, numbers in history if numbers.layers and numbers.parameters]
