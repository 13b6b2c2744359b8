"""How long an ablation will take, from its first groups."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_neurohealth.interventions.silencer import Ablator, Group
from lightning_neurohealth.reporting.history import spread

LAYERS = 3
"""Of so many layers the first groups are timed: of the first, the last, and those between."""


def seconds_a_batch(ablator: Ablator, batch: Any, groups: Mapping[str, Sequence[Group]]) -> float:
    """What one batch takes, from the first groups of some layers, which are ablated twice: the first time it is also
    seen whether they go together."""
    names = list(groups)
    taken = done = 0.0
    for name in (names[i] for i in spread(len(names), LAYERS)):
        some = groups[name][: ablator.together]
        ablator.losses(batch, name, some)
        started = time.perf_counter()
        ablator.losses(batch, name, some)
        taken += time.perf_counter() - started
        done += len(some)
    return taken / done * sum(map(len, groups.values()))


def announcement(count: int, layers: int, length: int | None, seconds: float) -> str:
    """What is going to be done, and how long it takes where a batch takes ``seconds``.

    >>> announcement(64, 2, 10, 3.2)
    'Ablating 64 neurons or groups of 2 layers on 10 batches: about 32 s'
    >>> announcement(64, 2, 200, 90.0)
    'Ablating 64 neurons or groups of 2 layers on 200 batches: about 5 h'
    >>> announcement(64, 2, None, 3.2)
    'Ablating 64 neurons or groups of 2 layers: about 3.2 s a batch'
    """
    what = f"Ablating {count:,} neurons or groups of {layers} layers"
    if length is None:
        return f"{what}: about {_words(seconds)} a batch"
    return f"{what} on {length:,} batches: about {_words(length * seconds)}"


def _words(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds:.0f} s"
