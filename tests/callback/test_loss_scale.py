"""A GradScaler does not show in the numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from tests.callback.numbers import gradient_numbers
from tests.callback.test_several_optimizers import Adversarial
from tests.training import MLP, Learner, fit, make_data

OF_ELEMENTS = ("gradient_mean", "gradient_std", "gradient_min", "gradient_max")


def half_precision(**options: Any) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", **options))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_loss_scale_does_not_show(accumulate: int) -> None:
    plain = gradient_numbers(MLP(), make_data(), accumulate_grad_batches=accumulate)
    scaled = gradient_numbers(
        MLP(), make_data(), accumulate_grad_batches=accumulate, plugins=[half_precision(init_scale=1024.0)]
    )
    torch.testing.assert_close(scaled, plain, rtol=0.02, atol=2e-4)


def test_loss_scale_does_not_show_in_manual_optimization() -> None:
    torch.manual_seed(3)
    plain = Adversarial()
    scaled = Adversarial()
    scaled.load_state_dict(plain.state_dict())
    expected = fit(plain).report
    report = fit(scaled, plugins=[half_precision(init_scale=1024.0)]).report
    for name in expected:
        flow = expected[name]["gradient_flow"]
        torch.testing.assert_close(report[name]["gradient_flow"], flow, rtol=0.05, atol=1e-3)
    torch.testing.assert_close(report.run["train_loss"], expected.run["train_loss"], rtol=0.05, atol=1e-3)


def test_step_skipped_by_the_scaler_raises_no_alarm() -> None:
    plugin = half_precision(init_scale=2.0**24, backoff_factor=2.0**-14)
    net = MLP()
    before = [p.clone() for p in net.parameters()]
    scales = []
    model = Learner(net, at_step=lambda model, step: scales.append(plugin.scaler.get_scale()))
    report = fit(model, plugins=[plugin], measures=["standard", *OF_ELEMENTS]).report
    assert scales == [2.0**24] + [2.0**10] * 3  # the first step overflowed, the others did not
    assert not all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    assert "non_finite" not in {f.condition for f in report.findings}
    assert torch.isfinite(report.run["global_gradient_norm"]).all()
    for layer in report.values():
        assert torch.isfinite(layer["gradient_flow"]).all()
        assert torch.isfinite(layer["gradient_norm"]).all()
        for measure in OF_ELEMENTS:
            assert torch.isfinite(layer[measure]).all()
