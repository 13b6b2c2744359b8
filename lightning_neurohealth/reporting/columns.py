"""The rows and columns of the health table."""

from __future__ import annotations

import math

from lightning_neurohealth.record import LayerReport, Record
from lightning_neurohealth.reporting.spelling import printable

MEASURES = {  # title: measure, and whether it is a share
    "on rate": ("on_rate", True),
    "zero": ("zero_rate", True),
    "saturated": ("saturation_rate", True),
    "spread": ("activation_std", False),
    "gradient": ("gradient_rms", False),
}
WORDS = ("layer", "activation", "health")  # columns of words; the others hold numbers
ROWS = 12
SICK = 20


def sick_layers(report: Record) -> list[LayerReport]:
    """The layers with a finding, the worst first."""
    return sorted((layer for layer in report.layers.values() if layer.severity), key=lambda layer: -layer.severity)


def shown_layers(report: Record) -> list[LayerReport]:
    """Some layers with their numbers: the sick ones, and the first healthy ones behind them."""
    sick = sick_layers(report)[:SICK]
    healthy = [layer for layer in report.layers.values() if not layer.severity]
    return [*sick, *healthy[: max(ROWS - len(sick), 0)]]


def columns(report: Record, layers: list[LayerReport]) -> dict[str, list[str]]:
    """Title to cells; a measure that none of the layers has gets no column."""
    names = {finding.layer: set[str]() for finding in report.findings}
    for finding in report.findings:
        names[finding.layer].add(finding.condition)
    numbers = {title: [cell(layer, measure, share) for layer in layers] for title, (measure, share) in MEASURES.items()}
    return {
        "layer": [printable(layer.name) for layer in layers],
        "activation": ["" if layer.function == "identity" else layer.function for layer in layers],
        "neurons": [str(layer.neurons) for layer in layers],
        **{title: cells for title, cells in numbers.items() if any(cells)},
        "health": [", ".join(sorted(names.get(layer.name, ()))) or "healthy" for layer in layers],
    }


def cell(layer: LayerReport, measure: str, share: bool) -> str:
    """A measure's mean over the layer's neurons, short; nothing where it says nothing."""
    value = layer.means.get(measure)
    if value is None or (share and layer.function == "identity"):
        return ""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else str(value)
    if not share:
        return f"{value:.2g}"
    if 0 < value < 0.005:
        return "<1%"  # 0% and 100% are kept for what never and what always happens
    return ">99%" if 0.995 <= value < 1 else f"{value:.0%}"
