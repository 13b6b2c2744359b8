"""What a report holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.training import MLP, Learner, fit, make_data


def test_report_is_a_mapping_of_layers_in_the_order_of_execution() -> None:
    class Backwards(MLP):
        """fc2 is registered before fc1 and called after it."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.fc2, self.act, self.fc1 = nn.Linear(8, 1), nn.ReLU(), nn.Linear(4, 8)

    health = fit(Backwards())
    report = health.report
    assert isinstance(report, Mapping)
    assert list(report) == list(report.coverage.watched) == ["net.fc1", "net.fc2"]
    assert len(report) == 2
    assert "net.fc1" in report
    layer = report["net.fc1"]
    assert isinstance(layer, Mapping)
    assert (layer.name, layer.activation, layer.function, layer.neurons) == ("net.fc1", "net.act", "relu", 8)
    assert (layer.output, report["net.fc2"].output) == (False, True)
    assert layer["on_rate"].shape == (8,)
    assert layer["activation_scale"].shape == ()
    assert report["net.fc2"]["on_rate"].shape == (1,)
    assert "slope" not in report["net.fc2"]  # without an activation there is none
    with pytest.raises(KeyError, match=r"net\.act.*there are net\.fc1, net\.fc2"):
        report["net.act"]
    with pytest.raises(KeyError, match=r"on_rat.*on_rate"):
        layer["on_rat"]


def test_numbers_are_those_of_the_data() -> None:
    net = MLP()
    model = Learner(net, lr=0.0)
    report = fit(model).report
    x, y = (torch.cat(column) for column in zip(*make_data(), strict=True))
    z = net.fc1(x)
    a = torch.relu(z)
    layer = report["net.fc1"]
    torch.testing.assert_close(layer["on_rate"], (a > 0).double().mean(0))
    torch.testing.assert_close(layer["zero_rate"], (a == 0).double().mean(0))
    torch.testing.assert_close(layer["activation_std"], a.double().std(0, correction=0))
    torch.testing.assert_close(layer["preactivation_mean"], z.double().mean(0))
    torch.testing.assert_close(layer["slope"], (z > 0).double().mean(0))
    losses = F.mse_loss(net(x), y, reduction="none").view(4, 8).mean(1)
    torch.testing.assert_close(report.run["train_loss"], losses.double())
    norms = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
    torch.testing.assert_close(report.run["global_gradient_norm"], torch.stack(norms).double())


def test_measures_are_copies_and_reports_stay_as_they_were() -> None:
    health = fit(MLP(), max_epochs=2)
    first, second = health.reports
    kept = {name: value.clone() for name, value in first["net.fc1"].items()}
    assert second.previous is first
    assert health.report is second
    assert not torch.equal(first["net.fc1"]["activation_mean"], second["net.fc1"]["activation_mean"])
    fit(MLP(), health=health)
    for name, value in kept.items():
        assert torch.equal(first["net.fc1"][name], value), name


@pytest.mark.parametrize("measures", ["economy", "standard", "full", ["on_rate"]])
def test_measures_that_were_chosen(measures: Any) -> None:
    report = fit(MLP(), measures=measures).report
    assert "on_rate" in report["net.fc1"]
    assert ("preactivation_std" in report["net.fc1"]) == (measures in ("standard", "full"))
    assert ("activation_max" in report["net.fc1"]) == (measures == "full")
    assert ("gradient_flow" in report["net.fc1"]) == (measures != ["on_rate"])
