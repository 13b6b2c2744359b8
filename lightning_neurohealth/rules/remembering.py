"""What each layer is judged by, but does not depend on the layer, is computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def remembers_the_last(call: Callable[..., Answer]) -> Callable[..., Answer]:
    """Gives the last answer again as long as it is asked with the very same objects."""
    last: list[tuple[tuple[Any, ...], Answer]] = []

    @wraps(call)
    def remembering(*args: Any) -> Answer:
        if not last or len(last[0][0]) != len(args) or any(a is not b for a, b in zip(last[0][0], args, strict=True)):
            last[:] = [(args, call(*args))]
        return last[0][1]

    return remembering
