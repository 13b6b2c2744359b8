"""Which modules own weights, and whose a parameter is."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.parameter import is_lazy

from lightning_neurohealth.layers import COLLECTIONS, clean_name, is_owner


class Owners:
    """The owners in one model.

    Attributes:
        names: Name of each parameter by its id.
        paths: By the id of a parameter with two axes or more, the name of what it is the weight of: its module, or
            itself where the module is a list of many.
        homes: The module behind each of these names.
    """

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        self.names = {id(p): clean_name(name) for name, p in model.named_parameters()}
        self.paths: dict[int, str] = {}
        self.homes: dict[str, str] = {}
        self._callable = {name for name, module in modules.items() if is_owner(module)}
        for name, module in modules.items():
            for own, p in module.named_parameters(recurse=False):
                if not is_lazy(p) and p.dim() >= 2:
                    path = f"{name}.{own}" if isinstance(module, COLLECTIONS) else name
                    self.paths[id(p)], self.homes[path] = path, name

    def has(self, caller: str | None) -> bool:
        """True if ``caller`` is a module that applies its weight by itself, or lies within one."""
        while caller and caller not in self._callable:
            caller = caller.rpartition(".")[0]
        return caller in self._callable
