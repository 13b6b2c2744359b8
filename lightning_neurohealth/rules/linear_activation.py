"""Activations that have become straight lines."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import LayerRule, Verdict


@dataclass(frozen=True, kw_only=True)
class LinearActivation(LayerRule):
    """What it finds: a PReLU of which every negative slope lies at 1, so that it changes nothing.

    Why it hurts: the layer and the next one are a single linear map; the depth is paid for and not used.

    Remedies: start the slopes at 0.25 (torch's default), no weight decay towards 1, a smaller learning rate for the
    slopes, a fixed activation instead.

    Sources: advanced activation techniques (S4); He et al. (2015) find learned slopes between 0 and 0.7. At a slope
    within a hundredth of 1 the function is within half a hundredth of the straight line: less than the noise of a
    batch.

    Attributes:
        near: Distance from 1, of the mean of the slopes and of their standard deviation.
    """

    near: float = 0.01

    def judge(
        self,
        layer: Layer,
        prelu_slope: Tensor,
        prelu_slope_std: Tensor,
        initial: dict[str, dict[str, Tensor]],
    ) -> Verdict | None:
        slope, spread = float(prelu_slope), float(prelu_slope_std)
        if abs(slope - 1) > self.near or spread > self.near:
            return None
        start = float(initial.get("prelu_slope", {}).get(layer.name, prelu_slope))
        if abs(start - 1) > self.near:
            cause = f"the slope was learned: it began at {start:.3g}"
        else:
            cause = f"the slope began at {start:.3g} and has stayed there"
        return Verdict(
            severity=Severity.WARNING,
            value=slope,
            threshold=1 - self.near,
            message=f"the negative slope of {layer.activation} is {slope:.4g} ± {spread:.2g}: {layer.name} has become "
            "linear",
            cause=cause,
            remedy=f"start {layer.activation} at 0.25 with a smaller learning rate and no weight decay, or use a fixed "
            f"ReLU, LeakyReLU or GELU behind {layer.owner or layer.name}",
        )
