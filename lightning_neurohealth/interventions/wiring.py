"""Wiring: who reads a layer's neurons, and what else depends on how many there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from lightning_neurohealth import activations
from lightning_neurohealth.activations import Activation
from lightning_neurohealth.delivery import Receiver
from lightning_neurohealth.interventions.looking import look
from lightning_neurohealth.taps import Taps
from lightning_neurohealth.tracing.finder import LayerFinder
from lightning_neurohealth.tracing.origins import CONVOLUTIONS, PRODUCTS, function_name, tensors_in

CUTTABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
"""Modules whose neurons and inputs can be taken out one by one; the Conv1D of Hugging Face too."""
# fmt: off
KEEPERS = {
    "flatten", "view", "reshape", "permute", "transpose", "movedim", "swapaxes", "contiguous", "clone",
    "detach", "to", "float", "half", "double", "type_as", "squeeze", "unsqueeze", "unflatten", "expand", "mean",
    "amax", "pad", "interpolate", "neg", "abs", "pow", "sqrt", "square", "mul", "div", "sub", "add", "__mul__",
    "__rmul__", "__truediv__", "__add__", "__radd__", "__sub__", "dropout", "feature_dropout", "alpha_dropout",
    "feature_alpha_dropout",
}
# fmt: on
"""Functions of one tensor that keep neurons apart; arithmetic counts only with plain numbers."""
PRODUCTS_OF_NEURONS = {"mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"}
"""Functions that multiply neuron by neuron."""
SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__", "sub", "__sub__", "sub_"}


@dataclass
class Wires:
    """What hangs on the neurons of one module with weights.

    Attributes:
        norms: Modules between it and its readers that keep numbers of each neuron.
        readers: Module to how many inputs each neuron has there, more than one behind a flatten.
        partners: Modules whose neurons stand or fall with its own, number by number: the two sides of a gate, a
            depthwise convolution and what it reads. They have the same readers and obstacles.
        obstacles: Why its neurons cannot be taken out.
        calls: How often it runs in one forward.
    """

    norms: list[str] = field(default_factory=list)
    readers: dict[str, int] = field(default_factory=dict)
    partners: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    calls: int = 0

    def block(self, reason: str) -> None:
        """Note a reason, once."""
        if reason not in self.obstacles:
            self.obstacles.append(reason)


class Wiring(Taps):
    """Taps that follow each module's output to whatever reads it."""

    def __init__(self, model: nn.Module, finder: LayerFinder, receiver: Receiver, hook_root: bool = True) -> None:
        super().__init__(model, finder, receiver, hook_root)
        self.wires: dict[str, Wires] = {}
        self._writers: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._entered: list[str | None] = []

    def __getitem__(self, owner: str) -> Wires:
        return self.wires.setdefault(owner, Wires())

    def writer(self, tensor: Any) -> str | None:
        """The module whose neurons ``tensor`` holds."""
        return self._writers.get(tensor) if isinstance(tensor, Tensor) else None

    def _activation_begins(
        self, name: str, function: Activation, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super()._activation_begins(name, function, module, args, kwargs)
        writer = self.writer(next(iter((*args, *kwargs.values())), None))
        if writer is not None and isinstance(module, nn.PReLU) and module.num_parameters > 1:
            self[writer].norms.append(name)
        self._entered.append(writer)

    def _activation_ends(self, name: str, module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
        super()._activation_ends(name, module, inputs, out)
        self._write(out, self._entered.pop())

    def _owner_ends(self, name: str, module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
        super()._owner_ends(name, module, inputs, out)
        self[name].calls += 1
        self._write(out, name)

    def after_function(self, layer: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Follow the neurons through one function."""
        super().after_function(layer, func, args, kwargs, out)
        tensors = tensors_in((*args, *kwargs.values()))
        writers = [w for w in map(self.writer, tensors) if w is not None]
        if not writers or not tensors_in([out]):
            return
        name, caller = function_name(func), self._callers[-1] if self._callers else ""
        module, first = self.finder.modules.get(caller), self.writer(tensors[0])
        others = [t for t in tensors[1:] if t.dim() > 0]
        if name in PRODUCTS | CONVOLUTIONS and first is None and len(tensors) > 1 and cuttable(module):
            first = self.writer(tensors[1])  # addmm(bias, x, weight)
        if name in PRODUCTS | CONVOLUTIONS and len(writers) == 1 and first is not None and cuttable(module):
            self._read(first, caller, module)
        elif name in ("batch_norm", "instance_norm") and isinstance(module, nn.modules.batchnorm._NormBase):
            self[writers[0]].norms.append(caller)
            self._write(out, writers[0])
        elif name in PRODUCTS_OF_NEURONS and self._multiply(tensors, out):
            self._write(out, writers[0])
        elif not others and (name in KEEPERS or "pool" in name or activations.from_function(func, args, kwargs)):
            self._write(out, first)
        else:
            where = f" in {caller}" if caller else ""
            for writer in writers:
                self[writer].block(
                    f"it is part of a sum{where}, as in a residual connection, which fixes its width"
                    if name in SUMS
                    else f"{name or 'a function'}{where} reads it, which may depend on its width"
                )

    def examine(self) -> None:
        """Note what stands against a cut in the modules themselves, once a forward was seen."""
        for owner, wires in list(self.wires.items()):
            for reason in _of_its_own(self.finder, owner, wires):
                wires.block(reason)
            for reader in wires.readers:
                for reason in _of_reader(self.finder, reader, self[reader]):
                    wires.block(f"its reader {reader}: {reason}")
        alone = {owner: (dict(wires.readers), list(wires.obstacles)) for owner, wires in self.wires.items()}
        for owner, wires in self.wires.items():
            wires.partners = self._group(owner)
            for partner in wires.partners:
                readers, obstacles = alone[partner]
                wires.readers.update(readers)
                for reason in obstacles:
                    wires.block(f"{partner}, which goes with it: {reason}")
        for wires in self.wires.values():
            if not wires.readers and not wires.obstacles:
                wires.block("nothing was seen to read it")

    def _group(self, owner: str) -> list[str]:
        """Its partners, their partners, and so on."""
        group = [owner]
        for member in group:
            group += [partner for partner in self[member].partners if partner not in group]
        return group[1:]

    def _multiply(self, tensors: list[Tensor], out: Any) -> bool:
        """True if ``out`` is a product, neuron by neuron, of tensors that modules have written; pair these."""
        writers = [self.writer(tensor) for tensor in tensors]
        whole = any(tensor.shape == out.shape for tensor in tensors) and len({t.dim() for t in tensors}) == 1
        owners = [writer for writer in dict.fromkeys(writers) if writer is not None]
        widths = {width(self.finder.modules[owner]) for owner in owners}
        if None in writers or not whole or len(tensors) < 2 or len(widths) > 1:
            return False
        self._pair(*owners)
        return True

    def _pair(self, *owners: str) -> None:
        for owner in owners:
            self[owner].partners += [o for o in owners if o != owner and o not in self[owner].partners]

    def _read(self, writer: str, reader: str, module: nn.Module | None) -> None:
        neurons, inputs = width(self.finder.modules[writer]), width(module, incoming=True)
        if depthwise(module) and width(module) == neurons:
            self._pair(writer, reader)
        elif getattr(module, "groups", 1) > 1:
            self[writer].block(f"{reader} reads it in groups")
        elif inputs % neurons:
            self[writer].block(f"{reader} has {inputs} inputs for its {neurons} neurons")
        else:
            self[writer].readers[reader] = inputs // neurons

    def _write(self, out: Any, writer: str | None) -> None:
        if writer is not None and isinstance(out, Tensor):
            self._writers[out] = writer


def wired(model: nn.Module, run: Callable[[], Any]) -> Wiring:
    """The wiring of ``model``, from one forward by ``run``, which gives the model's output."""
    outputs: list[Any] = []
    wiring = look(model, lambda: outputs.append(run()), Wiring)
    for tensor in tree_leaves(outputs):
        writer = wiring.writer(tensor)
        if writer is not None:
            wiring[writer].block("the model gives it to the user")
    wiring.examine()
    return wiring


def _of_its_own(finder: LayerFinder, owner: str, wires: Wires) -> list[str]:
    module = finder.modules[owner]
    reasons = [] if cuttable(module) else [f"neurons cannot be taken out of a {type(module).__name__}"]
    if wires.calls > 1:
        reasons.append(f"it runs {wires.calls} times in one forward")
    if getattr(module, "groups", 1) > 1 and not (depthwise(module) and wires.partners):
        reasons.append("its neurons read their inputs in groups")
    return reasons + _of_weights(finder, owner)


def _of_reader(finder: LayerFinder, reader: str, wires: Wires) -> list[str]:
    often = [f"it runs {wires.calls} times in one forward"] if wires.calls > 1 else []
    return often + _of_weights(finder, reader)


def _of_weights(finder: LayerFinder, owner: str) -> list[str]:
    module = finder.modules[owner]
    if parametrize.is_parametrized(module) or hasattr(module, "weight_g"):
        return ["its weight is computed from others (parametrized)"]
    own = {id(p) for p in module.parameters(recurse=False)}
    others = ((name, m) for name, m in finder.modules.items() if m is not module)
    users = [name for name, m in others if any(id(p) in own for p in m.parameters(recurse=False))]
    return [f"its weights are tied to those of {', '.join(users)}"] if users else []


def cuttable(module: nn.Module | None) -> bool:
    """True for a module whose neurons can be taken out one by one."""
    return type(module) in CUTTABLE or type(module).__name__ == "Conv1D"


def depthwise(module: nn.Module | None) -> bool:
    """True for a convolution each of whose neurons reads the one input of the same number."""
    groups = getattr(module, "groups", 1)
    return groups > 1 and not getattr(module, "transposed", False) and groups == width(module) == module.in_channels  # type: ignore[union-attr]


def axis_of(module: nn.Module | None, incoming: bool = False) -> int:
    """Along which axis of the weight the neurons lie, or the inputs."""
    swapped = type(module).__name__ == "Conv1D" or getattr(module, "transposed", False)
    return int(swapped) ^ int(incoming)


def width(module: nn.Module | None, incoming: bool = False) -> int:
    """How many neurons a module has, or how many inputs."""
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.dim() >= 2:
        return int(weight.shape[axis_of(module, incoming)])
    return 1
