"""The table of a model's parameters, and of the run as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_neurohealth.layers import clean_name


@dataclass(eq=False)
class Run:
    """The run as a subject of statistics."""

    device: torch.device
    name: str = "run"
    neurons: int = 1


@dataclass(eq=False)
class Parameters:
    """All parameters of a model, each a column of the signals that are of parameters.

    Attributes:
        names: Their names as the user wrote them.
        sizes: Number of elements of each, float64 ``[parameters]``.
        optimized: Names of those that an optimizer has, ``None`` where that is not known.
    """

    model: nn.Module
    name: str = "parameters"
    optimized: set[str] | None = None
    names: list[str] = field(init=False)
    sizes: Tensor = field(init=False)
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self._samples: list[Tensor] | None = None
        named = dict(self.model.named_parameters())
        self.tensors = list(named.values())
        self.names = [clean_name(name) for name in named]
        self.sizes = torch.tensor([max(p.numel(), 1) for p in self.tensors], dtype=torch.float64)
        self.device = self.tensors[0].device if self.tensors else torch.device("cpu")

    @property
    def neurons(self) -> int:
        """How many parameters there are."""
        return len(self.names)

    def know_optimizers(self, optimizers: Iterable[Optimizer]) -> None:
        """Note which parameters are optimized."""
        ids = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        self.optimized = {name for name, p in zip(self.names, self.tensors, strict=True) if id(p) in ids}

    def gradient_norms(self, optimizer: Optimizer | None = None) -> Tensor:
        """L2 norm of each gradient, ``[parameters]``; 0 where there is none, and where ``optimizer`` has no part."""
        if optimizer is None:
            return self._norms([p.grad for p in self.tensors])
        ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return self._norms([p.grad if id(p) in ids else None for p in self.tensors])

    def norms(self) -> Tensor:
        """L2 norm of each parameter, ``[parameters]``."""
        return self._norms([p.detach() for p in self.tensors])

    def changes(self) -> Tensor:
        """Size of the change of up to 2,048 evenly spaced elements of each since the last call, ``[parameters]``.

        The first call gives infinity: what the change was is not known.
        """
        before, self._samples = self._samples, [_sample(p.detach()) for p in self.tensors]
        if before is None:
            return torch.full((len(self.tensors),), torch.inf, dtype=torch.float64, device=self.device)
        return self._norms([now.double() - then.double() for now, then in zip(self._samples, before, strict=True)])

    def trainable(self) -> list[bool]:
        """Which of them ask for a gradient now."""
        return [p.requires_grad for p in self.tensors]

    def _norms(self, tensors: list[Tensor | None]) -> Tensor:
        present = [i for i, t in enumerate(tensors) if t is not None and t.layout == torch.strided and t.numel()]
        norms = torch.zeros(len(tensors), dtype=torch.float64, device=self.device)
        if present:
            # halves overflow at 65,504 and lose small squares
            found = torch._foreach_norm([_at_least_single(tensors[i]) for i in present])
            stacked = torch.stack([n.to(self.device) for n in found]).double()
            if len(present) == len(tensors):
                return stacked
            norms[torch.tensor(present, device=self.device)] = stacked
        return norms


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1)
    return flat[:: max(1, -(-flat.numel() // 2048))].clone()


def _at_least_single(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
