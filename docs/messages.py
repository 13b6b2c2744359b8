"""What each rule says, by trainings of the zoo: put into the catalogue of the site when it is built."""

from __future__ import annotations

import re
from collections.abc import Mapping

from benchmarks.truth import judge
from benchmarks.zoo.training import SPECIMENS
from lightning_neurohealth import Finding


def conditions() -> list[str]:
    """What the trainings of the zoo suffer from."""
    return sorted({specimen.condition for specimen in SPECIMENS if specimen.condition is not None})


def example(condition: str) -> str:
    """What is said of the first training in which it is found, in Markdown.

    Raises:
        LookupError: It is found in none.
    """
    for specimen in SPECIMENS:
        if specimen.condition == condition and (findings := judge(specimen).findings):
            where = f"`{specimen.name}` of `benchmarks/zoo`"
            return f"An example, as it was said of {where} when this page was made:\n\n{quoted(findings[0])}\n"
    raise LookupError(f"no training of benchmarks/zoo in which {condition} is found")


def quoted(finding: Finding) -> str:
    """A finding as a quotation."""
    lines = [
        f"**{finding.severity.name} {finding.condition}** in {_escaped(f'{finding.where}: {finding.message}')}",
        f"*why* {_escaped(finding.cause)}",
        f"*do* {_escaped(finding.remedy)}",
    ]
    return "\n".join(f"> {line}  " for line in lines)


def with_examples(catalogue: str, examples: Mapping[str, str]) -> str:
    """The catalogue with an example at the head of each rule's section.

    Raises:
        KeyError: A rule has none.
    """
    rules, measures, rest = catalogue.partition("\n## Measures\n")
    pattern = re.compile(r"^(### (\w+)\n\n[^\n]+\n)", re.MULTILINE)
    return pattern.sub(lambda section: f"{section[1]}\n{examples[section[2]]}", rules) + measures + rest


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<])", r"\\\1", text)
