from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth.interventions import CannotCutError, recycle
from tests.interventions.cuttable import IMAGES, MLP, X4, ResNet
from tests.interventions.state import state


def deep() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 200), nn.ReLU(), nn.Linear(200, 100), nn.Tanh(), nn.Linear(100, 3))


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor = X4) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


class TestRecycle:
    def test_fresh_in_zero_out_and_nothing_else(self) -> None:
        model = deep()
        before = copy.deepcopy(model)
        gone, left = list(range(50)), list(range(50, 200))
        assert recycle(model, {"0": gone}, X4) == 50
        assert (model[0].weight[gone] != before[0].weight[gone]).all()
        assert float(model[0].weight[gone].detach().std()) == pytest.approx((2 / 4) ** 0.5, rel=0.15)
        assert (model[0].bias[gone] == 0).all()
        assert (model[2].weight[:, gone] == 0).all()
        assert torch.equal(model[0].weight[left], before[0].weight[left])
        assert torch.equal(model[0].bias[left], before[0].bias[left])
        assert torch.equal(model[2].weight[:, left], before[2].weight[:, left])
        assert torch.equal(model[4].weight, before[4].weight)

    def test_scale_follows_the_activation(self) -> None:
        model = deep()
        recycle(model, {"2": list(range(100))}, X4)
        assert float(model[2].weight.detach().std()) == pytest.approx(5 / 3 * (2 / 300) ** 0.5, rel=0.02)

    def test_dead_neurons_live_and_the_output_stays(self) -> None:
        model = deep()
        with torch.no_grad():
            model[0].bias[:20] = -100
        before = model(X4).detach()
        recycle(model, {"0": list(range(20))}, X4)
        torch.testing.assert_close(model(X4), before)
        assert (model[1](model[0](X4))[:, :20].sum(0) > 0).all()
        stepped(model, torch.optim.SGD(model.parameters(), 0.1))
        assert (model[2].weight[:, :20] != 0).any()

    @pytest.mark.parametrize("bias", [True, False])
    def test_a_constant_stays_in_the_biases_of_those_that_read_it(self, bias: bool) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3, bias=bias)).eval()
        with torch.no_grad():
            model[0].bias[2] = -100
            model[2].bias.normal_()
        x = torch.randn(16, 4)
        before = model(x).detach()
        recycle(model, {"0": [2]}, x)
        assert torch.allclose(model(x), before, atol=1e-6) == bias
        assert (model[3].weight[:, 2] == 0).all()

    def test_both_ends_of_a_weight(self) -> None:
        model = deep()
        recycle(model, {"0": [1, 2], "2": [5]}, X4)
        assert (model[2].weight[:, [1, 2]] == 0).all()
        assert (model[2].weight[5, 3:] != 0).all()

    @pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop])
    def test_optimizer_forgets(self, kind: Any) -> None:
        model = deep()
        optimizer = kind(model.parameters(), 0.01, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
        stepped(model, optimizer)
        before = copy.deepcopy(optimizer.state_dict()["state"])
        recycle(model, {"0": [3, 7]}, X4, optimizers=optimizer)
        touched = 0
        for index, moments in optimizer.state_dict()["state"].items():
            for name, moment in moments.items():
                expected = before[index][name].clone() if isinstance(before[index][name], Tensor) else None
                if expected is None or expected.dim() == 0:
                    continue
                if index in (0, 1):
                    expected[[3, 7]] = 0
                if index == 2:
                    expected[:, [3, 7]] = 0
                touched += int(not torch.equal(expected, before[index][name]))
                assert torch.equal(moment, expected), (index, name)
        assert touched >= 3

    def test_channels_with_their_norm(self) -> None:
        torch.manual_seed(0)
        model = ResNet()
        model(IMAGES)
        with torch.no_grad():
            model.bn1.weight.fill_(3.0)
            model.bn1.bias.fill_(2.0)
        before = copy.deepcopy(model)
        recycle(model, {"conv1": [0, 4]}, IMAGES)
        assert model.bn1.weight.tolist() == [1, 3, 3, 3, 1]
        assert model.bn1.bias.tolist() == [0, 2, 2, 2, 0]
        assert model.bn1.running_mean[[0, 4]].tolist() == [0, 0]
        assert model.bn1.running_var[[0, 4]].tolist() == [1, 1]
        assert torch.equal(model.bn1.running_var[1:4], before.bn1.running_var[1:4])
        assert (model.conv2.weight[:, [0, 4]] == 0).all()
        assert model.training

    def test_learned_slopes_start_anew(self) -> None:
        model = nn.Sequential(nn.Linear(4, 6), nn.PReLU(6, init=0.1), nn.Linear(6, 2))
        nn.init.ones_(model[1].weight)
        recycle(model, {"0": [2]}, X4)
        assert model[1].weight.tolist() == pytest.approx([1, 1, 0.1, 1, 1, 1])

    def test_same_seed_same_weights(self) -> None:
        models = [deep() for _ in range(3)]
        for model, seed in zip(models, (1, 1, 2), strict=True):
            torch.rand(seed)
            recycle(model, {"0": [0, 1]}, X4, seed=seed)
        assert torch.equal(models[0][0].weight, models[1][0].weight)
        assert not torch.equal(models[0][0].weight, models[2][0].weight)

    def test_leaves_random_numbers_and_hooks(self) -> None:
        model = deep()
        before = {key: value for key, value in state(model).items() if key != "tensors"}
        recycle(model, {"0": [0]}, X4)
        assert {key: value for key, value in state(model).items() if key != "tensors"} == before

    def test_takes_everything_back_after_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from lightning_neurohealth.interventions.edits import Edit

        model = deep()
        before = state(model)
        write, calls = Edit.write, []

        def failing(self: Edit, values: Tensor) -> None:
            calls.append(values)
            if len(calls) == 3:
                raise RuntimeError("no")
            write(self, values)

        monkeypatch.setattr(Edit, "write", failing)
        with pytest.raises(RuntimeError, match="no"):
            recycle(model, {"0": [0, 1]}, X4)
        assert len(calls) == 6
        assert state(model) == before

    @pytest.mark.parametrize(
        ("neurons", "error", "words"),
        [
            ({"0": [6]}, ValueError, "6 is out of range"),
            ({"0": [0.5]}, TypeError, "no index"),
            ({"1": [0]}, ValueError, "no layer is called '1'"),
            ({"0": [0], "4": [0]}, CannotCutError, "gives it to the user"),
        ],
    )
    def test_bad_neurons_change_nothing(self, neurons: Any, error: type[Exception], words: str) -> None:
        model = MLP()
        before = state(model)
        with pytest.raises(error, match=words):
            recycle(model, neurons, X4)
        assert state(model) == before

    def test_refuses_frozen_layers_and_residual_sums(self) -> None:
        model = MLP()
        model[0].requires_grad_(False)
        with pytest.raises(CannotCutError, match="cannot recycle neurons of 0: its weights are frozen"):
            recycle(model, {"0": [0]}, X4)
        with pytest.raises(CannotCutError, match="part of a sum"):
            recycle(ResNet(), {"stem": [0]}, IMAGES)

    def test_nothing_to_do(self) -> None:
        assert recycle(MLP(), {"0": []}, X4) == 0
