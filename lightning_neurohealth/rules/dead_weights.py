"""Matrices that are almost all zero."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.rules.base import LayerRule, Verdict
from lightning_neurohealth.window import Past, Window


@dataclass(frozen=True, kw_only=True)
class DeadWeights(LayerRule):
    """What it finds: trained matrices of which more than 90 % is 0.

    Why it hurts: the layer passes on next to nothing of what it reads, and pays for all of it.

    Remedies: less L1 or weight decay, a higher learning rate beside it, random weights in place of zeros, a narrower
    layer; a mask (``torch.nn.utils.prune``) where the zeros are meant.

    Sources: technical deep dive (S2), "dead weight detection". Ninety per cent is what pruning reaches without loss
    (Han et al. 2015); a network that was not pruned has no exact zeros at all. Frozen weights, masked ones (of
    ``torch.nn.utils.prune``, or with a buffer or parameter of the weight's shape beside it) and embeddings are sparse
    on purpose. A matrix that is all zero since the start is a zero-initialised branch; it counts once it had moved, or
    when no gradient has reached it over ``steps`` steps and an epoch. What began at zero and fills slowly, as the
    weights of rare words do, is left alone.

    Attributes:
        serious: Share of the weights that are 0.
        gone: Share from which on nothing is left of the layer, so that a loss that falls is no excuse.
        weights: Matrices with fewer weights are not judged: an identity of ten by ten is 90 % zero.
        filled: A matrix that began at zero has been in use once less than this share of it was 0.
        steps: Training steps after which a branch that no gradient has reached is no longer waiting for one.
    """

    serious: float = 0.90
    gone: float = 0.999
    weights: int = 256
    filled: float = 0.50
    steps: int = 100

    def judge(
        self,
        layer: Layer,
        parameters: Parameters,
        window: Window,
        past: list[Past],
        initial: dict[str, dict[str, Tensor]],
        dead_weight_rate: Tensor,
        gradient_norm: Tensor | None = None,
    ) -> Verdict | None:
        rate = float(dead_weight_rate.mean())
        if not rate > self.serious or layer.neurons * layer.fan_in < self.weights:
            return None
        if layer.weight not in parameters.names or _on_purpose(layer, parameters):
            return None
        at_start = initial.get("dead_weight_rate", {}).get(layer.name)
        start = 0.0 if at_start is None else float(at_start.mean())
        earlier = [float(p.measures["dead_weight_rate"].mean()) for p in past if "dead_weight_rate" in p.measures]
        if start == 1 and min(earlier, default=1.0) >= self.filled:
            stuck = rate == 1 and gradient_norm is not None and float(gradient_norm) == 0
            if not stuck or window.seen < self.steps or window.trained < 1:
                return None
        owner = layer.owner or layer.name
        if start == 1:
            cause = "it began at zero"
            remedy = f"initialise {owner} with random weights, or look for what keeps gradients from it"
        elif start > self.serious:
            cause = f"so it was at the start ({start:.1%}): by its initialisation, or pruned without a mask"
            remedy = f"initialise {owner} with random weights; use torch.nn.utils.prune where the zeros are meant"
        else:
            cause = f"it began with {start:.0%} zeros: a penalty on the weights has driven them there"
            remedy = f"lower the L1 penalty or weight decay on {owner}, or make it narrower"
        gone = rate >= self.gone and start < self.serious
        return Verdict(
            severity=Severity.SERIOUS,
            value=rate,
            threshold=self.serious,
            message=f"{rate:.1%} of the {layer.neurons * layer.fan_in:,} weights of {owner} are 0; "
            f"{int((dead_weight_rate == 1).sum())} of {layer.neurons} neurons read nothing",
            cause=cause,
            remedy=remedy,
            certain=gone and not layer.output,
        )


def _on_purpose(layer: Layer, parameters: Parameters) -> bool:
    """True of a weight that is frozen, masked or an embedding."""
    weight = parameters.tensors[parameters.names.index(layer.weight or "")]
    embeddings = (m for m in parameters.model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag)))
    if not weight.requires_grad or any(m.weight is weight for m in embeddings):
        return True
    module = parameters.module(layer.owner)
    beside = [] if module is None else [*module.buffers(), *(p for p in module.parameters() if not p.requires_grad)]
    return any(other.shape == weight.shape for other in beside)
