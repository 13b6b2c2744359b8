from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.interventions import swap_activation
from lightning_neurohealth.nn import AdaptiveActivation
from tests.interventions.cuttable import IMAGES, SEQUENCE, X4, ResNet
from tests.interventions.state import state
from tests.training import Learner, make_data, make_trainer


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 1))


class TestSwapActivation:
    @pytest.mark.parametrize("new", [nn.LeakyReLU(0.2), nn.GELU, lambda: nn.ELU(0.5), AdaptiveActivation()])
    def test_computes_with_the_new_one(self, new: Any) -> None:
        model = mlp()
        f = new if isinstance(new, nn.Module) else new()
        expected = model[3](f(model[2][0](f(model[0](X4)))))
        names = list(dict(model.named_modules()))
        assert swap_activation(model, nn.ReLU, new) == ["1", "2.1"]
        assert torch.equal(model(X4), expected)
        assert list(dict(model.named_modules()))[: len(names)] == names
        assert model[1] is not model[2][1]

    def test_parameters_of_each_place_are_its_own(self) -> None:
        model = mlp()
        swap_activation(model, nn.ReLU, nn.PReLU(), sample=X4)
        assert model[1].weight is not model[2][1].weight

    def test_sizes_prelu_to_its_channels(self) -> None:
        model = mlp()
        swap_activation(model, nn.ReLU, nn.PReLU(init=0.1), sample=X4)
        assert [model[1].num_parameters, model[2][1].num_parameters] == [6, 5]
        assert model[1].weight.tolist() == pytest.approx([0.1] * 6)
        conv = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU())
        swap_activation(conv, nn.ReLU, nn.PReLU, sample=IMAGES)
        assert conv[2].num_parameters == 7
        conv(IMAGES)

    def test_sizes_prelu_without_a_sample(self) -> None:
        model = mlp()
        swap_activation(model, nn.ReLU, nn.PReLU)
        assert [model[1].num_parameters, model[2][1].num_parameters] == [6, 5]

    def test_one_slope_where_nobody_knows_the_input(self) -> None:
        model = nn.Sequential(nn.Bilinear(4, 4, 3), nn.ReLU())
        swap_activation(model, nn.ReLU, nn.PReLU)
        assert model[1].num_parameters == 1

    def test_one_slope_where_channels_are_not_on_axis_one(self) -> None:
        model = nn.Sequential(nn.Linear(8, 7), nn.ReLU())
        swap_activation(model, nn.ReLU, nn.PReLU, sample=SEQUENCE)
        assert model[1].num_parameters == 1
        model(SEQUENCE)

    def test_one_slope_where_widths_differ(self) -> None:
        model = ResNet()
        assert swap_activation(model, nn.ReLU, nn.PReLU, sample=IMAGES) == ["relu"]
        assert model.relu.num_parameters == 1
        model(IMAGES)

    def test_a_shared_module_stays_shared(self) -> None:
        act = nn.ReLU()
        model = nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act)
        assert swap_activation(model, nn.ReLU, nn.Tanh) == ["1", "3"]
        assert model[1] is model[3]

    def test_keeps_hooks_and_their_handles(self) -> None:
        model, seen = mlp(), []
        handle = model[1].register_forward_hook(lambda m, i, o: seen.append(type(m)))
        before = model[1].register_forward_pre_hook(lambda m, i, k: seen.append(0), with_kwargs=True)
        swap_activation(model, nn.ReLU, nn.Tanh)
        model(X4)
        assert seen == [0, nn.Tanh]
        handle.remove()
        before.remove()
        model(X4)
        assert seen == [0, nn.Tanh]

    def test_keeps_mode_dtype_and_inplace(self) -> None:
        model = mlp().double().eval()
        model[1].inplace = True
        swap_activation(model, nn.ReLU, nn.PReLU)
        assert model[1].weight.dtype == torch.float64
        assert not model[1].training
        again = nn.Sequential(nn.Linear(4, 2), nn.ReLU(inplace=True))
        swap_activation(again, nn.ReLU, nn.LeakyReLU(0.01))
        assert again[1].inplace

    def test_looking_leaves_no_trace(self) -> None:
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
        before = state(model)
        swap_activation(model, nn.ReLU, nn.Tanh, sample=X4)
        after = state(model)
        assert after.pop("2: attributes") != before.pop("2: attributes")
        assert after == before

    def test_several_classes(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Tanh(), nn.Sigmoid())
        assert swap_activation(model, (nn.ReLU, nn.Sigmoid), nn.GELU) == ["1", "3"]

    def test_trains_and_is_watched(self) -> None:
        model = mlp()
        swap_activation(model, nn.ReLU, nn.PReLU, sample=X4)
        health = NeuronHealth(every_n_steps=1, sinks=[])
        make_trainer(health).fit(Learner(model), make_data())
        assert health.report is not None
        assert health.report["net.0"].function == "prelu"

    @pytest.mark.parametrize(
        ("old", "new", "error", "words"),
        [
            (nn.GELU, nn.ReLU, ValueError, "no module of GELU; its activation modules are ReLU"),
            ("ReLU", nn.ReLU, TypeError, "must be a class of modules"),
            (F.relu, nn.ReLU, TypeError, "must be a class of modules"),
            ((), nn.ReLU, TypeError, "must be a class of modules"),
            (nn.ReLU, F.gelu, TypeError, ""),
            (nn.ReLU, lambda: 3, TypeError, "must be a module"),
            (nn.ReLU, "gelu", TypeError, "must be a module"),
        ],
    )
    def test_bad_arguments_change_nothing(self, old: Any, new: Any, error: type[Exception], words: str) -> None:
        model = mlp()
        before = state(model)
        with pytest.raises(error, match=words or None):
            swap_activation(model, old, new)
        assert state(model) == before

    def test_functions_cannot_be_swapped(self) -> None:
        class Functional(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = nn.Linear(4, 4)

            def forward(self, x: Tensor) -> Tensor:
                return F.relu(self.fc(x))

        with pytest.raises(ValueError, match="called as functions"):
            swap_activation(Functional(), nn.ReLU, nn.GELU)
