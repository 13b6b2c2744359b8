"""Which Lightning runs us: ``lightning`` or ``pytorch_lightning``, which are two packages with the same classes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback as LightningCallback

_other: Any = sys.modules.get("pytorch_lightning")

if TYPE_CHECKING or not hasattr(_other, "Callback"):
    Callback = LightningCallback
else:

    class Callback(LightningCallback, _other.Callback):
        """One of both, where both are loaded: either Trainer takes any, but each LightningCLI only its own."""


def is_tqdm(bar: Any) -> bool:
    """True for the progress bar that is drawn with tqdm, of either package."""
    return any(kind.__name__ == "TQDMProgressBar" for kind in type(bar).__mro__)
