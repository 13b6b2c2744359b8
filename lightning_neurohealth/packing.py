"""What files hold: numbers and arrays as strict JSON takes them, written all or nothing."""

from __future__ import annotations

import base64
import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def plain(value: Any) -> Any:
    """The value in plain containers; what JSON has no number for is ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    number = float(value)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def pack(values: Tensor) -> dict[str, Any]:
    """The shape, and the numbers as base64 of little-endian float32, rows first."""
    values = values.detach().to("cpu", torch.float32).contiguous()
    data = values.numpy().astype("<f4").tobytes()
    return {"shape": list(values.shape), "float32": base64.b64encode(data).decode("ascii")}


def unpack(packed: Mapping[str, Any]) -> Tensor:
    """The tensor behind :func:`pack`, in float32.

    Raises:
        ValueError, KeyError, TypeError: It is not what ``pack`` wrote.
    """
    data = bytearray(base64.b64decode(packed["float32"], validate=True))
    shape = [int(size) for size in packed["shape"]]
    if len(data) != 4 * math.prod(shape):
        raise ValueError(f"{len(data)} bytes are not {shape} numbers of four")
    return torch.frombuffer(data, dtype=torch.float32).reshape(shape) if data else torch.zeros(shape)


def replace_file(path: Path, text: str) -> None:
    """All or nothing: whoever reads the file meanwhile sees the old one, and a disk that is full costs nothing."""
    beside = path.with_name(f"{path.name}.tmp")
    try:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
