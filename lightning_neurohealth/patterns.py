"""Which layers the user wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase


class Patterns:
    """Which names the user wants: glob patterns over a name or any of its ancestors."""

    def __init__(self, include: Sequence[str] | None, exclude: Sequence[str] | None) -> None:
        self.include, self.exclude = include, exclude or ()

    def wanted(self, name: str) -> bool:
        """True unless excluded or, where ``include`` is given, not included."""
        path = name.split("#")[0]
        return (self.include is None or _matches(path, self.include)) and not _matches(path, self.exclude)

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """Patterns that fit none of ``names``."""
        names = list(names)
        return [p for p in [*(self.include or ()), *self.exclude] if not any(_matches(n, [p]) for n in names)]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    parts = name.split(".")
    paths = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatchcase(path, pattern) for pattern in patterns for path in paths)
