"""The layers of a network as a sequence."""

from __future__ import annotations

from torch import Tensor

from lightning_neurohealth.layers import Layer


def along_the_depth(layers: dict[str, Layer], activation_scale: dict[str, Tensor]) -> list[tuple[str, float]]:
    """Hidden layers in the order of execution, each with its activation scale.

    A branch that starts at zero (a residual gamma, LoRA's B) has an honest scale of 0: a zero is left out where a later
    layer has a scale again.
    """
    scales = [
        (name, float(scale))
        for name, scale in activation_scale.items()
        if not layers[name].output and bool(scale.isfinite())
    ]
    return [
        (name, scale)
        for i, (name, scale) in enumerate(scales)
        if scale > 0 or not any(later > 1e-3 * scales[0][1] for _, later in scales[i + 1 :])
    ]
