"""The life-cycles of a run's neurons, window by window, as arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from lightning_neurohealth.life import Life
from lightning_neurohealth.packing import pack, unpack
from lightning_neurohealth.reporting.history import History, spread
from lightning_neurohealth.reporting.thin_layers import ThinLayers

FIELDS = tuple(field.name for field in fields(Life))
ENTRIES = 80_000
"""At most so many lives of single neurons, about 5 MB; of more, some windows between the first and the last are left
out."""


def packed_lives(history: History) -> dict[str, dict[str, Any]]:
    """Layer to the windows in which its neurons were followed, what ``active`` is of all that are, and the lives of
    those that were ever silent: ``[lives, 2 + fields]``, of each its window, its neuron and the fields of
    :class:`~lightning_neurohealth.life.Life`."""
    found: dict[int, dict[str, Tensor]] = {}
    starts: dict[int, dict[str, int]] = {}
    for place, report in enumerate(history.reports):
        if isinstance(report.layers, ThinLayers):
            continue  # lives go with the numbers of single neurons
        known = {name: layer.life for name, layer in report.layers.items() if layer.life is not None}
        found[place] = {name: _entries(place, life) for name, life in known.items()}
        starts[place] = {name: max(life.active.tolist(), default=-1) for name, life in known.items()}
    most = max((sum(map(len, lives.values())) for lives in found.values()), default=0)
    places = [list(found)[i] for i in spread(len(found), max(2, ENTRIES // max(most, 1)))]
    packed: dict[str, dict[str, Any]] = {}
    for name in history.layers:
        windows = [place for place in places if name in found[place]]
        if windows:
            lives = torch.cat([found[place][name] for place in windows])
            packed[name] = {
                "windows": windows,
                "active": [starts[place][name] for place in windows],
                "lives": pack(lives),
            }
    return packed


def unpacked_lives(packed: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[int, dict[str, Life]]:
    """Window to layer to life; ``sizes`` says how many neurons each layer has."""
    found: dict[int, dict[str, Life]] = {}
    for name, entry in packed.items():
        lives = unpack(entry["lives"])
        uneventful = Life.of(torch.zeros(sizes[name], dtype=torch.bool))  # shared: most layers are so in most windows
        for window, start in zip(entry["windows"], entry["active"], strict=True):
            now = lives[lives[:, 0] == window] if len(lives) else lives
            still = replace(uneventful, active=torch.tensor(start).expand(sizes[name]))
            found.setdefault(window, {})[name] = _life(now[:, 1:], still) if len(now) else still
    return found


def _entries(place: int, life: Life) -> Tensor:
    told = (life.silent | life.born | (life.deaths > 0) | (life.revived >= 0)).nonzero().flatten()
    columns = [torch.full_like(told, place), told, *(getattr(life, name)[told] for name in FIELDS)]
    return torch.stack([column.to(torch.float32) for column in columns], 1)


def _life(entries: Tensor, uneventful: Life) -> Life:
    told, neurons = {name: getattr(uneventful, name).clone() for name in FIELDS}, entries[:, 0].long()
    for field, values in zip(told.values(), entries[:, 1:].unbind(1), strict=True):
        field[neurons] = values.to(field.dtype)
    return replace(uneventful, **told)
