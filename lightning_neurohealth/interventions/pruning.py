"""Pruning: masks on the weights of neurons that are to go, by torch's own pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lightning_neurohealth.interventions.cutting import checked_masks, inputs_of, own_tensors
from lightning_neurohealth.interventions.masks import Masks
from lightning_neurohealth.interventions.sample import call, sample_for
from lightning_neurohealth.interventions.untouched import untouched
from lightning_neurohealth.interventions.wiring import axis_of, wired


def prune_neurons(
    model: nn.Module, masks: Masks | Mapping[str, Tensor], sample: Any = None, *, skip: bool = False
) -> dict[str, str]:
    """Mask all weights of some neurons to 0: those that come in, their bias, and those by which others read them.

    The masks are torch's (``torch.nn.utils.prune``): they stay on through training until ``prune.remove``. What a
    neuron gave is missing, a constant too; :func:`compact` leaves constants in the biases of those that read them.

    Args:
        model: Its parameters get masks in place.
        masks: E.g. ``health.fitness("taylor").dying(quantile=0.1)``.
        sample: Input of one forward, in which it is seen who reads whom: a tensor, arguments, or keywords; ``None`` for
            the model's ``example_input_array``, or numbers made up for its first layer.
        skip: Leave out layers that cannot be pruned.

    Returns:
        Layers that were left out, each with the reason.

    Raises:
        CannotCutError: A layer takes part in a residual sum, has tied weights, or the like; nothing was changed.
        TypeError, ValueError: A mask does not fit the model.
    """
    parameters, reasons = _parameters(model, masks, sample, skip)
    for (module, name), mask in parameters.items():
        prune.custom_from_mask(module, name, mask)
    return reasons


def model_pruning(
    model: nn.Module, masks: Masks | Mapping[str, Tensor], sample: Any = None, *, skip: bool = False
) -> dict[str, Any]:
    """Arguments of Lightning's ``ModelPruning`` that put the same masks on: ``ModelPruning(**model_pruning(...))``.

    Args, Raises: As :func:`prune_neurons`; the model is not changed.
    """
    parameters, _ = _parameters(model, masks, sample, skip)
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


def _parameters(
    model: nn.Module, masks: Masks | Mapping[str, Tensor], sample: Any, skip: bool
) -> tuple[dict[tuple[nn.Module, str], Tensor], dict[str, str]]:
    """Module and parameter name to a mask of 0 and 1, in the shape of the parameter."""
    sample = sample_for(model, sample)
    with untouched(model, training=False), torch.no_grad():
        wiring = wired(model, lambda: call(model, sample))
    found, reasons = checked_masks(wiring, masks if isinstance(masks, Masks) else Masks(masks), skip)
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
    return parameters, reasons
