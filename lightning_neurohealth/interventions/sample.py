"""The input of the one forward in which a model shows how it is wired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import nn

from lightning_neurohealth.interventions.task import rows_of
from lightning_neurohealth.interventions.untouched import device_of, untouched

ROWS, STEPS = 2, 8
VECTORS = 8
"""Rows of vectors, which have no steps: on fewer nothing can be told to be constant."""
SIDES = (32, 64, 224)
"""Lengths of a picture's sides: of CIFAR, of small and of full ImageNet."""


def call(model: nn.Module, sample: Any) -> Any:
    """The output of ``model`` for a tensor, a tuple of arguments, or a mapping of keywords.

    Raises:
        ValueError: It does not run on that.
    """
    try:
        if isinstance(sample, Mapping):
            return model(**sample)
        return model(*sample) if isinstance(sample, (tuple, list)) else model(sample)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{type(model).__name__} does not run on the sample: {what}") from error


def sample_for(model: nn.Module, sample: Any = None) -> Any:
    """``sample``; where there is none the model's own ``example_input_array`` or ``dummy_inputs``, else random numbers
    of a shape that its first layer takes.

    Raises:
        TypeError, ValueError: The model cannot be looked at, or runs on nothing that was made up for it.
    """
    device = device_of(model)
    if sample is not None:
        if not rows_of(sample):
            raise ValueError("the sample has no row: nothing can be seen in it")
        return sample
    with untouched(model, training=False), torch.no_grad():
        for made in _made_up(model):
            try:
                here = move_data_to_device(made, device)
                call(model, here)
            except Exception:  # whatever a forward raises: the next one may fit
                continue
            return here
    raise ValueError(
        f"{type(model).__name__} runs on no input that was made up for it; pass sample=, the input of one forward: a "
        "tensor, a tuple of arguments, or a mapping of keywords"
    )


def _made_up(model: nn.Module) -> Iterator[Any]:
    for name in ("example_input_array", "dummy_inputs"):
        found = getattr(model, name, None)
        if found is not None:
            yield found
    for module in model.modules():
        shapes = list(_shapes(module))
        if shapes:
            weight = next(module.parameters())
            draw = torch.Generator().manual_seed(0)
            yield from (torch.randn(shape, generator=draw).to(weight.dtype) for shape in shapes)
            return
        if isinstance(module, nn.Embedding):
            yield (torch.arange(ROWS * STEPS) % module.num_embeddings).view(ROWS, STEPS)
            return


def _shapes(module: nn.Module) -> Iterator[tuple[int, ...]]:
    if isinstance(module, nn.modules.conv._ConvNd):
        yield from ((ROWS, module.in_channels, *[side] * len(module.kernel_size)) for side in SIDES)
    elif isinstance(module, (nn.Linear, nn.RNNBase)):
        width = module.in_features if isinstance(module, nn.Linear) else module.input_size
        yield from ((VECTORS, width), (ROWS, STEPS, width))
