"""Measured steps of compiled models run eagerly, so that hooks fire."""

from __future__ import annotations

import sys
from typing import Any


class _Eager:
    """Sets the stance of ``torch.compile`` for a measured step and restores what the user had.

    The stance is touched only where something was compiled: importing the compiler takes a second. Several monitors may
    measure the same step; the first sets it and the last restores it.
    """

    def __init__(self) -> None:
        self._inside: set[int] = set()
        self._stance: Any = None
        self._needed = False

    def enter(self, key: object) -> None:
        """Run eagerly from here on."""
        self._needed = self._needed or _something_is_compiled()
        if self._needed:
            if not self._inside:
                import torch

                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._inside.add(id(key))

    def leave(self, key: object) -> None:
        """Back to the stance before."""
        if id(key) in self._inside:
            self._inside.remove(id(key))
            if not self._inside:
                stance, self._stance = self._stance, None
                stance.__exit__(None, None, None)


def _something_is_compiled() -> bool:
    frames = sys.modules.get("torch._dynamo.eval_frame")  # which an optimizer imports too
    if frames is None:
        return False
    backends = getattr(frames, "cached_backends", None)  # of every torch.compile; none of what may not be compiled
    return backends is None or any(backend is not None for backend in backends.values())


eager = _Eager()
