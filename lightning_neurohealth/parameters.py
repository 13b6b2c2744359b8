"""The table of a model's parameters, and of the run as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_neurohealth import ranks
from lightning_neurohealth.elements import index, of_gradients
from lightning_neurohealth.layers import clean_name
from lightning_neurohealth.native import kernel
from lightning_neurohealth.neuron_norms import NeuronNorms
from lightning_neurohealth.samples import Samples, is_plain
from lightning_neurohealth.sharding import Pieces, piece
from lightning_neurohealth.slices import slices_of

LARGE = 1 << 15
"""Elements of a tensor beyond which several threads sum its squares faster than one."""


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
        samples: Some elements of each.
        last_samples: Those of the last call of ``changes``.
        wrapper: What the strategy calls in place of the model, and may hold its parameters.
        slices: By the id of each that FSDP1 has flattened, what of it is on this rank.
        in_c: True if samples may be gathered by what is compiled for the CPU.
        engine: True where an engine (DeepSpeed) updates them, which may keep their gradients to itself.
    """

    model: nn.Module
    name: str = "parameters"
    optimized: set[str] | None = None
    wrapper: nn.Module | None = None
    in_c: bool = False
    names: list[str] = field(init=False)
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer_of: dict[str, int] = {}
        self.engine = False
        self.last_samples: Tensor | None = None
        named = dict(self.model.named_parameters())
        self.tensors = list(named.values())
        self.names = [clean_name(name) for name in named]
        self.decayed = set(self.names)
        self.device = self.tensors[0].device if self.tensors else torch.device("cpu")
        self.slices = slices_of(self.wrapper or self.model)
        self.pieces = Pieces(self.tensors, self.device, self.slices)
        self.samples = Samples(self.tensors, self.device, self.slices, self.in_c)

    def module(self, name: str | None) -> nn.Module | None:
        """The module of that name as the user wrote it."""
        return None if name is None else self._modules.get(name)

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return {clean_name(name): module for name, module in reversed(list(self.model.named_modules()))}

    @property
    def sizes(self) -> Tensor:
        """Number of elements of each, float64 ``[parameters]``."""
        sizes = [self.slices[id(p)].of if id(p) in self.slices else _numel(p) for p in self.tensors]
        return torch.tensor([max(size, 1) for size in sizes], dtype=torch.float64)

    @property
    def axes(self) -> list[int]:
        """How many axes each has where it is whole."""
        return [self.slices[id(p)].axes if id(p) in self.slices else p.dim() for p in self.tensors]

    @property
    def neurons(self) -> int:
        """How many parameters there are."""
        return len(self.names)

    def know_optimizers(self, optimizers: Iterable[Optimizer]) -> None:
        """Note which parameters are optimized; an engine's own optimizers (DeepSpeed) do not tell."""
        optimizers = list(optimizers)
        self.engine = not all(isinstance(optimizer, Optimizer) for optimizer in optimizers)
        if self.engine:
            return
        groups = [(i, group) for i, optimizer in enumerate(optimizers) for group in optimizer.param_groups]
        found = {id(p): (i, group.get("weight_decay", 0)) for i, group in groups for p in group["params"]}
        named = {name: found[id(p)] for name, p in zip(self.names, self.tensors, strict=True) if id(p) in found}
        self.optimized = set(named)
        self.decayed = {name for name, (_, decay) in named.items() if decay}
        self.optimizer_of = {name: index for name, (index, _) in named.items()}

    def joined(self, read: Callable[[], Tensor], norms: int, elements: bool = False) -> Tensor:
        """Norms of whole parameters from those of the pieces here, ``[norms, parameters]``; with ``elements``, what
        ``gradient_elements`` gives of them in four more rows.

        Where some are split, all ranks meet here in one collective, or two; one that fails to say its own does not keep
        the others waiting.
        """
        if not self.pieces.any:
            return read()
        rows = norms + 4 * elements
        here = torch.zeros(rows, self.neurons, dtype=torch.float64, device=self.device)
        try:
            here = read()
        finally:
            here = self.pieces.joined(here, norms)
        return here

    def gradient_norms(self, optimizer: Optimizer | None = None) -> Tensor:
        """L2 norm of each gradient, ``[parameters]``; 0 where there is none, and where ``optimizer`` has no part.

        Of a parameter that is split over ranks, these norms are those of the piece here.
        """
        return self._norms(self._gradients(optimizer))

    def read_gradients(
        self, optimizer: Optimizer | None, elements: bool, norms: NeuronNorms | None = None
    ) -> tuple[Tensor, bool]:
        """``gradient_norms`` as ``[1, parameters]``; with ``elements``, ``gradient_elements`` in four more rows.

        True, too, if ``norms`` of neurons have come along with them.
        """
        if not elements:
            return self.gradient_norms(optimizer).unsqueeze(0), False
        gradients = self._gradients(optimizer)
        if self.in_c and gradients and all(map(is_plain, gradients)) and (in_c := kernel()) is not None:
            plain = cast("list[Tensor]", gradients)
            found = in_c.elements(plain) if norms is None else norms.elements(in_c, plain)
            return torch.cat([found[1:2].sqrt(), found]), norms is not None
        return torch.cat([self.gradient_norms(optimizer).unsqueeze(0), self.gradient_elements(optimizer)]), False

    def gradient_elements(self, optimizer: Optimizer | None = None) -> Tensor:
        """Sum, sum of squares, the least and the greatest element of each gradient, ``[4, parameters]``; likewise."""
        gradients = self._gradients(optimizer)
        slices = {place: self.slices[id(p)] for place, p in enumerate(self.tensors) if id(p) in self.slices}
        return of_gradients(gradients, slices, self.device)

    def _gradients(self, optimizer: Optimizer | None) -> list[Tensor | None]:
        if optimizer is None:
            return [p.grad for p in self.tensors]
        ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return [p.grad if id(p) in ids else None for p in self.tensors]

    @property
    def gradients_are_hidden(self) -> bool:
        """True if an engine has taken all gradients away."""
        return self.engine and all(p.grad is None for p in self.tensors)

    def gradients_are_finite(self) -> bool:
        """False if some gradient is NaN or infinite, of split parameters on any rank; waits for the device."""
        gradients = [piece(p.grad) for p in self.tensors if p.grad is not None]
        finite = torch.stack(torch._foreach_norm(gradients)).isfinite().all() if gradients else torch.tensor(True)
        if self.pieces.any:
            finite = ranks.all_reduce(finite.double(), "min")
        return bool(finite)

    def norms(self) -> Tensor:
        """L2 norm of each parameter, ``[parameters]``; of one that is split over ranks, that of the piece here."""
        return self._norms([p.detach() for p in self.tensors])

    def changes(self) -> Tensor:
        """Size of the change of the sampled elements of each since the last call, ``[parameters]``.

        The first call gives infinity: what the change was is not known.
        """
        before, self.last_samples = self.last_samples, self.samples.now()
        if before is None or before.shape != self.last_samples.shape:
            return torch.full((len(self.tensors),), torch.inf, dtype=torch.float64, device=self.device)
        return self.samples.norms(self.last_samples - before)

    @property
    def sample_owners(self) -> Tensor:
        """Index of the parameter that each sampled element belongs to, ``[samples]``."""
        return self.samples.owners

    def trainable(self) -> list[bool]:
        """Which of them ask for a gradient now."""
        return [p.requires_grad for p in self.tensors]

    def _norms(self, tensors: list[Tensor | None]) -> Tensor:
        if tensors and all(map(is_plain, tensors)):
            return _plain_norms(tensors, self.in_c)
        present = [i for i, t in enumerate(tensors) if t is not None]
        plain = all(is_plain(tensors[i]) for i in present)
        if not plain:
            present = [i for i in present if not _is_empty(tensors[i])]
        norms = torch.zeros(len(tensors), dtype=torch.float64, device=self.device)
        if present:
            here = [tensors[i] for i in present]
            stacked = _plain_norms(here, self.in_c) if plain else _norms(here, self.device)
            if len(present) == len(tensors):
                return stacked
            norms[index(tuple(present), self.device)] = stacked
        return norms


