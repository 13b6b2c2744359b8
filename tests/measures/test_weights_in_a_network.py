"""Measures of weights, gradients and updates of a real network against what plain torch computes from it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report
from lightning_neurohealth.measures import all_measures
from tests.measures.harness import assert_close
from tests.measures.weights import rows


def network() -> nn.Module:
    torch.manual_seed(0)
    front = [nn.Conv2d(2, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4), nn.Tanh()]
    return nn.Sequential(*front, nn.Linear(4, 3, bias=False)).double()


OF_GRADIENTS = ["gradient_mean", "gradient_std", "gradient_min", "gradient_max"]
MEASURES = [*OF_GRADIENTS, *(name for name, measure in all_measures().items() if measure.subject == "layer")]


class Steps:
    """What plain torch sees of a run: weights before each step and at the end, and gradients."""

    def __init__(self) -> None:
        net, self.weights, self.gradients, self.inputs = network(), [], [], []
        optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
        monitor = Monitor(net, every_n_steps=1, window="epoch", measures=MEASURES)
        generator = torch.Generator().manual_seed(1)
        for n in (7, 1, 13, 4):
            x = torch.randn(n, 2, 5, 6, generator=generator).double()
            self.weights.append(copy.deepcopy(net.state_dict()))
            optimizer.zero_grad()
            monitor.begin_step()
            monitor.begin_batch()
            net(x).sub(1).square().mean().backward()
            monitor.end_batch()
            monitor.before_update()
            self.gradients.append({name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None})
            optimizer.step()
            monitor.end_step(stepped=True)
        self.weights.append(copy.deepcopy(net.state_dict()))
        report = monitor.close()
        monitor.remove()
        assert report is not None
        self.report: Report = report

    def of(self, layer: str, states: list[dict[str, Tensor]], name: str = "weight") -> list[np.ndarray]:
        return [rows(state[f"{layer}.{name}"].unsqueeze(-1)) for state in states]


@pytest.fixture(scope="module")
def steps() -> Steps:
    return Steps()


@pytest.mark.parametrize("layer", ["0", "4", "6"])
def test_weights_at_the_end_of_the_window(steps: Steps, layer: str) -> None:
    weight, found = steps.of(layer, steps.weights)[-1], steps.report[layer]
    norms = np.linalg.norm(weight, axis=1)
    assert_close(found["weight_norm"], norms)
    assert_close(found["dead_weight_rate"], np.zeros(len(weight)))
    cosines = abs(weight @ weight.T / norms / norms[:, None])
    assert_close(found["redundancy"], (cosines - np.eye(len(weight))).max(1), rtol=1e-9)
    fan = {"0": 18 / 2, "4": (5 + 4) / 2 / (5 / 3) ** 2, "6": 4}[layer]
    assert_close(found["init_scale"], weight.std() * np.sqrt(fan))
    if layer == "6":
        assert not found.keys() & {"bias_negativity", "bias_weight_ratio", "preactivation_prior"}
        return
    bias = steps.of(layer, steps.weights, "bias")[-1][:, 0]
    assert_close(found["bias_negativity"], bias / norms, rtol=1e-6)
    assert ("bias_weight_ratio" in found) == (layer == "4")
    assert ("positive_weight_sum" in found) == (layer == "4")
    if layer == "4":
        assert_close(found["bias_weight_ratio"], abs(bias) / norms, rtol=1e-6)
        assert_close(found["positive_weight_sum"], weight.clip(0).sum(1) + bias)


@pytest.mark.parametrize("layer", ["0", "4", "6"])
def test_gradients_of_all_measured_steps(steps: Steps, layer: str) -> None:
    gradients, found = np.stack(steps.of(layer, steps.gradients)), steps.report[layer]
    ages = 0.9 ** np.arange(len(gradients))[::-1]
    assert_close(found["gradient_mean"], gradients.mean(), rtol=1e-9)
    assert_close(found["gradient_std"], gradients.std())
    assert_close(found["gradient_min"], gradients.min())
    assert_close(found["gradient_max"], gradients.max())
    assert_close(found["gradient_uniformity"], abs(gradients).mean() / abs(gradients).std())
    squares = (gradients**2).sum(2)
    if layer != "6":
        squares = squares + (np.stack(steps.of(layer, steps.gradients, "bias")) ** 2).sum(2)
    assert_close(found["fisher"], np.tensordot(ages, squares, 1) / ages.sum())


@pytest.mark.parametrize("layer", ["0", "4", "6"])
def test_updates_of_all_measured_steps(steps: Steps, layer: str) -> None:
    weights, found = np.stack(steps.of(layer, steps.weights)), steps.report[layer]
    change = np.sqrt((np.diff(weights, axis=0) ** 2).sum(2).mean(0))
    assert_close(found["weight_change"], change)
    assert_close(found["relative_weight_change"], change / np.linalg.norm(weights[-1], axis=1), rtol=1e-6)


def test_every_layer_has_the_measures_of_activations(steps: Steps) -> None:
    for layer in steps.report.values():
        for name in ("activation_entropy", "activation_entropy_share", "taylor", "fitness"):
            assert layer[name].shape == (layer.neurons,)
        assert 1 <= layer["stable_rank"] <= layer["effective_rank"] * (1 + 1e-9) <= layer.neurons * (1 + 1e-9)


def test_fitness_from_a_run(steps: Steps) -> None:
    weight, gradients = steps.of("6", steps.weights)[-1], np.stack(steps.of("6", steps.gradients))
    parts = np.linalg.norm(weight, axis=1), np.sqrt((gradients**2).sum((0, 2)))
    magnitude = np.asarray(steps.report["6"]["activation_magnitude"])
    expected = sum(0.4 * part / part.max() for part in parts) + 0.2 * magnitude / magnitude.max()
    assert_close(steps.report["6"]["fitness"], expected)
    for name, over in (("fitness_mean", np.mean), ("fitness_max", np.max), ("fitness_variance", np.var)):
        assert_close(steps.report["6"][name], over(expected), rtol=1e-9)


def test_no_measure_failed(steps: Steps) -> None:
    assert not {name: why for name, why in steps.report.coverage.missed.items() if "failed" in why}


class Scaled(nn.Module):
    """An RMS norm as language models write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))


@pytest.mark.parametrize(
    ("between", "normalized"),
    [
        (nn.BatchNorm1d(4), True),
        (nn.LayerNorm(4), True),
        (nn.GroupNorm(2, 4), True),
        (nn.RMSNorm(4), True),
        (Scaled(4), True),
        (nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.1)), True),
        (nn.Identity(), False),
        (nn.Dropout(0.1), False),
        (nn.Unflatten(1, (4, 1)), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_bias_says_of_z_is_left_out_behind_a_norm(between: nn.Module, normalized: bool) -> None:
    """z is not Wx + b there."""
    of_z = {"bias_negativity", "positive_weight_sum", "preactivation_prior", "bias_weight_ratio"}
    net = nn.Sequential(nn.ReLU(), nn.Linear(3, 4), between, nn.Tanh(), nn.Flatten(), nn.Linear(4, 1))
    monitor = Monitor(net, measures=[*of_z, "weight_norm"])
    with monitor:
        net(torch.randn(6, 3, requires_grad=True)).sum().backward()
    report = monitor.close()
    assert report is not None
    assert report["1"].keys() == ({"weight_norm"} if normalized else {"weight_norm", *of_z})
    assert report["5"].keys() == {"weight_norm", "bias_negativity"}
