"""Activations that have become straight lines."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_neurohealth.findings import Severity
from lightning_neurohealth.layers import Layer
from lightning_neurohealth.rules.base import LayerRule, Verdict


@dataclass(frozen=True, kw_only=True)
class LinearActivation(LayerRule):
    """What it finds: an activation that has learned to be a straight line: a PReLU of which every negative slope lies
    at 1, a mixture or a learned shape with the same slope everywhere.

    Why it hurts: the layer and the next one are a single linear map; the depth is paid for and not used.

    Remedies: start the slopes at 0.25 (torch's default), no weight decay towards 1, a smaller learning rate for the
    slopes, a fixed activation instead.

    Sources: advanced activation techniques (S4); He et al. (2015) find learned slopes between 0 and 0.7. At a slope
    within a hundredth of 1 the function is within half a hundredth of the straight line: less than the noise of a
    batch.

    Attributes:
        near: Distance from 1, of the mean of the slopes and of their standard deviation; of other shapes, the spread of
            the slope in its root mean square.
    """

    near: float = 0.01

    def judge(
        self,
        layer: Layer,
        nonlinearity: Tensor,
        initial: dict[str, dict[str, Tensor]],
        prelu_slope: Tensor | None = None,
        prelu_slope_std: Tensor | None = None,
    ) -> Verdict | None:
        if prelu_slope is None or prelu_slope_std is None:
            return self._of_shape(layer, float(nonlinearity), initial)
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

    def _of_shape(self, layer: Layer, bend: float, initial: dict[str, dict[str, Tensor]]) -> Verdict | None:
        if not bend <= self.near:
            return None
        start = float(initial.get("nonlinearity", {}).get(layer.name, bend))
        return Verdict(
            severity=Severity.WARNING,
            value=bend,
            threshold=self.near,
            message=f"the slope of {layer.activation} is the same all over [−3, 3], to {bend:.2g} of itself: "
            f"{layer.name} has become linear",
            cause="the shape was learned" if start > self.near else "it began as a straight line and has stayed one",
            remedy=f"leave the identity out of what {layer.activation} can become, a smaller learning rate for it, or "
            f"a fixed ReLU, LeakyReLU or GELU behind {layer.owner or layer.name}",
        )
