"""Recognises activations that are written out, such as ``x * sigmoid(x)``, by the numbers that they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import TensorWeakRef, WeakIdKeyDictionary

from lightning_neurohealth import activations
from lightning_neurohealth.activations import Activation
from lightning_neurohealth.tracing.origins import DIVISIONS, MULTIPLICATIONS

LINEAR = {"add", "__add__", "__radd__", "sub", "__sub__", "__rsub__", "rsub", "neg", "__neg__"}
CURVED = {
    *("pow", "__pow__", "square", "exp", "tanh", "sigmoid", "erf", "softplus", "log1p", "expit"),
    *("relu", "relu6", "hardtanh", "hardsigmoid", "clamp", "reciprocal"),
}
PRODUCTS = MULTIPLICATIONS | DIVISIONS
SAMPLE = 256
"""Elements that are compared."""
SPREAD = 1.0
"""Least range of these inputs: near 0 all activations look alike."""
TRIES = 50
"""Measured steps in which numbers that tell are waited for."""
WRITTEN: tuple[tuple[nn.Module | str, Callable[[Tensor], Tensor]], ...] = (
    (nn.SiLU(), F.silu),
    (nn.GELU(), F.gelu),
    (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    ("QuickGELU", lambda x: x * torch.sigmoid(1.702 * x)),
    (nn.Mish(), F.mish),
    (nn.Hardswish(), F.hardswish),
)


class Composed:
    """Follows what is computed element by element from one tensor, and looks at its products.

    Attributes:
        verdicts: What the product at each site has turned out to be.
    """

    def __init__(self) -> None:
        self.verdicts: dict[str, Activation | None] = {}
        self._tries: Counter[str] = Counter()
        self._from: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._inner: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def clear(self) -> None:
        """Forget the tensors of a step."""
        if self._from:
            self._from = WeakIdKeyDictionary()
        if self._inner:
            self._inner = WeakIdKeyDictionary()

    def root(self, tensor: Tensor) -> Tensor:
        """The tensor of which ``tensor`` is computed element by element; itself if there is none."""
        # held weakly: whoever multiplies with it still has it, and others may have let it go
        root: Tensor | None = self._from[tensor][0]() if tensor in self._from else None
        return tensor if root is None else root

    def applied(self, call: str, z: Tensor) -> None:
        """A function or module, known as an activation, is about to read ``z``."""
        self._inner.setdefault(self.root(z), []).append(call)

    def inner(self, root: Tensor) -> list[str]:
        """Such calls on the way from ``root``."""
        calls: list[str] = self._inner.get(root, [])
        return calls

    def follow(self, name: str, tensors: list[Tensor], out: Tensor) -> Tensor | None:
        """A function has given ``out``; its root, if ``out`` is a product that may be an activation of it."""
        if name not in LINEAR and name not in CURVED and name not in PRODUCTS:
            return None
        arrays = [t for t in tensors if t.dim() > 0 or isinstance(t, nn.Parameter)]
        if not arrays or any(t.shape != out.shape or t is out for t in arrays):
            return None
        root = self.root(arrays[0])
        if any(self.root(t) is not root for t in arrays[1:]) or root.shape != out.shape:
            return None
        product = name in PRODUCTS
        curved = any(t in self._from and self._from[t][1] for t in arrays)
        self._from[out] = (TensorWeakRef(root), curved or name in CURVED or (product and len(arrays) > 1))
        return root if product and curved else None

    def verdict(self, site: str, root: Tensor, out: Tensor) -> Activation | None:
        """Which activation of ``root`` the product ``out`` is; looked at until the numbers tell, then remembered.

        Looking waits for the device, once for each product of a model that may be an activation.
        """
        if site in self.verdicts:
            return self.verdicts[site]
        self._tries[site] += 1
        if self._tries[site] > TRIES:
            return None
        x, a = _sample(root), _sample(out)
        if x is None or a is None or not bool(x.isfinite().all()) or float(x.max() - x.min()) < SPREAD:
            return None
        limit = max(1e-5, 4 * torch.finfo(out.dtype).eps) * float(a.abs().max())
        errors = [float((function(x) - a).abs().max()) for _, function in WRITTEN]
        best = min(errors)
        found = _known(WRITTEN[errors.index(best)][0]) if best <= limit else None
        self.verdicts[site] = found
        return found


def _sample(tensor: Tensor) -> Tensor | None:
    plain = tensor.layout == torch.strided and not hasattr(tensor, "placements") and tensor.is_floating_point()
    if not plain or not tensor.numel() or tensor.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return None
    places = torch.linspace(0, tensor.numel() - 1, SAMPLE, device=tensor.device).long()
    return tensor.detach().take(places).double()


def _known(module: nn.Module | str) -> Activation | None:
    return activations.from_module(type(module, (nn.Module,), {})() if isinstance(module, str) else module)
