"""Pruning: masks on the weights of neurons that are to go, by torch's own pruning."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lightning_neurohealth.interventions.constants import constants, not_foldable, said, uneven
from lightning_neurohealth.interventions.cutting import CannotCutError, checked_masks, inputs_of, own_tensors
from lightning_neurohealth.interventions.edits import Edit, make
from lightning_neurohealth.interventions.masks import Masks
from lightning_neurohealth.interventions.sample import call, sample_for
from lightning_neurohealth.interventions.untouched import untouched
from lightning_neurohealth.interventions.wiring import axis_of, wired


def prune_neurons(
    model: nn.Module, masks: Masks | Mapping[str, Tensor], sample: Any = None, *, skip: bool = False
) -> dict[str, str]:
    """Mask all weights of some neurons to 0: those that come in, their bias, and those by which others read them.

    The masks are torch's (``torch.nn.utils.prune``): they stay on through training until ``prune.remove``. Of a neuron
    that always gives the same number, not 0, as a stuck sigmoid or a dead neuron behind a batch norm does, the biases
    of its readers take over that number, if the sample has at least 8 rows to tell.

    Args:
        model: Its parameters get masks in place, all or, after an error, none.
        masks: E.g. ``health.fitness("taylor").dying(quantile=0.1)``.
        sample: Input of one forward, in which it is seen who reads whom: a tensor, arguments, or keywords; ``None`` for
            the model's ``example_input_array``, or numbers made up for its first layer.
        skip: Leave out layers that cannot be pruned.

    Returns:
        Layers that were left out, each with the reason.

    Raises:
        CannotCutError: A layer takes part in a residual sum, has tied weights, or the like, or its neurons are constant
            at other than 0 and a reader has no bias to hold that; nothing was changed.
        TypeError, ValueError: A mask does not fit the model.
    """
    parameters, additions, reasons = _plan(model, masks, sample, skip, _no_bias)
    edits = [Edit(bias, 0, torch.arange(len(bias)), bias.detach() + added) for bias, added in additions]
    before = {module: _copied(vars(module)) for module, _ in parameters}
    try:
        make(edits)
        for (module, name), mask in parameters.items():
            prune.custom_from_mask(module, name, mask)
    except BaseException:
        for module, attributes in before.items():
            vars(module).clear()
            vars(module).update(attributes)
        make(Edit(edit.tensor, 0, edit.indices, edit.before) for edit in edits)
        raise
    return reasons


def model_pruning(
    model: nn.Module, masks: Masks | Mapping[str, Tensor], sample: Any = None, *, skip: bool = False
) -> dict[str, Any]:
    """Arguments of Lightning's ``ModelPruning`` that put the same masks on: ``ModelPruning(**model_pruning(...))``.

    It acts later, in a training that goes on: neurons that are constant at other than 0 are refused, as no bias would
    take over what they give then.

    Args, Raises: As :func:`prune_neurons`; the model is not changed.

    Warns:
        RuntimeWarning: Layers were left out because of ``skip``, with the reasons.
    """
    parameters, _, reasons = _plan(model, masks, sample, skip, _acts_later)
    if reasons:
        lines = "; ".join(f"{layer}: {reason}" for layer, reason in reasons.items())
        warnings.warn(f"model_pruning leaves neurons in {lines}", RuntimeWarning, stacklevel=2)
    whole = torch.cat([mask.flatten() for mask in parameters.values()]) if parameters else torch.zeros(0)

    class NeuronPruning(prune.BasePruningMethod):
        """Masks that are known beforehand, behind one another; ``t`` holds what is not masked yet."""

        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
            now = [getattr(m, f"{name}_mask", torch.ones_like(mask)) for (m, name), mask in parameters.items()]
            unmasked = torch.cat([mask.flatten() for mask in now]) == 1
            return default_mask * whole.to(default_mask)[unmasked.to(default_mask.device)]

    return {
        "pruning_fn": NeuronPruning,
        "parameters_to_prune": list(parameters),
        "use_global_unstructured": True,
        "use_lottery_ticket_hypothesis": False,
        "amount": 1.0,
    }


def _plan(
    model: nn.Module,
    masks: Masks | Mapping[str, Tensor],
    sample: Any,
    skip: bool,
    obstacle: Callable[[nn.Module], str],
) -> tuple[dict[tuple[nn.Module, str], Tensor], list[tuple[Tensor, Tensor]], dict[str, str]]:
    """Module and parameter name to a mask of 0 and 1, in the shape of the parameter; biases and what is to be added to
    them; layers that are left out, with the reason. ``obstacle`` says why a module can take over no constant."""
    sample = sample_for(model, sample)
    with untouched(model, training=False), torch.no_grad():
        wiring = wired(model, lambda: call(model, sample))
        found, reasons = checked_masks(wiring, masks if isinstance(masks, Masks) else Masks(masks), skip)
        readers = [reader for owner in found for reader in wiring[owner].readers]
        always = constants(model, readers, lambda: call(model, sample))
    if lost := not_foldable(wiring, found, always, obstacle):
        if not skip:
            raise CannotCutError(lost)
        reasons |= lost
        found = {owner: mask for owner, mask in found.items() if owner not in lost}
    parameters: dict[tuple[nn.Module, str], Tensor] = {}

    def close(module: nn.Module, name: str, axis: int, gone: Tensor) -> None:
        mask = parameters.setdefault((module, name), torch.ones_like(getattr(module, name).detach()))
        mask.index_fill_(axis, gone.nonzero().flatten().to(mask.device), 0)

    for owner, gone in found.items():
        module = model.get_submodule(owner)
        for name, axis in own_tensors(module, len(gone)):
            close(module, name, axis, gone)
        for reader, inner in wiring[owner].readers.items():
            module = model.get_submodule(reader)
            close(module, "weight", axis_of(module, incoming=True), inputs_of(gone, inner))
    said_always = said(wiring, found, always)
    additions = [(_bias(model.get_submodule(reader)), added) for reader, (_, added) in said_always.items()]
    return parameters, [(bias, added) for bias, added in additions if bias is not None], reasons


def _bias(module: nn.Module) -> nn.Parameter | None:
    """The parameter behind the bias, under a mask of an earlier pruning too."""
    return module._parameters.get("bias_orig", module._parameters.get("bias"))


def _no_bias(module: nn.Module) -> str:
    return uneven(module) or ("" if _bias(module) is not None else "has no bias to hold that")


def _acts_later(module: nn.Module) -> str:
    return "would miss that; prune_neurons and compact leave it in the bias"


def _copied(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: copy.copy(value) if isinstance(value, dict) else value for name, value in attributes.items()}
