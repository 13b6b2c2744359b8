"""Leaves a model as it was: what is changed in order to look is put back, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torchmetrics import Metric


@contextmanager
def untouched(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Run a block with ``model`` in training or evaluation mode, and put everything back at its end.

    Put back are the training flag of each module, buffers (running statistics among them), gradients, the states of
    torchmetrics, and torch's random numbers on the CPU and on the model's devices. A model that logs to a Trainer is
    silent meanwhile. What the block does to weights stays.
    """
    flags = {module: module.training for module in model.modules()}
    buffers = [(m, n, b, None if b is None else b.detach().clone()) for m in flags for n, b in m._buffers.items()]
    gradients = [(p, p.grad) for p in model.parameters()]
    metrics = [(m, m._copy_state_dict(), m._update_count, m._computed) for m in flags if isinstance(m, Metric)]
    devices = [d for d in devices_of(model) if d.type == "cuda"]
    loggers = _silence(model)
    for parameter, _ in gradients:
        parameter.grad = None
    model.train(training)
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for owner, name in loggers:
            vars(owner).pop(name, None)
        for module, flag in flags.items():
            module.training = flag
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer  # some forwards write into it, some put another one there
                if buffer is not None and before is not None:
                    buffer.copy_(before)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for metric, states, count, computed in metrics:
            for name, state in states.items():
                setattr(metric, name, state)
            metric._update_count, metric._computed = count, computed


def devices_of(model: nn.Module) -> set[torch.device]:
    """Where the parameters and buffers of ``model`` are."""
    return {tensor.device for tensor in (*model.parameters(), *model.buffers())}


def device_of(model: nn.Module) -> torch.device:
    """Where ``model`` is.

    Raises:
        TypeError: It is no module.
        ValueError: It has no parameters, some of them have no shape or no numbers yet, or it is spread over several
            devices.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r}: must be an nn.Module")
    lazy = [name for name, parameter in model.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise ValueError(f"{', '.join(lazy)} of {type(model).__name__} has no shape yet; run the model once first")
    devices = devices_of(model)
    if not any(True for _ in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no parameters")
    if len(devices) > 1:
        raise ValueError(
            f"{type(model).__name__} is spread over several devices ({', '.join(sorted(map(str, devices)))}); "
            "move it to one first, model.to(device)"
        )
    device = devices.pop()
    if device.type == "meta":
        raise ValueError(f"{type(model).__name__} is on the meta device, where there are no numbers; load it first")
    return device


def _silence(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Let the logging of LightningModules go nowhere; gives what to take away again."""
    silenced = []
    for module in model.modules():
        if hasattr(module, "training_step"):
            for name in ("log", "log_dict"):
                if name not in vars(module):
                    object.__setattr__(module, name, _nothing)
                    silenced.append((module, name))
    return silenced


def _nothing(*args: Any, **kwargs: Any) -> Tensor | None:
    return None
