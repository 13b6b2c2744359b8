from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import activations
from lightning_neurohealth.nn import (
    FUNCTIONS,
    AdaptiveActivation,
    ShapeLearningActivation,
    StableBlock,
    draw_shapes,
    shapes,
)
from tests.training import layers_of, watch_step

Z = torch.linspace(-4, 4, 81)


def autograd_slope(f: Any, z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(z).sum(), z)
    return slope


class TestAdaptiveActivation:
    def test_is_a_mixture(self) -> None:
        act = AdaptiveActivation(["relu", "tanh", "sigmoid"])
        with torch.no_grad():
            act.weights.copy_(torch.tensor([1.0, 2.0, -1.0]))
        shares = np.exp([1.0, 2.0, -1.0]) / np.exp([1.0, 2.0, -1.0]).sum()
        z = Z.numpy()
        expected = shares @ np.stack([np.maximum(z, 0), np.tanh(z), 1 / (1 + np.exp(-z))])
        np.testing.assert_allclose(act(Z).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
        assert act.mixture == pytest.approx(dict(zip(["relu", "tanh", "sigmoid"], shares, strict=True)))
        assert act.entropy == pytest.approx(-(shares * np.log2(shares)).sum())
        assert repr(act).startswith("AdaptiveActivation(71% tanh, 26% relu")

    def test_starts_even(self) -> None:
        act = AdaptiveActivation()
        assert act.entropy == pytest.approx(2.0)
        assert set(act.mixture.values()) == {0.25}

    @pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "relu"])
    def test_its_slope_is_that_of_autograd(self, name: str) -> None:
        act = AdaptiveActivation(["relu", name])
        with torch.no_grad():
            act.weights[1] = 0.7
        known = activations.from_module(act)
        assert known is not None
        z = Z + 0.01
        torch.testing.assert_close(known.derivative(z), autograd_slope(act, z), rtol=1e-4, atol=1e-5)

    def test_learns_which_one(self) -> None:
        torch.manual_seed(0)
        act = AdaptiveActivation(["relu", "tanh", "identity"])
        optimizer = torch.optim.Adam(act.parameters(), 0.1)
        for _ in range(200):
            optimizer.zero_grad()
            (act(Z) - torch.tanh(Z)).square().mean().backward()
            optimizer.step()
        assert act.mixture["tanh"] > 0.9

    def test_monitor_sees_one_layer(self) -> None:
        act = AdaptiveActivation(["relu", "tanh"])
        net, x = nn.Sequential(nn.Linear(4, 6), act, nn.Linear(6, 1)), torch.randn(32, 4)
        layer = layers_of(net, x)["0"]
        assert (layer.activation, layer.function.name) == ("1", "adaptive")
        _, report = watch_step(net, x)
        slope = autograd_slope(act, net[0](x).detach()).abs().mean(0)
        np.testing.assert_allclose(report["0"]["slope"].numpy(), slope.numpy(), rtol=1e-4)

    def test_survives_copies_and_checkpoints(self) -> None:
        act = AdaptiveActivation(["gelu", "identity"])
        for twin in (copy.deepcopy(act), pickle.loads(pickle.dumps(act))):
            assert torch.equal(twin(Z), act(Z))
        other = AdaptiveActivation(["gelu", "identity"])
        other.load_state_dict(act.state_dict())

    def test_does_not_change_its_input(self) -> None:
        z = Z.clone()
        AdaptiveActivation(["identity", "relu"])(z).mul_(2)
        assert torch.equal(z, Z)

    @pytest.mark.parametrize(
        ("names", "error", "words"),
        [
            (["relu"], ValueError, "at least two"),
            (["relu", "relu"], ValueError, "each once"),
            ([], ValueError, "at least two"),
            (["relu", "swoosh"], ValueError, "no activation is called 'swoosh'; there are relu"),
            ("relu", TypeError, "list of names"),
        ],
    )
    def test_bad_names(self, names: Any, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            AdaptiveActivation(names)


class TestShapeLearningActivation:
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_starts_within_a_hundredth(self, name: str) -> None:
        act = ShapeLearningActivation(name)
        z = torch.linspace(-3, 3, 1777)
        distance = float((act(z) - FUNCTIONS[name](z)).detach().abs().max())
        assert distance < 0.01
        assert distance <= act.error + 1e-3
        assert act.error < 0.01

    def test_imitates_any_function(self) -> None:
        act = ShapeLearningActivation(lambda z: z * torch.sin(z))
        assert act.error < 0.02
        assert float(act(torch.tensor(1.5)).detach()) == pytest.approx(1.5 * math.sin(1.5), abs=0.02)

    def test_goes_on_straight_outside(self) -> None:
        act = ShapeLearningActivation("leaky_relu")
        assert float(ShapeLearningActivation("identity")(torch.tensor(1e3)).detach()) == pytest.approx(1e3, rel=1e-3)
        far = torch.tensor([-50.0, -20.0, 20.0, 50.0])
        np.testing.assert_allclose(act(far).detach().numpy(), F.leaky_relu(far).numpy(), rtol=0.02, atol=0.1)

    def test_keeps_shape_and_dtype(self) -> None:
        act = ShapeLearningActivation().double()
        assert act(torch.zeros(2, 3, 4, dtype=torch.float64)).shape == (2, 3, 4)
        assert act(torch.zeros((), dtype=torch.float64)).dtype == torch.float64

    def test_its_slope_is_that_of_autograd(self) -> None:
        act = ShapeLearningActivation("gelu")
        known = activations.from_module(act)
        assert known is not None
        torch.testing.assert_close(known.derivative(Z), autograd_slope(act, Z), rtol=1e-3, atol=1e-4)

    def test_learns_another_shape(self) -> None:
        act = ShapeLearningActivation("relu")
        optimizer = torch.optim.Adam(act.parameters(), 0.01)
        z = torch.linspace(-3, 3, 101)
        losses = []
        for _ in range(200):
            optimizer.zero_grad()
            loss = (act(z) - z.square() / 3).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.1 * losses[0]

    def test_monitor_sees_one_layer(self) -> None:
        net = nn.Sequential(nn.Linear(4, 6), ShapeLearningActivation(), nn.Linear(6, 1))
        found = layers_of(net, torch.randn(8, 4))
        assert [(name, layer.activation) for name, layer in found.items()] == [("0", "1"), ("2", None)]

    def test_leaves_torch_random_numbers(self) -> None:
        before = torch.get_rng_state()
        ShapeLearningActivation()
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"like": "swoosh"}, ValueError, "no activation is called"),
            ({"like": 3}, TypeError, "a name or a function"),
            ({"like": torch.log}, ValueError, "finite number"),
            ({"like": lambda z: z.sum()}, ValueError, "for each element"),
            ({"units": 0}, ValueError, "units"),
            ({"units": 2.5}, ValueError, "units"),
        ],
    )
    def test_bad_arguments(self, options: dict[str, Any], error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            ShapeLearningActivation(**options)


class TestStableBlock:
    def test_is_linear_norm_relu(self) -> None:
        torch.manual_seed(0)
        block, x = StableBlock(4, 6), torch.randn(32, 4)
        z = x.numpy() @ block.fc.weight.detach().numpy().T
        expected = np.maximum((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5), 0)
        np.testing.assert_allclose(block(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_rows_of_sequences(self) -> None:
        torch.manual_seed(0)
        block, x = StableBlock(4, 6).eval(), torch.randn(3, 5, 4)
        torch.testing.assert_close(block(x), block(x.reshape(15, 4)).reshape(3, 5, 6))

    def test_is_one_healthy_layer(self) -> None:
        torch.manual_seed(0)
        net = nn.Sequential(*(StableBlock(16, 16) for _ in range(10)))
        _, report = watch_step(net, 1 + 5 * torch.randn(256, 16))
        assert list(report) == [f"{i}.fc" for i in range(10)]
        assert all(float(layer["on_rate"].min()) > 0.2 for layer in report.values())


class TestShapes:
    def net(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(4, 3), nn.PReLU(3), AdaptiveActivation(), nn.Linear(3, 1), ShapeLearningActivation()
        )

    def test_are_the_functions_as_they_are(self) -> None:
        net = self.net()
        with torch.no_grad():
            net[1].weight.copy_(torch.tensor([0.0, 0.5, 1.0]))
        found = shapes(net)
        assert list(found) == ["1", "2", "4"]
        z, a = found["1"]
        np.testing.assert_allclose(a.numpy(), np.where(z.numpy()[:, None] > 0, 1, [0.0, 0.5, 1.0]) * z.numpy()[:, None])
        torch.testing.assert_close(found["2"][1][:, 0], net[2](z).detach())

    def test_are_drawn(self) -> None:
        figure = draw_shapes(self.net())
        assert [ax.get_title() for ax in figure.axes] == ["1", "2", "4"]
        assert [len(ax.lines) for ax in figure.axes] == [3 + 2, 1 + 2, 1 + 2]

    def test_nothing_to_draw(self) -> None:
        with pytest.raises(ValueError, match="no activation that learns"):
            draw_shapes(nn.Linear(3, 3))
