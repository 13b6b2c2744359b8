"""Findings that say the same of several layers, told together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lightning_neurohealth.findings import Finding

FEWEST = 3
"""On so many layers a finding is told once, with the layers; two are read as quickly one after the other."""
NUMBER = re.compile(r"(?<![\w.])[-+±]?\d[\d.,]*(?:e[-+]?\d+)?(?!\w)")


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one condition, cause and remedy, the worst first; often a single one."""

    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        """The one that speaks for the others."""
        return self.findings[0]

    @property
    def together(self) -> bool:
        """True where one stands for several."""
        return len(self.findings) > 1

    @property
    def count(self) -> str:
        """``"14 layers"``, or ``"14 layers (2 CRITICAL, 12 SERIOUS)"``."""
        severities = Counter(finding.severity for finding in self.findings)
        each = ", ".join(f"{severities[s]} {s.name}" for s in sorted(severities, reverse=True))
        return f"{len(self.findings)} layers" + (f" ({each})" if len(severities) > 1 else "")


def grouped(findings: Iterable[Finding]) -> list[FindingGroup]:
    """The findings in their order, each group where its first one stands."""
    findings = list(findings)
    keys = [(_said(finding), _said_of_itself(finding)) for finding in findings]
    often = Counter(key for both in keys for key in set(both))
    chosen = [max(both, key=lambda key: often[key]) for both in keys]
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for key, finding in zip(chosen, findings, strict=True):
        alike.setdefault(key, []).append(finding)
    found = []
    for key, finding in zip(chosen, findings, strict=True):
        same = alike[key]
        if len(same) < FEWEST or not finding.layer:
            found.append(FindingGroup((finding,)))
        elif finding is same[0]:
            found.append(FindingGroup(tuple(same)))
    return found


def _said(finding: Finding) -> tuple[str, ...]:
    """What it says, whatever the numbers are."""
    return (finding.condition, *(NUMBER.sub("#", text) for text in (finding.cause, finding.remedy)))


def _said_of_itself(finding: Finding) -> tuple[str, ...]:
    """The same, whatever its layer is called."""
    names = sorted({name for name in (finding.layer, finding.activation) if name}, key=len, reverse=True)
    own = re.compile("|".join(rf"(?<![\w.]){re.escape(name)}(?!\w)" for name in names) or "(?!)")
    return tuple(own.sub("·", text) for text in _said(finding))
