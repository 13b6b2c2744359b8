"""Finds the classes of a folder, and those that other packages bring, and reads what their methods ask for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


def snake_case(name: str) -> str:
    """``OnRate`` -> ``on_rate``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def concrete_classes(package: ModuleType, base: type[T]) -> Iterator[type[T]]:
    """Every class of ``base`` defined in a module of ``package`` or under the entry point group of the same name."""
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            here = isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
            if here and not inspect.isabstract(value):
                yield value
    for entry in entry_points(group=package.__name__):
        found = _loaded(entry, base)
        if found is not None:
            yield found


def _loaded(entry: EntryPoint, base: type[T]) -> type[T] | None:
    """What another package brings; nothing, and one warning, where that is broken."""
    try:
        found = entry.load()
        if not (isinstance(found, type) and issubclass(found, base)):
            raise TypeError(f"{found!r} is no {base.__name__}")
        if inspect.isabstract(found):
            raise TypeError(f"{found.__name__} is abstract")
    except Exception as error:
        brought = f" of the package {entry.dist.name}" if entry.dist else ""
        warnings.warn(
            f"NeuronHealth goes on without {entry.name} ({entry.value}){brought}, which cannot be loaded: {error!r}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return found


def parameters_of(method: Callable[..., Any]) -> dict[str, bool]:
    """Names of what a method asks for, each with whether it can do without."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return {p.name: p.default is not inspect.Parameter.empty for p in parameters}


def place_of(cls: type) -> str:
    """The file that defines ``cls``; its module where there is none, as in a notebook."""
    try:
        return inspect.getfile(cls)
    except (OSError, TypeError):
        return cls.__module__


def unknown_name(where: str, name: str, allowed: list[str]) -> TypeError:
    """An error that names the file, what came, and what comes near."""
    near = get_close_matches(name, allowed, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(sorted(allowed))}"
    return TypeError(f"{where}: no {name!r} is known here; {hint}")
