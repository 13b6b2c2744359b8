"""Fitness: what each neuron is worth, by cheap scores that a report already holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_neurohealth.interventions.masks import Masks
from lightning_neurohealth.record import LayerReport
from lightning_neurohealth.report import Report
from lightning_neurohealth.settings import one_of

Ranked = tuple[str, int, float]

COMPARABLE = {"taylor", "composite", "entropy", "output_correlation"}
"""Scores in a unit that all layers share; the others depend on a layer's scale."""


@dataclass(frozen=True)
class Fitness(Mapping[str, Tensor]):
    """One score of every neuron, ``[neurons]`` a layer, in the order of execution; more is fitter.

    Attributes:
        score: Which score, see :func:`fitness`.
        outputs: Layers that nothing with weights reads; their neurons are never dying.
    """

    score: str
    layers: Mapping[str, Tensor]
    outputs: frozenset[str] = frozenset()

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self.layers:
            raise KeyError(f"no {self.score} of {layer!r}; there are {', '.join(self.layers)}")
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def across(self) -> dict[str, Tensor]:
        """The scores in a unit that all layers share: as they are, or divided by the root mean square of the layer.

        Source of the division: Molchanov et al. (2017), "Pruning convolutional neural networks for resource efficient
        inference".
        """
        if self.score in COMPARABLE:
            return dict(self.layers)
        sizes = {name: scores.square().nanmean().sqrt() for name, scores in self.layers.items()}
        return {name: torch.where(sizes[name] == 0, 0.0, s / sizes[name]) for name, s in self.layers.items()}

    def rank(self) -> list[Ranked]:
        """Layer, neuron and score of :meth:`across` over all layers, the weakest first; NaN last."""
        scores = self.across()
        found = [(name, i, value) for name, values in scores.items() for i, value in enumerate(values.tolist())]
        return sorted(found, key=lambda entry: (entry[2] != entry[2], entry[2]))

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean, largest and variance over the neurons of each layer."""
        return {
            name: {"mean": float(s.mean()), "max": float(s.max()), "variance": float(s.var(correction=0))}
            for name, s in self.layers.items()
        }

    def dying(self, quantile: float | None = None, below: float | None = None) -> Masks:
        """The weakest neurons of each hidden layer, as masks.

        Args:
            quantile: The weakest share of each layer, rounded down; equal scores fall by index.
            below: Every neuron with a score under it, in the score's own unit.

        Raises:
            ValueError: Not exactly one of the two was given, or the quantile is no share.
        """
        if (quantile is None) == (below is None):
            raise ValueError(f"dying(quantile={quantile}, below={below}): give one of the two")
        if quantile is not None and not 0 <= quantile <= 1:
            raise ValueError(f"dying(quantile={quantile}): must be between 0 and 1")
        masks = {}
        for name, scores in self.layers.items():
            if name not in self.outputs:
                if below is not None:
                    masks[name] = scores < below
                elif quantile is not None:
                    masks[name] = torch.zeros(len(scores), dtype=torch.bool)
                    masks[name][scores.argsort(stable=True)[: int(quantile * len(scores))]] = True
        return Masks(masks)


def fitness(
    report: Report | None,
    score: str = "taylor",
    *,
    weight: float = 0.4,
    gradient: float = 0.4,
    activation: float = 0.2,
) -> Fitness:
    """Fitness of every neuron from the measures of a report.

    Args:
        report: E.g. ``health.report``, with the measures that the score needs.
        score: ``"taylor"`` (first-order ablation, the one to start with), ``"gradient"`` (E |∂L/∂a|), ``"activation"``
            (E |a|), ``"variance"``, ``"entropy"``, ``"weight"`` and ``"outgoing_weight"`` (norms in and out),
            ``"weight_change"`` (a step), ``"output_correlation"``, or ``"composite"``: a weighted sum of the norms of
            the weights and of their gradients and of E |a|, each divided by its largest in the layer.
        weight, gradient, activation: Weights of the composite.

    Raises:
        ValueError: There is no such score, or the report does not hold what it needs.
    """
    one_of("score", score, tuple(SCORES))
    if report is None:
        raise ValueError("there is no report yet: no window has closed")

    def composite(layer: LayerReport) -> Tensor:
        parts = ((weight, layer["weight_norm"]), (gradient, layer["fisher"].sqrt()), (activation, _magnitude(layer)))
        return sum((w * _of_largest(part) for w, part in parts), torch.zeros(()))

    needs, compute = SCORES[score]
    compute = composite if score == "composite" else compute
    found = {name: compute(layer) for name, layer in report.items() if all(need in layer for need in needs)}
    if not found:
        raise ValueError(
            f"no layer of the report has {' and '.join(needs)}, which {score!r} needs; ask for it with "
            f"measures={['standard', *needs]}"
        )
    return Fitness(score, found, frozenset(name for name, layer in report.items() if layer.output))


def _of_largest(part: Tensor) -> Tensor:
    largest = part.max()
    return torch.where(largest == 0, 0.0, part / largest)


def _magnitude(layer: LayerReport) -> Tensor:
    return layer["activation_magnitude"]


def _measure(name: str) -> tuple[tuple[str, ...], Callable[[LayerReport], Tensor]]:
    return (name,), lambda layer: layer[name]


SCORES: dict[str, tuple[tuple[str, ...], Callable[[LayerReport], Tensor]]] = {
    "taylor": _measure("taylor"),
    "gradient": _measure("gradient_flow"),
    "activation": _measure("activation_magnitude"),
    "variance": (("activation_std",), lambda layer: layer["activation_std"].square()),
    "entropy": _measure("activation_entropy"),
    "weight": _measure("weight_norm"),
    "outgoing_weight": _measure("outgoing_weight_norm"),
    "weight_change": _measure("weight_change"),
    "output_correlation": _measure("output_correlation"),
    "composite": (("weight_norm", "fisher", "activation_magnitude"), _magnitude),
}
"""Score to the measures that it needs and how it comes from them."""
