"""Reports made by hand."""

from __future__ import annotations

import torch

from lightning_neurohealth.coverage import Coverage
from lightning_neurohealth.findings import Finding, Severity
from lightning_neurohealth.record import LayerReport
from lightning_neurohealth.report import Report


def make_finding(layer: str | None = "fc1", condition: str = "dead_neurons", severity: int = 2, **more) -> Finding:
    facts = {
        "value": 0.25,
        "threshold": 0.2,
        "message": f"8 of 32 neurons of {layer} gave the same output on all of 1,280 rows",
        "cause": "their pre-activation lies at -50 ± 1.5, in the flat part of relu",
        "remedy": "lower the learning rate or warm it up",
        "since": (0, 40),
    }
    return Finding(condition, Severity(severity), layer, **{**facts, **more})


def make_report(
    names=("fc1", "fc2", "head"),
    findings=(),
    *,
    index=0,
    previous=None,
    recovered=(),
    measures=None,
    run=None,
    missed=(),
    last=False,
) -> Report:
    """Layers of four neurons, ReLU but for the last one; ``measures`` go to each of them."""
    names = list(names)
    worst = {f.layer: max(g.severity for g in findings if g.layer == f.layer) for f in findings}
    values = {
        "on_rate": torch.tensor([0.0, 0.25, 0.5, 1.0]),
        "zero_rate": torch.tensor([1.0, 0.75, 0.5, 0.0]),
        "activation_std": torch.tensor([0.0, 1.0, 2.0, 3.0]),
        "gradient_rms": torch.tensor(0.031),
        **(measures or {}),
    }
    layers = {
        name: LayerReport(
            name,
            4,
            values,
            activation=None if name == names[-1] else f"{name}.act",
            function="identity" if name == names[-1] else "relu",
            severity=worst.get(name, Severity.HEALTHY),
        )
        for name in names
    }
    return Report(
        index=index,
        epoch=index,
        step=40 * (index + 1),
        steps=40,
        measured=8,
        layers=layers,
        run={"train_loss": torch.tensor([2.0, 1.0])} if run is None else run,
        findings=sorted(findings, key=lambda f: -f.severity),
        recovered=list(recovered),
        coverage=Coverage(tuple(names), dict.fromkeys(missed, "never called"), 0.5),
        last=last,
        previous=previous,
    )
