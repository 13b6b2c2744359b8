"""One module called many times in one forward: an unrolled recurrence, a network that sees two views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby

from lightning_neurohealth.findings import Finding
from lightning_neurohealth.layers import Layer


def module_of_call(name: str) -> str:
    """``"tanh"`` of ``"tanh#3"``."""
    return name.partition("#")[0]


def repeated(layers: Mapping[str, Layer]) -> set[str]:
    """Modules whose calls do the same work: with one weight, or, without any, for one reader that is called again.

    A ReLU that a whole network shares is none: behind each call stands another layer.
    """
    weights = Counter((module_of_call(layer.name), layer.weight) for layer in layers.values() if layer.weight)
    found = {module for (module, _), calls in weights.items() if calls > 1}
    read: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for layer in layers.values():
        for source in layer.sources & layers.keys():
            if layer.owner and not layers[source].weight:
                read.setdefault((module_of_call(source), layer.owner), set()).add((source, layer.name))
    for (module, _), pairs in read.items():
        sources, readers = (set(side) for side in zip(*pairs, strict=True))
        if len(sources) > 1 and len(readers) > 1:
            found.add(module)
    return found


def one_of_each(findings: Iterable[Finding], layers: Mapping[str, Layer]) -> list[Finding]:
    """The findings, with one in place of those that say the same of several calls of one module."""
    again = repeated(layers)

    def key(finding: Finding) -> tuple[str, str]:
        name = finding.layer or ""
        return finding.condition, module_of_call(name) if module_of_call(name) in again else name

    order = {name: place for place, name in enumerate(layers)}
    ordered = sorted(findings, key=lambda f: (key(f), -f.severity, order.get(f.layer or "", -1)))
    return [_joined(place, list(group)) for (_, place), group in groupby(ordered, key)]


def _joined(module: str, findings: list[Finding]) -> Finding:
    first, *others = findings
    if not others:
        return first
    earliest = min(findings, key=lambda f: f.since)
    calls = sorted(int(f.layer.partition("#")[2] or 1) for f in others if f.layer)
    which = f"call {calls[0]}" if len(calls) == 1 else f"{len(calls)} more calls, {calls[0]} to {calls[-1]}"
    return replace(
        first,
        layer=module,
        message=f"{first.message}; so it is at {which}",
        since=earliest.since,
        learning_rate=earliest.learning_rate,
    )
