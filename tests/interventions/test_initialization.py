from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth.interventions import initialize
from tests.interventions.cuttable import Conv1D, Tied
from tests.interventions.state import state


def net(*activations: nn.Module, width: int = 300) -> nn.Sequential:
    layers = [m for act in activations for m in (nn.Linear(width, width), act)]
    return nn.Sequential(*layers, nn.Linear(width, 5))


def spread(weight: Tensor) -> float:
    return float(weight.detach().std())


class TestInitialize:
    @pytest.mark.parametrize(
        ("activation", "scheme", "expected"),
        [
            (nn.ReLU(), "he", (2 / 300) ** 0.5),
            (nn.LeakyReLU(0.5), "he", (2 / (1 + 0.25) / 300) ** 0.5),
            (nn.GELU(), "he", (2 / 300) ** 0.5),
            (nn.Tanh(), "xavier", 5 / 3 * (2 / 600) ** 0.5),
            (nn.Sigmoid(), "xavier", (2 / 600) ** 0.5),
            (nn.SELU(), "lecun", (1 / 300) ** 0.5),
        ],
    )
    def test_scale_for_each_activation(self, activation: nn.Module, scheme: str, expected: float) -> None:
        model = net(activation)
        found = initialize(model, torch.randn(2, 300), seed=0)
        assert found.chosen == {"0": scheme, "2": "lecun"}
        assert spread(model[0].weight) == pytest.approx(expected, rel=0.02)
        assert (model[0].bias == 0).all()

    def test_convolutions_count_their_kernel(self) -> None:
        model = nn.Sequential(nn.Conv2d(16, 64, 5), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 32, 3), nn.Tanh())
        initialize(model, torch.randn(1, 16, 9, 9), seed=0)
        assert spread(model[0].weight) == pytest.approx((2 / (16 * 25)) ** 0.5, rel=0.02)
        assert spread(model[3].weight) == pytest.approx(5 / 3 * (2 / (64 * 9 + 32 * 9)) ** 0.5, rel=0.02)
        assert (model[1].weight == 1).all()

    def test_weights_that_lie_the_other_way(self) -> None:
        model = nn.Sequential(Conv1D(400, 100), nn.ReLU(), nn.ConvTranspose1d(1, 400, 3), nn.ReLU())
        initialize(model[:2], torch.randn(2, 100), seed=0)
        assert spread(model[0].weight) == pytest.approx((2 / 100) ** 0.5, rel=0.02)
        initialize(model[2:], torch.randn(2, 1, 9), seed=0)
        assert spread(model[2].weight) == pytest.approx((2 / 3) ** 0.5, rel=0.1)

    def test_functional_activations(self) -> None:
        class Functional(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc1, self.fc2 = nn.Linear(300, 300), nn.Linear(300, 300)

            def forward(self, x: Tensor) -> Tensor:
                return self.fc2(torch.tanh(self.fc1(F.relu(x))))

        assert initialize(Functional(), torch.randn(2, 300)).chosen == {"fc1": "xavier", "fc2": "lecun"}

    def test_keeps_the_scale_through_a_deep_net(self) -> None:
        torch.manual_seed(0)
        model = net(*(nn.ReLU() for _ in range(20)))
        x = torch.randn(64, 300)
        with torch.no_grad():
            before = model(x).std()
            initialize(model, x, seed=0)
            after = model(x).std()
        assert before < 0.03
        assert 0.3 < after < 3

    def test_small_positive_bias_for_relu_only(self) -> None:
        model = net(nn.ReLU(), nn.Tanh())
        initialize(model, torch.randn(2, 300), relu_bias=0.01)
        assert (model[0].bias == 0.01).all()
        assert (model[2].bias == 0).all()

    def test_seed_and_torch_random_numbers(self) -> None:
        weights = []
        for seed, manual in ((3, 0), (3, 1), (None, 0), (None, 0), (None, 1)):
            model = net(nn.ReLU(), width=4)
            torch.manual_seed(manual)
            initialize(model, torch.ones(2, 4), seed=seed)
            weights.append(model[0].weight)
        assert torch.equal(weights[0], weights[1])
        assert torch.equal(weights[2], weights[3])
        assert not torch.equal(weights[3], weights[4])

    def test_only_layers_that_match(self) -> None:
        model = net(nn.ReLU(), nn.ReLU(), width=4)
        before = model[0].weight.clone()
        assert list(initialize(model, torch.ones(2, 4), layers=["2"]).chosen) == ["2"]
        assert torch.equal(model[0].weight, before)

    def test_says_what_stays(self) -> None:
        class Mixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rnn, self.frozen = nn.LSTM(4, 4), nn.Linear(4, 4)
                self.normed, self.tied = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), Tied()
                self.frozen.requires_grad_(False)

            def forward(self, x: Tensor) -> Tensor:
                return self.tied(self.normed(self.frozen(self.rnn(x)[0]).relu()).relu())

        model = Mixed()
        before = {name: p.clone() for name, p in model.named_parameters()}
        left = initialize(model, torch.ones(2, 4)).left
        assert {name: reason.split()[-1] for name, reason in left.items()} == {
            "rnn": "itself",
            "frozen": "frozen",
            "normed": "others",
            "tied.fc2": "layer",
        }
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name]) == (not name.startswith("tied") or name == "tied.fc2.bias"), (
                name
            )

    def test_leaves_an_embedding_that_an_output_layer_shares(self) -> None:
        class Tokens(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embed, self.fc, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
                self.head.weight = self.embed.weight

            def forward(self, ids: Tensor) -> Tensor:
                return self.head(self.fc(self.embed(ids)).relu())

        model = Tokens()
        before = model.embed.weight.clone()
        found = initialize(model, torch.arange(9))
        assert found.chosen == {"fc": "he"}
        assert found.left == {"embed": "Embedding initialises itself", "head": "its weights are those of embed"}
        assert torch.equal(model.embed.weight, before)

    def test_leaves_all_but_the_weights(self) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()).train()
        before = {key: value for key, value in state(model).items() if key != "tensors"}
        initialize(model, torch.randn(3, 4, generator=torch.Generator()), seed=0)
        assert {key: value for key, value in state(model).items() if key != "tensors"} == before
        assert model[1].num_batches_tracked == 0

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"layers": ["fc"]}, ValueError, "no layer is called 'fc'"),
            ({"layers": "0"}, TypeError, "glob"),
            ({"relu_bias": "small"}, TypeError, "relu_bias"),
        ],
    )
    def test_bad_arguments(self, options: dict[str, Any], error: type[Exception], words: str) -> None:
        model = net(nn.ReLU(), width=4)
        before = state(model)
        with pytest.raises(error, match=words):
            initialize(model, torch.ones(2, 4), **options)
        with pytest.raises(ValueError, match=r"Sequential does not run on the sample: RuntimeError: .* shapes"):
            initialize(model, torch.ones(2, 5))
        assert state(model) == before