def _norms(tensors: list[Any], device: torch.device) -> Tensor:
    here = [piece(t.coalesce().values() if t.is_sparse else t) for t in tensors]
    # halves overflow at 65,504 and lose small squares
    here = [t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in here]
    return torch.stack([norm.to(device) for norm in torch._foreach_norm(here)]).double()


def _plain_norms(tensors: list[Any], in_c: bool) -> Tensor:
    library = kernel() if in_c else None
    if library is None:
        # several times faster than a norm on the CPU
        return torch.stack([torch.dot(t, t) for t in [t.view(-1) for t in tensors]]).double().sqrt_()
    large = [tensor.view(-1) for tensor in tensors if tensor.numel() > LARGE]
    squares = torch.stack([torch.dot(t, t) for t in large]) if large else None
    return library.norms(tensors, LARGE, squares)[:-1]


def _is_empty(tensor: Any) -> bool:
    if is_lazy(tensor):
        return True
    return not (tensor.coalesce().values() if tensor.is_sparse else piece(tensor)).numel()


def _numel(tensor: Tensor) -> int:
    return 0 if is_lazy(tensor) else tensor.numel()


def unscaled(gradient: Any, scale: Tensor | float) -> Tensor:
    """What this rank has of a gradient, which is still multiplied with ``scale``."""
    held: Tensor = piece(gradient.detach().to_dense() if gradient.is_sparse else gradient.detach())
    return held if is_one(scale) else held.double() / scale


def is_one(scale: Tensor | float) -> bool:
    """True for a scale that changes nothing; a tensor is not looked at."""
    return isinstance(scale, float) and scale == 1.0
