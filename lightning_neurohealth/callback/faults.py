"""Nothing of ours ends a run in the middle."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from lightning_neurohealth.findings import CriticalFindingError

Event = TypeVar("Event", bound=Callable[..., None])


def guarded(event: Event) -> Event:
    """An event of NeuronHealth of which a fault switches the monitor off, with one warning."""

    @wraps(event)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            event(self, *args, **kwargs)
        except CriticalFindingError:
            raise
        except Exception as error:
            if self._monitor is not None:
                self._monitor.fail(error)

    return cast("Event", call)


def went_well(who: str, call: Callable[..., Any], *args: Any) -> bool:
    """Call ``call``; False, and a warning that names ``who``, if it has failed."""
    try:
        call(*args)
    except CriticalFindingError:
        raise
    except Exception as error:
        warnings.warn(
            f"NeuronHealth: {who} failed and is left out from now on; training goes on: {error!r}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
