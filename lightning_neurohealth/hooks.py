"""What is put on a model and on torch while a step is watched: hooks of modules, and a mode that sees functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils.hooks import RemovableHandle


class Listener(Protocol):
    """Who is told.

    Attributes:
        armed: True during a measured step.
        following: True where functions are layers: not in a backward pass or an optimizer.
        inside: How many known activation modules are running: what they call is known as theirs.
    """

    armed: bool
    following: bool
    inside: int

    def guarded(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run ``call`` so that no fault of ours ends a user's run."""

    def before_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A function is about to run; what this gives is handed to ``after_function``."""

    def after_function(self, before: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """It has given ``out``."""

    def function_again(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A function has run again, in a stretch that backward computes anew."""


def _nothing(*args: Any) -> None:
    return None


def _inert() -> Callable[..., None]:
    return _nothing


def recomputing() -> bool:
    """True while backward runs: a checkpointed module that is called now is the same forward, not another one."""
    return bool(torch._C._current_graph_task_id() != -1)


class Hook:
    """A module hook that survives pickling and deep copies as a hook that does nothing."""

    __slots__ = ("call", "taps")

    def __init__(self, taps: Listener, call: Callable[..., None]) -> None:
        self.taps, self.call = taps, call

    def __call__(self, *args: Any) -> None:
        if self.taps.armed:
            self.taps.guarded(self.call, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _inert, ()


class Switch:
    """Hooks of modules that are on for a while and off for longer, when a module without others runs as if it had none.

    They keep their order, and come after those that others have put on in the meantime.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._hooks: list[tuple[dict[int, Any], int, Hook]] = []
        self._on = True

    def add(self, handle: RemovableHandle, hook: Hook) -> None:
        """A hook that was registered, and is on."""
        hooks = handle.hooks_dict_ref()
        if hooks is not None:
            self._handles.append(handle)
            self._hooks.append((hooks, handle.id, hook))

    def turn(self, on: bool) -> None:
        """Turn all of them on, or off."""
        if self._on is on:
            return
        self._on = on
        if on:
            for hooks, key, hook in self._hooks:
                hooks[key] = hook
        else:
            for hooks, key, _ in self._hooks:
                hooks.pop(key, None)

    def remove(self) -> None:
        """Take them off for good."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hooks.clear()


class Functions(TorchFunctionMode):
    """Sees every call of a torch function while a step is traced."""

    def __init__(self, taps: Listener) -> None:
        super().__init__()
        self.taps = taps

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        taps = self.taps
        if taps.armed and not taps.inside and recomputing():
            out = func(*args, **kwargs)
            taps.guarded(taps.function_again, func, args, kwargs, out)
            return out
        if not (taps.armed and taps.following) or taps.inside:
            return func(*args, **kwargs)
        before = taps.guarded(taps.before_function, func, args, kwargs)
        out = func(*args, **kwargs)
        taps.guarded(taps.after_function, before, func, args, kwargs, out)
        return out

    def enter(self) -> None:
        """Put this mode on."""
        _push_mode(self)

    def leave(self) -> None:
        """Take this mode off, whichever others were put on since: those of another monitor, or of the user."""
        above = []
        while self in _get_current_function_mode_stack():
            mode = _pop_mode()
            if mode is not self:
                above.append(mode)
        for mode in reversed(above):
            _push_mode(mode)
