"""Puts hooks on a model and takes them off.

Hooks are on during a measured step alone: at other times modules run, and are compiled, as if nobody watched.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_neurohealth import activations
from lightning_neurohealth.activations import Activation
from lightning_neurohealth.delivery import Delivery, Receiver
from lightning_neurohealth.hooks import Functions, Hook, Switch, recomputing
from lightning_neurohealth.layers import Layer, is_owner
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.tracing.finder import LayerFinder
from lightning_neurohealth.tracing.heads import read_by_out_proj
from lightning_neurohealth.tracing.origins import tensors_in


class Taps(Delivery):
    """All hooks of one model.

    Attributes:
        called: Names of the modules with weights that were called while armed, and of others while calls were followed.
    """

    def __init__(self, model: nn.Module, finder: LayerFinder, receiver: Receiver, hook_root: bool = True) -> None:
        super().__init__(finder, receiver)
        self.model, self.hook_root = model, hook_root
        self.following = True
        self.called: set[str] = set()
        self.inside = 0
        self._switch = Switch()
        self._callers_seen: list[RemovableHandle] = []
        self._functions: Functions | None = None
        self._callers: list[str] = []
        self._again: Functions | None = None
        self._again_at = 0
        self._pending: dict[str, list[Layer | None]] = {}
        self._reads: dict[str, tuple[Activation, Tensor]] = {}

    # Life

    def attach(self) -> None:
        """Put hooks on every module that may own or apply something."""
        self._before(self.model, lambda m, i: self.new_forward())
        for name, module in self.finder.modules.items():
            if not (name or self.hook_root) or isinstance(module, torch.jit.ScriptModule):
                continue
            function = activations.from_module(module)
            if function is not None:
                self._before_activation(module, name, function)
                self._after(module, partial(self._activation_ends, name))
            elif isinstance(module, nn.MultiheadAttention):
                # it applies its last matrix without calling the module that holds it
                self._after(module, partial(self._attention_ends, name))
            elif is_owner(module):
                self._after(module, partial(self._owner_ends, name))
            elif name and "." not in name and any(True for _ in module.children()):
                self._before(module, lambda m, i, n=name: self._child_begins(n))
        self._switch.turn(on=False)

    def _watch_callers(self) -> None:
        for name, module in self.finder.modules.items():
            if (name or self.hook_root) and not isinstance(module, torch.jit.ScriptModule):
                begins = module.register_forward_pre_hook(Hook(self, lambda m, i, n=name: self._caller_begins(n)))
                ends = module.register_forward_hook(Hook(self, lambda m, i, o: self._caller_ends()))
                self._callers_seen += [begins, ends]

    def _forget_callers(self) -> None:
        for handle in self._callers_seen:
            handle.remove()
        self._callers_seen.clear()

    def remove(self) -> None:
        """Take every hook off; may be called at any time and more than once."""
        self.disarm()
        self._switch.remove()
        self._forget_callers()

    def follow(self, functions: bool) -> None:
        """See calls of functions from here on, or no longer: what a backward pass or an optimizer calls is no layer."""
        self.following = functions

    def arm(self) -> None:
        """Begin a measured forward and backward."""
        self.finder.begin_step()
        self._callers.clear()
        self._pending.clear()
        self._reads.clear()
        self.inside = 0
        self.armed = True
        self._switch.turn(on=True)
        if self.finder.tracing and not self._callers_seen:
            self._watch_callers()
        self.follow(functions=True)
        if self.finder.tracing:
            self._functions = Functions(self)
            self._functions.enter()

    def disarm(self) -> None:
        """End it."""
        if self._functions is not None:
            functions, self._functions = self._functions, None
            functions.leave()
        if self._again is not None:
            again, self._again = self._again, None
            again.leave()
        self._switch.turn(on=False)
        if self.armed:
            self.armed = False
            self.finder.end_step()
            if not self.finder.tracing:
                self._forget_callers()

    # Hooks

    def _before(self, module: nn.Module, call: Callable[..., None]) -> None:
        hook = Hook(self, call)
        self._switch.add(module.register_forward_pre_hook(hook), hook)

    def _before_activation(self, module: nn.Module, name: str, function: Activation) -> None:
        hook = Hook(self, partial(self._activation_begins, name, function))
        self._switch.add(module.register_forward_pre_hook(hook, with_kwargs=True), hook)

    def _after(self, module: nn.Module, call: Callable[..., None]) -> None:
        hook = Hook(self, call)
        self._switch.add(module.register_forward_hook(hook), hook)

    def new_forward(self) -> None:
        """What is called from here on is another forward, not a second call in the same one."""
        if not recomputing():
            self.finder.calls.new_forward()

    def _child_begins(self, name: str) -> None:
        if not recomputing():
            self.finder.calls.enter(name)

    def _caller_begins(self, name: str) -> None:
        self._callers.append(name)
        self.called.add(name)
        if self._again is None and recomputing() and self._functions is not None:
            # a backward pass runs without the modes that were on when it was called
            self._again = Functions(self)
            self._again_at = len(self._callers)
            self._again.enter()

    def _caller_ends(self) -> None:
        if self._again is not None and len(self._callers) == self._again_at:
            again, self._again = self._again, None
            again.leave()
        if self._callers:
            self._callers.pop()

    def _activation_begins(
        self, name: str, function: Activation, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        z = args[0] if args else next(iter(kwargs.values()), None)
        z = z if isinstance(z, Tensor) else None
        self.inside += 1
        again = recomputing()
        layer = self.finder.recalled(name) if again else self.finder.activated(name, function, z)
        if z is not None and self.finder.tracing:
            self._reads[name] = function, z
        if layer is not None and z is not None and not again:
            self._send(layer, Signal.PREACTIVATION, z)
        self._pending.setdefault(name, []).append(layer)

    def _activation_ends(self, name: str, module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
        self.inside -= 1
        if self._reads and name in self._reads and isinstance(out, Tensor):
            follow = self.finder.recall.applied if recomputing() else self.finder.module_applied
            follow(*self._reads.pop(name), out)
        layer = self._pending[name].pop()
        if layer is not None and isinstance(out, Tensor):
            self._activation(layer, out)

    def _owner_ends(self, name: str, module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
        self.called.add(name)
        found = _numbers_in(out)
        if not found:
            self.finder.unknown[name] = f"gives a {type(out).__name__} without a tensor of numbers"
            return
        first, *others = found  # of an RNN, the others are its state
        again = recomputing()
        layer = self.finder.recalled(name) if again else self.finder.produced(module, name, inputs, first, others)
        read = tensors_in(inputs[:1]) if self.finder.heads is not None else []
        if read and read[0] is not first and self.finder.heads is not None:
            self._deliver(self.finder.heads, Signal.ACTIVATION, read[0])
            self._listen(self.finder.heads, read[0])
        if layer is not None:
            self._activation(layer, first)
            if others and isinstance(module, nn.RNNBase) and others[-1].requires_grad:
                directions = 1 + module.bidirectional
                state = others[-2] if isinstance(module, nn.LSTM) else others[-1]
                state.register_hook(lambda gradient: self._state_gradient(layer, gradient[-directions:]))

    def _state_gradient(self, layer: Layer, gradient: Tensor) -> None:
        """What flows into the last state of the last layer, which is the activation at the end of each sequence."""
        self._gradient(layer, None, gradient.movedim(0, -2).flatten(-2))

    def _attention_ends(self, name: str, module: nn.MultiheadAttention, inputs: tuple[Any, ...], out: Any) -> None:
        heads = read_by_out_proj(out[0])
        if not recomputing():
            self.finder.attended(name, module, heads, inputs)
        read = out[0] if heads is None else heads  # which no layer feeds directly
        self._owner_ends(f"{name}.out_proj" if name else "out_proj", module.out_proj, (read, *inputs), out[0])

    # Functions

    def before_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Layer | None:
        """Find the layer of a functional activation and deliver what it reads."""
        function = activations.from_function(func, args, kwargs)
        z = args[0] if args else kwargs.get("input")
        if function is None or not isinstance(z, Tensor):
            return None
        layer = self.finder.functions.activated(self._caller, function, z)
        if layer is not None:
            self._deliver(layer, Signal.PREACTIVATION, z)
        return layer

    def after_function(
        self, before: Layer | None, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        """Deliver what it wrote, or follow the tensors through any other function."""
        if before is not None:
            self.finder.functions.applied(func, args[0] if args else kwargs.get("input"), out)
        layer = before or self.finder.functions.called(self._caller, func, args, kwargs, out)
        if layer is not None and isinstance(out, Tensor):
            z = None if before else self.finder.functions.what_was_read()
            if z is not None:
                self._deliver(layer, Signal.PREACTIVATION, z)
            self._activation(layer, out)

    def function_again(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A function in a stretch that runs again for its gradients: a reentrant checkpoint had none the first time."""
        function = activations.from_function(func, args, kwargs)
        layer = self.finder.recall.product(self._caller, func, args, kwargs, out)
        if function is not None:
            layer = self.finder.recall.function(self._caller, function)
        if layer is not None and isinstance(out, Tensor):
            self._listen(layer, out)

    @property
    def _caller(self) -> str | None:
        return self._callers[-1] if self._callers else None


def _numbers_in(out: Any) -> list[Tensor]:
    if type(out) is Tensor and out.is_floating_point():
        return [out]
    return [t for t in tensors_in((out,)) if t.is_floating_point() or t.is_complex()]
