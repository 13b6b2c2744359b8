"""Numbers of a report."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_neurohealth import Report
from tests.training import Learner, fit


def rows(report: Report, layer: str = "net.fc1") -> float:
    return float(report[layer]["activation_rows"])


def gradient_numbers(net: nn.Module, data: Any, **options: Any) -> dict[str, Tensor]:
    """Every number on gradients and the loss, of a run that leaves the weights where they are."""
    torch.manual_seed(1)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    report = fit(Learner(net, lr=0.0), data, measures="full", **options).report
    numbers = {name: report.run[name] for name in ("train_loss", "global_gradient_norm")}
    for name, layer in report.items():
        for measure in ("gradient_flow", "gradient_variance", "gradient_pass_rate"):
            numbers[f"{name} {measure}"] = layer[measure]
    for name, parameter in report.parameters.items():
        for of in ("norm", "mean", "std", "min", "max"):
            numbers[f"{name} gradient_{of}"] = parameter[f"gradient_{of}"]
    assert len(numbers) == 2 + 2 * 3 + 4 * 5
    return numbers
