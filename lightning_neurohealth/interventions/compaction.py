"""Compaction: a smaller copy of a model, without the neurons that are to go."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lightning_neurohealth.interventions.constants import constants, fold, not_foldable
from lightning_neurohealth.interventions.cutting import CannotCutError, checked_masks, cut, zero_outgoing
from lightning_neurohealth.interventions.masks import Masks
from lightning_neurohealth.interventions.sample import call, sample_for
from lightning_neurohealth.interventions.untouched import untouched
from lightning_neurohealth.interventions.wiring import wired

TOLERANCE = 1e-5
"""Largest difference of outputs, relative to the largest output or to 1: single precision, other order of sums."""


@dataclass(frozen=True)
class Compaction:
    """A smaller copy of a model.

    Attributes:
        model: The copy.
        removed: Layer to how many neurons it has lost.
        refused: Layers that were left as they are, each with the reason.
        parameters, parameters_before: How many numbers the copy and the model hold.
        flops, flops_before: Floating-point operations of products and convolutions in one forward of the sample.
        change: Largest difference between the outputs of the copy and of the model for the sample; what the loss of
            these neurons does.
        folded: Module to how many of its inputs always gave the same number, not 0, which its bias holds now.
    """

    model: nn.Module = field(repr=False)
    removed: Mapping[str, int]
    refused: Mapping[str, str]
    parameters: int
    parameters_before: int
    flops: int
    flops_before: int
    change: float
    folded: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{sum(self.removed.values())} neurons of {len(self.removed)} layers taken out; outputs change by up to "
            f"{self.change:.2g}",
            *([f"  {sum(self.folded.values())} constants went into biases"] if self.folded else []),
            f"  parameters {_saved(self.parameters_before, self.parameters)}",
            f"  FLOPs      {_saved(self.flops_before, self.flops)}",
        ]
        return "\n".join(lines + [f"  {layer} stays: {reason}" for layer, reason in self.refused.items()])


def compact(
    model: nn.Module, masks: Masks | Mapping[str, Tensor], sample: Any = None, *, skip: bool = False
) -> Compaction:
    """A copy of ``model`` without the masked neurons: narrower Linear, convolution and batch-norm modules.

    What stands or falls with a neuron goes too: the other side of a gate, a depthwise convolution before or behind it.

    It computes what the model computes when nobody reads those neurons, in evaluation mode to 1e-5; this is checked on
    the sample. Of one that always gives the same number, as a stuck sigmoid or a dead neuron behind a batch norm does,
    the biases of its readers take over that number, if the sample has at least 8 rows to tell. The model itself is not
    changed.

    Args:
        model: Masks of ``torch.nn.utils.prune`` are made permanent in the copy.
        masks: Layer to bool tensor ``[neurons]``, True for a neuron that is to go.
        sample: Input of one forward: a tensor, arguments, or keywords; ``None`` for the model's
            ``example_input_array``, or numbers made up for its first layer.
        skip: Leave out layers that cannot be cut.

    Raises:
        CannotCutError: A layer takes part in a residual sum, has tied weights, or the like, or its neurons are constant
            at other than 0 and a convolution that pads with zeros reads them.
        TypeError, ValueError: A mask does not fit the model.
    """
    sample = sample_for(model, sample)
    with untouched(model, training=False), torch.no_grad():
        before, flops_before = _counted(model, sample)
        smaller = copy.deepcopy(model)
        _make_permanent(smaller)
        wiring = wired(smaller, lambda: call(smaller, sample))
        found, refused = checked_masks(wiring, masks if isinstance(masks, Masks) else Masks(masks), skip)
        readers = [reader for owner in found for reader in wiring[owner].readers]
        always = constants(smaller, readers, lambda: call(smaller, sample))
        if uneven := not_foldable(wiring, found, always):
            if not skip:
                raise CannotCutError(uneven)
            refused |= uneven
            found = {owner: mask for owner, mask in found.items() if owner not in uneven}
        folded = fold(wiring, found, always)
        for owner, mask in found.items():
            zero_outgoing(smaller, wiring[owner], mask)
        unread = call(smaller, sample)
        cut(smaller, wiring, found)
        reasons = dict.fromkeys(found, "")
        try:
            after, flops = _counted(smaller, sample)
        except Exception as error:
            raise CannotCutError(dict.fromkeys(reasons, f"the narrower copy fails: {error}")) from error
        difference = _difference(unread, after)
        if not difference <= TOLERANCE * max(1.0, _largest(unread)):
            raise CannotCutError(dict.fromkeys(reasons, f"the outputs of the copy differ by {difference:.2g}"))
    for module, twin in zip(model.modules(), smaller.modules(), strict=True):
        twin.training = module.training
    return Compaction(
        smaller,
        {owner: int(mask.sum()) for owner, mask in found.items()},
        refused,
        sum(p.numel() for p in smaller.parameters()),
        sum(p.numel() for p in model.parameters()),
        flops,
        flops_before,
        _difference(before, after),
        folded,
    )


def _counted(model: nn.Module, sample: Any) -> tuple[Any, int]:
    with FlopCounterMode(display=False) as counter:
        output = call(model, sample)
    return output, int(counter.get_total_flops())


def _make_permanent(model: nn.Module) -> None:
    for module in model.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)


def _tensors(output: Any) -> list[Tensor]:
    leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    return [x.double() for x in leaves if isinstance(x, Tensor) and x.numel()]


def _difference(a: Any, b: Any) -> float:
    pairs = list(zip(_tensors(a), _tensors(b), strict=True))
    if any(x.shape != y.shape for x, y in pairs):
        return float("inf")
    return max((float((x - y).abs().max()) for x, y in pairs), default=0.0)


def _largest(output: Any) -> float:
    return max((float(x.abs().max()) for x in _tensors(output)), default=0.0)


def _saved(before: int, now: int) -> str:
    return f"{before:,} → {now:,}" + (f" (−{(before - now) / before:.0%})" if before else "")
