"""Neurons that always say the same leave without being missed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lightning_neurohealth.interventions import CannotCutError, compact, model_pruning, prune_neurons
from tests.interventions.cuttable import Conv1D, gone
from tests.interventions.state import state

X, IMAGES = torch.randn(16, 4), torch.randn(8, 3, 8, 8)


def stuck(owner: Any, *neurons: int, at: float = 50.0) -> None:
    """Neurons whose pre-activation is the same number whatever comes."""
    with torch.no_grad():
        for neuron in neurons:
            owner.weight.select(int(type(owner).__name__ == "Conv1D"), neuron).zero_()
            owner.bias[neuron] = at


def linear(reader: nn.Module, function: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), function, reader)


def read_with(reader: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Sigmoid(), reader)


CASES: dict[str, tuple[nn.Sequential, Tensor]] = {
    "sigmoid": (linear(nn.Linear(6, 3), nn.Sigmoid()), X),
    "no bias": (linear(nn.Linear(6, 3, bias=False), nn.Sigmoid()), X),
    "leaky": (linear(nn.Linear(6, 3), nn.LeakyReLU()), X),
    "Hugging Face": (nn.Sequential(Conv1D(6, 4), nn.Tanh(), Conv1D(3, 6)), X),
    "convolution": (read_with(nn.Conv2d(6, 2, 3, stride=2)), IMAGES),
    "reflected": (read_with(nn.Conv2d(6, 2, 3, padding=1, padding_mode="reflect")), IMAGES),
    "flatten": (nn.Sequential(nn.Conv2d(3, 6, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(216, 2)), IMAGES),
    "transposed by one": (read_with(nn.ConvTranspose2d(6, 2, 1)), IMAGES),
}


@pytest.mark.parametrize("case", CASES)
def test_a_constant_is_not_missed(case: str) -> None:
    model, x = CASES[case]
    stuck(model[0], 1, 4)
    small = compact(model, {"0": gone(6, 1, 4)}, x)
    torch.testing.assert_close(small.model(x), model(x), rtol=1e-5, atol=1e-5)
    assert small.change < 1e-4
    reader = str(len(model) - 1)
    assert small.folded == {reader: 72 if case == "flatten" else 2}
    assert f"{small.folded[reader]} constants went into biases" in str(small)
    assert small.model[0].weight.shape[int(case == "Hugging Face")] == 4


def test_a_dead_neuron_behind_a_batch_norm() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Linear(6, 3)).eval()
    stuck(model[0], 2, at=-50.0)
    nn.init.normal_(model[2].bias)
    small = compact(model, {"0": gone(6, 2)}, X)
    torch.testing.assert_close(small.model(X), model(X))
    assert small.folded == {"3": 1}


def test_two_layers_one_behind_the_other() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 2))
    stuck(model[0], 0)
    stuck(model[2], 3)
    small = compact(model, {"0": gone(6, 0), "2": gone(5, 3)}, X)
    torch.testing.assert_close(small.model(X), model(X))
    assert small.folded == {"2": 1, "4": 1}


def test_both_sides_of_a_gate_are_folded_once() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(torch.sigmoid(self.gate(x)) * torch.tanh(self.up(x)))

    model = Gated()
    stuck(model.gate, 1)
    stuck(model.up, 1)
    torch.testing.assert_close(compact(model, {"gate": gone(6, 1)}, X).model(X), model(X))


def test_what_varies_is_cut_as_before() -> None:
    model = linear(nn.Linear(6, 3), nn.Sigmoid())
    small = compact(model, {"0": gone(6, 1)}, X)
    assert small.folded == {}
    assert torch.equal(small.model[2].bias, model[2].bias)


def test_on_few_rows_nothing_is_called_constant() -> None:
    model = linear(nn.Linear(6, 3), nn.Sigmoid())
    assert compact(model, {"0": gone(6, 1)}, X[:1]).folded == {}
    assert compact(model, {"0": gone(6, 1)}, X[:1].expand(7, 4)).folded == {}


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (nn.Conv2d(6, 2, 3, padding=1), "2 pads it with zeros"),
        (nn.Conv2d(6, 2, 3, padding="same"), "2 pads it with zeros"),
        (nn.ConvTranspose2d(6, 2, 2), "2 is a transposed convolution"),
    ],
)
def test_what_no_bias_can_hold_is_refused(reader: nn.Module, why: str) -> None:
    model = read_with(reader)
    stuck(model[0], 1)
    with pytest.raises(CannotCutError, match=f"0: neurons of it are constant at other than 0, and {why}"):
        compact(model, {"0": gone(6, 1)}, IMAGES)
    left = compact(model, {"0": gone(6, 1)}, IMAGES, skip=True)
    assert (left.removed, list(left.refused)) == ({}, ["0"])
    torch.testing.assert_close(left.model(IMAGES), model(IMAGES))
    assert compact(model, {"0": gone(6, 2)}, IMAGES).removed == {"0": 1}


def test_the_model_stays_as_it_was() -> None:
    model = linear(nn.Linear(6, 3, bias=False), nn.Sigmoid())
    stuck(model[0], 1)
    before = {name: p.clone() for name, p in model.named_parameters()}
    compact(model, {"0": gone(6, 1)}, X)
    assert {name: p.tolist() for name, p in model.named_parameters()} == {n: p.tolist() for n, p in before.items()}
    assert model[2].bias is None
    assert not model[2]._forward_pre_hooks


class TestMasks:
    """What is masked in place, or by ModelPruning in a training."""

    @pytest.mark.parametrize("case", [name for name in CASES if name != "no bias"])
    def test_a_constant_is_not_missed(self, case: str) -> None:
        model, x = copy.deepcopy(CASES[case])
        stuck(model[0], 1, 4)
        before = model(x).detach()
        assert prune_neurons(model, {"0": gone(6, 1, 4)}, x) == {}
        torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)
        assert model[0].weight_mask.eq(0).any()

    def test_what_varies_is_masked_as_before(self) -> None:
        model = linear(nn.Linear(6, 3), nn.Sigmoid())
        bias = model[2].bias.tolist()
        prune_neurons(model, {"0": gone(6, 1)}, X)
        assert model[2].bias.tolist() == bias

    def test_made_up_inputs_are_enough(self) -> None:
        model = linear(nn.Linear(6, 3), nn.Sigmoid())
        stuck(model[0], 1)
        before = model(X).detach()
        prune_neurons(model, {"0": gone(6, 1)})
        torch.testing.assert_close(model(X), before)

    def test_a_second_mask_on_the_bias(self) -> None:
        """The reader loses a neuron too, and its bias has a mask from before."""
        model = linear(nn.Linear(6, 3), nn.Sigmoid())
        model.append(nn.Tanh()).append(nn.Linear(3, 2))
        stuck(model[0], 1)
        prune_neurons(model, {"2": gone(3, 0)}, X)
        before = model(X).detach()
        prune_neurons(model, {"0": gone(6, 1)}, X)
        torch.testing.assert_close(model(X), before)
        assert model[2].bias[0].item() == 0

    def test_without_a_bias_it_is_refused(self) -> None:
        model = linear(nn.Linear(6, 3, bias=False), nn.Sigmoid())
        stuck(model[0], 1)
        with pytest.raises(CannotCutError, match="0: neurons of it are constant at other than 0, and 2 has no bias"):
            prune_neurons(model, {"0": gone(6, 1)}, X)
        assert list(prune_neurons(model, {"0": gone(6, 1)}, X, skip=True)) == ["0"]
        assert not prune.is_pruned(model)
        assert prune_neurons(model, {"0": gone(6, 2)}, X) == {}

    def test_model_pruning_refuses_and_says_what_it_leaves(self) -> None:
        model = linear(nn.Linear(6, 3), nn.Sigmoid())
        stuck(model[0], 1)
        with pytest.raises(CannotCutError, match="2 would miss that; prune_neurons and compact leave it in the bias"):
            model_pruning(model, {"0": gone(6, 1)}, X)
        with pytest.warns(RuntimeWarning, match="leaves neurons in 0: neurons of it are constant"):
            assert model_pruning(model, {"0": gone(6, 1)}, X, skip=True)["parameters_to_prune"] == []

    def test_a_failure_half_way_leaves_the_model_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = linear(nn.Linear(6, 3), nn.Sigmoid())
        stuck(model[0], 1)
        prune.l1_unstructured(model[2], "weight", 2)
        before, put_on, calls = state(model), prune.custom_from_mask, iter(range(2))

        def failing(*args: Any) -> None:
            next(calls)
            put_on(*args)

        monkeypatch.setattr(prune, "custom_from_mask", failing)
        with pytest.raises(StopIteration):
            prune_neurons(model, {"0": gone(6, 1)}, X)
        assert state(model) == before
        assert [len(module._forward_pre_hooks) for module in model] == [0, 0, 1]
