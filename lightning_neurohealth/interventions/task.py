"""What a model is to do with a batch, and what it loses by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor, nn

Loss = Callable[[Any, Any], Tensor]
Step = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Task:
    """How a model's loss comes from a batch.

    Attributes:
        loss: ``loss(output, target)``, a scalar, for batches ``(*inputs, target)``.
        step: ``step(model, batch)``, a scalar, for everything else.
    """

    loss: Loss | None = None
    step: Step | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "step"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise TypeError(f"{name}={getattr(self, name)!r}: must be a function")
        if self.loss is not None and self.step is not None:
            raise ValueError("loss and step were both given; step(model, batch) already says what the loss is")

    @classmethod
    def of(cls, model: nn.Module, loss: Loss | None, step: Step | None) -> Task:
        """What the user gave, or a LightningModule's own step, or the usual losses.

        The step is ``training_step``; where that optimizes by itself, ``validation_step``.
        """
        if loss is None and step is None and hasattr(model, "training_step"):
            step = _training_step if getattr(model, "automatic_optimization", True) else _validation_step
            if step is _validation_step and not _validates(model):
                raise ValueError(
                    f"{type(model).__name__}.training_step optimizes by itself and would change the model; "
                    "pass loss=F.cross_entropy or the like, or step=lambda model, batch: ..."
                )
        return cls(loss, step)

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of ``batch``, a scalar."""
        if self.step is not None:
            return checked(self.step(model, batch), "step")
        if isinstance(batch, Mapping):
            found = getattr(model(**batch), "loss", None)
            if not isinstance(found, Tensor):
                raise TypeError(f"the model gave no loss for a batch with {', '.join(map(str, batch))}; pass step=")
            return checked(found, "the model")
        inputs, target = split(batch)
        return self.of_output(model(*inputs), target)

    def of_output(self, output: Any, target: Any) -> Tensor:
        """The loss of what the model gave for the inputs."""
        if self.loss is not None:
            return checked(self.loss(output, target), "loss")
        return usual_loss(output, target)


def usual_loss(output: Any, target: Any) -> Tensor:
    """Cross-entropy where targets are whole numbers, mean squared error elsewhere."""
    if not isinstance(output, Tensor) or not isinstance(target, Tensor):
        raise TypeError(
            f"no usual loss of a {type(output).__name__} and a {type(target).__name__}; pass loss= or step="
        )
    if not target.is_floating_point():
        if output.dim() > 2 and output.shape[:-1] == target.shape:
            return F.cross_entropy(output.flatten(0, -2), target.flatten())
        return F.cross_entropy(output, target)
    if output.numel() != target.numel():
        raise ValueError(
            f"no usual loss of outputs {tuple(output.shape)} and targets {tuple(target.shape)}; pass loss= or step="
        )
    return F.mse_loss(output, target.reshape(output.shape))


def split(batch: Any) -> tuple[tuple[Any, ...], Any]:
    """Inputs and target of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        what = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
        raise TypeError(f"a batch must be (input, target), got {what}; pass step=lambda model, batch: ... for others")
    return tuple(batch[:-1]), batch[-1]


def batches(data: Any, device: torch.device, limit: int | None = None) -> Iterator[Any]:
    """The batches of a DataLoader, of any iterable, or of a Trainer's validation data, on ``device``.

    Raises:
        TypeError: ``data`` is nothing that gives batches.
        ValueError: It gives none.
    """
    every = itertools.islice(itertools.chain.from_iterable(_loaders(data)), limit)
    found = (batch for batch in every if rows_of(batch))
    first = next(found, None)
    if first is None:
        raise ValueError("the data gives no batch, or none with a row")
    return (move_data_to_device(batch, device) for batch in itertools.chain([first], found))


def length_of(data: Any, limit: int | None = None) -> int | None:
    """How many batches there will be, ``None`` where the data does not tell."""
    try:
        length = sum(map(len, _loaders(data)))
    except TypeError:
        return limit
    return length if limit is None else min(length, limit)


def rows_of(batch: Any) -> int:
    """How many samples a batch has: the length of its first tensor; 1 where it has none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else 1
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else ()
    return next((rows_of(part) for part in parts if isinstance(part, (Tensor, Mapping, tuple, list))), 1)


def checked(loss: Any, where: str) -> Tensor:
    """Refuse what is no scalar."""
    if isinstance(loss, Mapping):
        loss = loss.get("loss")
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise TypeError(f"{where} must give the loss as one number, gave {what}")
    return loss.reshape(())


def _loaders(data: Any) -> list[Any]:
    source = getattr(data, "val_dataloaders", data)
    if source is None and data is not None:
        raise ValueError("the Trainer has no validation data; pass a DataLoader or a list of batches")
    if isinstance(source, (str, Tensor)) or not isinstance(source, Iterable):
        what = "None" if data is None else f"a {type(data).__name__}"
        raise TypeError(f"data is {what}; pass a DataLoader or a list of batches (input, target)")
    if isinstance(source, Mapping):
        return list(source.values())
    return list(source) if source is not data and isinstance(source, (list, tuple)) else [source]


def _training_step(model: nn.Module, batch: Any) -> Tensor:
    return model.training_step(batch, 0)  # type: ignore[operator]


def _validation_step(model: nn.Module, batch: Any) -> Tensor:
    return checked(model.validation_step(batch, 0), "validation_step")  # type: ignore[operator]


def _validates(model: nn.Module) -> bool:
    """True if the user has written a ``validation_step``."""
    step = getattr(type(model), "validation_step", None)
    return step is not None and not step.__module__.startswith(("lightning.", "pytorch_lightning."))
