"""Measured steps of compiled models run eagerly, so that hooks fire."""

from __future__ import annotations

import sys
from typing import Any


class _Eager:
    """Sets the stance of ``torch.compile`` for a measured step and restores what the user had.

    The stance is touched only where something was compiled: importing the compiler takes a second.
    """

    def __init__(self) -> None:
        self._stances: dict[int, Any] = {}

    def enter(self, key: object) -> None:
        """Run eagerly from here on."""
        if "torch._dynamo" in sys.modules and id(key) not in self._stances:
            import torch

            stance = torch.compiler.set_stance("force_eager")
            stance.__enter__()
            self._stances[id(key)] = stance

    def leave(self, key: object) -> None:
        """Back to the stance before."""
        stance = self._stances.pop(id(key), None)
        if stance is not None:
            stance.__exit__(None, None, None)


eager = _Eager()
