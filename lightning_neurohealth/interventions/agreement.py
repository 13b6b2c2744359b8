"""Agreement: which cheap score to trust on a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef

from lightning_neurohealth.interventions.ablated import Ablation
from lightning_neurohealth.interventions.fitness import SCORES, fitness
from lightning_neurohealth.report import Report

FEWEST = 3
"""Any two numbers are perfectly ranked one way or the other."""


@dataclass(frozen=True)
class Agreement(Mapping[str, Mapping[str, float]]):
    """Spearman's rank correlation of each score with ablation: score to layer to number; ``"all"`` is over all layers.

    1: the score puts neurons in the order in which the loss would miss them. 0: it says nothing. NaN: fewer than three
    neurons, or all alike.
    """

    scores: Mapping[str, Mapping[str, float]]

    def __getitem__(self, score: str) -> Mapping[str, float]:
        if score not in self.scores:
            raise KeyError(f"no agreement of {score!r}; there are {', '.join(self.scores)}")
        return self.scores[score]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def best(self) -> str:
        """The score that agrees best over all layers."""
        return max(self.scores, key=lambda score: _or_least(self.scores[score]["all"]))

    def __str__(self) -> str:
        ordered = sorted(self.scores, key=lambda score: -_or_least(self.scores[score]["all"]))
        return "\n".join(f"{score:>20}  {self.scores[score]['all']:+.2f}" for score in ordered)


def agreement(report: Report | None, ablation: Ablation, scores: Sequence[str] | None = None) -> Agreement:
    """How well cheap scores put neurons in the order that ablation puts them.

    Args:
        report: Of the same model, with the measures that the scores need.
        ablation: Of single neurons, e.g. ``ablate(model, data, neurons=32)``.
        scores: Which, see :func:`fitness`; ``None`` for all that the report has the measures of.

    Raises:
        ValueError: There is no report yet, a score does not exist or lacks its measures, or the two share no layer.
    """
    if report is None:
        raise ValueError("there is no report yet: no window has closed")
    if scores is None:
        scores = [
            name for name, (needs, _) in SCORES.items() if any(all(n in x for n in needs) for x in report.values())
        ]
    found: dict[str, dict[str, float]] = {}
    for name in scores:
        of_all = fitness(report, name).across()
        shared = [layer for layer in ablation if layer in of_all]
        cheap = {layer: of_all[layer][ablation[layer].neurons].double() for layer in shared}
        if shared:
            found[name] = {
                "all": correlation(torch.cat(list(cheap.values())), torch.cat([ablation[x].change for x in shared])),
                **{layer: correlation(cheap[layer], ablation[layer].change) for layer in shared},
            }
    if not found:
        raise ValueError(f"report and ablation share no layer: {', '.join(report)}; {', '.join(ablation)}")
    return Agreement(found)


def correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation, ties by their mean rank; NaN where it says nothing."""
    known = a.isfinite() & b.isfinite()
    a, b = a[known], b[known]
    if len(a) < FEWEST or bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return math.nan
    return float(spearman_corrcoef(a, b))


def _or_least(value: float) -> float:
    return -2.0 if math.isnan(value) else value
