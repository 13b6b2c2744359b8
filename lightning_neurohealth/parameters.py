"""The table of a model's parameters, and of the run as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
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
        optimized: Names of those that an optimizer has, ``None`` where that is not known.
        decayed: Names of those that weight decay moves even where there is no gradient; all, where that is not known.
        optimizer_of: Index of the optimizer that each optimized one is in.
    """

    model: nn.Module
    name: str = "parameters"
    optimized: set[str] | None = None
    names: list[str] = field(init=False)
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer_of: dict[str, int] = {}
        self._samples: Tensor | None = None
        self._owners: tuple[list[int], Tensor] | None = None
        named = dict(self.model.named_parameters())
        self.tensors = list(named.values())
        self.names = [clean_name(name) for name in named]
        self.decayed = set(self.names)
        self.device = self.tensors[0].device if self.tensors else torch.device("cpu")

    def module(self, name: str | None) -> nn.Module | None:
        """The module of that name as the user wrote it."""
        return next((m for n, m in self.model.named_modules() if clean_name(n) == name), None)

    @property
    def sizes(self) -> Tensor:
        """Number of elements of each, float64 ``[parameters]``."""
        return torch.tensor([max(_numel(p), 1) for p in self.tensors], dtype=torch.float64)

    @property
    def neurons(self) -> int:
        """How many parameters there are."""
        return len(self.names)

    def know_optimizers(self, optimizers: Iterable[Optimizer]) -> None:
        """Note which parameters are optimized."""
        groups = [(i, group) for i, optimizer in enumerate(optimizers) for group in optimizer.param_groups]
        found = {id(p): (i, group.get("weight_decay", 0)) for i, group in groups for p in group["params"]}
        named = {name: found[id(p)] for name, p in zip(self.names, self.tensors, strict=True) if id(p) in found}
        self.optimized = set(named)
        self.decayed = {name for name, (_, decay) in named.items() if decay}
        self.optimizer_of = {name: index for name, (index, _) in named.items()}

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
        """Size of the change of the sampled elements of each since the last call, ``[parameters]``.

        The first call gives infinity: what the change was is not known.
        """
        before, self._samples = self._samples, self.samples()
        if before is None or before.shape != self._samples.shape:
            return torch.full((len(self.tensors),), torch.inf, dtype=torch.float64, device=self.device)
        return self._sizes_of(self._samples - before).sqrt()

    def samples(self) -> Tensor:
        """Up to 2,048 evenly spaced elements of each parameter behind one another, float64 ``[samples]``."""
        return self._sampled([p if is_lazy(p) else p.detach() for p in self.tensors])

    def gradient_samples(self) -> Tensor:
        """The same elements of the gradients; 0 where there is none."""
        return self._sampled([_dense_gradient(p) for p in self.tensors])

    def update_ratios(self, before: Tensor, after: Tensor) -> Tensor:
        """‖ΔW‖ / ‖W‖ of each parameter between two calls of ``samples``; NaN where W was 0."""
        return (
            (self._sizes_of(after - before) / self._sizes_of(before)).sqrt().nan_to_num(nan=torch.nan, posinf=torch.nan)
        )

    @property
    def sample_owners(self) -> Tensor:
        """Index of the parameter that each sampled element belongs to, ``[samples]``."""
        sizes = [_numel(p) for p in self.tensors]
        if self._owners is None or self._owners[0] != sizes:
            counts = torch.tensor([len(range(0, size, _stride(size))) for size in sizes], dtype=torch.long)
            self._owners = sizes, torch.arange(len(sizes)).repeat_interleave(counts)
        return self._owners[1]

    def by_parameter(self, samples: Tensor) -> Tensor:
        """Sum over the sampled elements of each parameter, ``[parameters]``."""
        owners = self.sample_owners.to(samples.device)
        return torch.zeros(len(self.tensors), dtype=samples.dtype, device=samples.device).index_add_(0, owners, samples)

    def _sizes_of(self, samples: Tensor) -> Tensor:
        return self.by_parameter(samples * samples)

    def _sampled(self, tensors: list[Tensor]) -> Tensor:
        parts = [_real(t).reshape(-1)[:: _stride(_numel(t))] for t in tensors if _numel(t)]
        if len({(part.dtype, part.device) for part in parts}) > 1:
            parts = [part.to(self.device, torch.float64) for part in parts]
        none = torch.zeros(0, dtype=torch.float64, device=self.device)
        return torch.cat(parts).to(self.device, torch.float64) if parts else none

    def trainable(self) -> list[bool]:
        """Which of them ask for a gradient now."""
        return [p.requires_grad for p in self.tensors]

    def _norms(self, tensors: list[Tensor | None]) -> Tensor:
        tensors = [t.coalesce().values() if t is not None and t.is_sparse else t for t in tensors]
        present = [i for i, t in enumerate(tensors) if t is not None and _numel(t)]
        norms = torch.zeros(len(tensors), dtype=torch.float64, device=self.device)
        if present:
            # halves overflow at 65,504 and lose small squares
            found = _norms([_at_least_single(tensors[i]) for i in present])
            stacked = torch.stack([n if n.device == self.device else n.to(self.device) for n in found]).double()
            if len(present) == len(tensors):
                return stacked
            norms[torch.tensor(present, device=self.device)] = stacked
        return norms


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    if any(t.device.type != "cpu" or t.dtype != torch.float32 or not t.is_contiguous() for t in tensors):
        return list(torch._foreach_norm(tensors))
    return [torch.dot(t.view(-1), t.view(-1)).sqrt_() for t in tensors]  # several times faster on the CPU


def _dense_gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return parameter if is_lazy(parameter) else torch.zeros_like(parameter)
    return gradient.to_dense() if gradient.is_sparse else gradient


@cache
def _stride(size: int) -> int:
    # prime to the size, so that the samples wander over all rows and columns: those of one may never move
    stride = max(1, -(-size // 2048))
    while math.gcd(stride, size) > 1 and stride > 1:
        stride += 1
    return stride


def _numel(tensor: Tensor) -> int:
    return 0 if is_lazy(tensor) else tensor.numel()


def _real(tensor: Tensor) -> Tensor:
    return tensor.abs() if tensor.is_complex() else tensor


def _at_least_single(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
