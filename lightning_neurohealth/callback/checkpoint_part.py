"""Our part of a checkpoint."""

from __future__ import annotations

import warnings
from typing import Any

from lightning_neurohealth.monitor import Monitor

KEY = "neurohealth"
"""Where a checkpoint keeps our states, one for each callback of ours in the Trainer: two may have equal settings."""


class CheckpointPart:
    """What one callback saves and loads.

    Attributes:
        last: State of the last run, to be saved when its monitor is gone.
    """

    def __init__(self) -> None:
        self.last: dict[str, Any] | None = None
        self._loaded: dict[str, Any] | None = None

    def begin(self, fit: bool) -> None:
        """Another run begins."""
        self._loaded = None
        if fit:
            self.last = None

    def save(self, checkpoint: dict[str, Any], place: str, monitor: Monitor | None, alone: bool) -> None:
        """Add the state of ``monitor``, or the last one if it is gone."""
        state = self.last
        if monitor is not None:
            try:
                state = monitor.state_dict(alone=alone)
            except Exception as error:
                warnings.warn(f"NeuronHealth is not in this checkpoint: {error!r}", RuntimeWarning, stacklevel=2)
        if state is not None:
            checkpoint.setdefault(KEY, {})[place] = state

    def load(self, checkpoint: dict[str, Any], place: str) -> None:
        """Keep what a checkpoint holds until there is a monitor."""
        self._loaded = checkpoint.get(KEY, {}).get(place)

    def restore(self, monitor: Monitor | None) -> None:
        """Let ``monitor`` go on from what was loaded, if anything was."""
        if monitor is None or self._loaded is None:
            return
        loaded, self._loaded = self._loaded, None
        try:
            monitor.load_state_dict(loaded)
        except Exception as error:
            warnings.warn(
                f"NeuronHealth begins anew: its part of the checkpoint cannot be read: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
