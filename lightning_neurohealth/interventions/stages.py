"""Where a step can be cut open: the module that it calls once, for whole rows of a batch, is run on copies of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from lightning_neurohealth.layers import Layer


class CopiesDisagreeError(RuntimeError):
    """Copies of a batch behind one another are not what the model takes for rows of one batch."""


@dataclass
class Stage:
    """One call of a module within a step.

    Attributes:
        module: Who was called.
        args, kwargs: With what.
        rows: How many samples that was.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: int

    def run(self, copies: int) -> list[Any]:
        """The same call for several copies of the rows behind one another; what it gives for each.

        Raises:
            CopiesDisagreeError: It gives something else than rows.
        """
        args, kwargs = tree_map(lambda x: self._repeated(x, copies), (self.args, self.kwargs))
        output = self.module(*args, **kwargs)
        return [tree_map(lambda x, i=i: self._part(x, copies, i), output) for i in range(copies)]

    @contextmanager
    def giving(self, output: Any) -> Iterator[None]:
        """Let the module give ``output``, whatever it is asked."""
        own = vars(self.module).get("forward")
        vars(self.module)["forward"] = lambda *args, **kwargs: output
        try:
            yield
        finally:
            if own is None:
                del vars(self.module)["forward"]
            else:
                vars(self.module)["forward"] = own

    def _repeated(self, x: Any, copies: int) -> Any:
        return torch.cat([x] * copies) if isinstance(x, Tensor) and x.dim() and len(x) == self.rows else x

    def _part(self, x: Any, copies: int, index: int) -> Any:
        if not isinstance(x, Tensor):
            return x
        if x.dim() == 0 or len(x) != self.rows * copies:
            raise CopiesDisagreeError(f"the model gives {tuple(x.shape)} for {copies} copies of {self.rows} rows")
        return x[index * self.rows : (index + 1) * self.rows]


class Stages:
    """The stage of each layer: of the modules that hold it, the outermost one that a step calls once and that gives
    rows. Of a model that gives its loss too, as those of Hugging Face do, that is the network within.

    Args:
        modules: All modules of the model by name.
        layers: Whose stages are wanted.
    """

    def __init__(self, modules: Mapping[str, nn.Module], layers: Iterable[Layer]) -> None:
        self.modules = modules
        self._holders = {layer.name: _holders(layer.owner or layer.activation or "") for layer in layers}
        self._found: dict[str, Stage] = {}

    def of(self, layer: str) -> Stage | None:
        """The stage of ``layer`` in the step that was watched last."""
        return next((self._found[name] for name in self._holders.get(layer, ()) if name in self._found), None)

    @contextmanager
    def watched(self, rows: int) -> Iterator[None]:
        """See one step, on a batch of ``rows`` samples."""
        self._found.clear()
        calls: dict[str, list[Stage | None]] = {}
        names = {name for holders in self._holders.values() for name in holders}
        modules = {name: self.modules[name] for name in names if name in self.modules}
        hooks = []
        for name, module in modules.items():
            if not isinstance(module, torch.jit.ScriptModule):  # which refuses hooks
                seen = partial(_see, calls.setdefault(name, []), rows)
                hooks.append(module.register_forward_hook(seen, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        once = {name: stages[0] for name, stages in calls.items() if len(stages) == 1}
        self._found = {name: stage for name, stage in once.items() if stage is not None}
        self._holders = {  # from now on only who is of use: inputs of all others would fill the memory
            layer: [name for name in holders if name in self._found][:1] for layer, holders in self._holders.items()
        }


def _holders(path: str) -> list[str]:
    """Names of the modules around ``path``, the outermost first.

    >>> _holders("encoder.0.fc")
    ['', 'encoder', 'encoder.0']
    """
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(len(parts))]


def _see(
    stages: list[Stage | None], rows: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> None:
    tensors = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
    by_row = bool(tensors) and all(x.dim() and len(x) == rows for x in tensors)
    stages.append(Stage(module, args, kwargs, rows) if by_row else None)
