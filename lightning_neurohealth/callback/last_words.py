"""What is said when a process ends in the middle of a run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.util import Finalize


class LastWords:
    """Calls ``speak`` when this process ends, if it is one that another has started.

    Of what is raised in the processes of ``ddp_fork``, ``ddp_spawn`` and ``ddp_notebook`` no callback hears: Lightning
    tells those of the process that has started them, where nothing was trained.
    """

    def __init__(self, speak: Callable[[], object]) -> None:
        self._speak = speak
        self._waiting = Finalize(None, self._say, exitpriority=100) if parent_process() is not None else None

    def drop(self) -> None:
        """Somebody else has spoken."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _say(self) -> None:
        # who has started this process tells it to end, which Lightning would pass on to ranks that are gone
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._speak()
