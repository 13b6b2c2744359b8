"""A narrower copy computes the same without the neurons that are cut."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth.interventions import CannotCutError, Masks, compact, model_pruning, prune_neurons
from tests.interventions.cuttable import CONVS, IMAGES, MLP, X4, Excited, Gated, ResNet, gone, settled
from tests.interventions.state import state


class TestCompact:
    def test_computes_the_same_without_the_neurons(self, case: tuple[nn.Module, Any, dict[str, Tensor]]) -> None:
        """What nobody reads may be anything: with noise in the cut neurons' weights the copy stays the same."""
        model, x, masks = case
        found = compact(model, masks, x)
        noisy = copy.deepcopy(model)
        with torch.no_grad():
            for name, mask in masks.items():
                for parameter in noisy.get_submodule(name).parameters():
                    axis = 1 if parameter.dim() > 1 and type(noisy.get_submodule(name)).__name__ in SWAPPED else 0
                    cut = mask.nonzero().flatten()
                    parameter.index_copy_(axis, cut, 3 * torch.randn_like(parameter.index_select(axis, cut)))
        expected = pruned_output(model, masks, x)
        torch.testing.assert_close(found.model(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(compact(noisy, masks, x).model(x), expected, rtol=1e-5, atol=1e-5)
        assert float((found.model(x) - model(x)).detach().abs().max()) == pytest.approx(found.change, rel=1e-4)
        assert found.change > 1e-4

    @pytest.mark.parametrize("masks", [{"gate": (1,)}, {"up": (1,)}, {"gate": (1,), "up": (1, 4)}])
    def test_both_sides_of_a_gate(self, masks: dict[str, tuple[int, ...]]) -> None:
        torch.manual_seed(0)
        model, lost = Gated(), max(map(len, masks.values()))
        found = compact(model, {name: gone(6, *indices) for name, indices in masks.items()}, X4)
        assert found.removed == {"gate": lost, "up": lost}
        left = [i for i in range(6) if i not in masks.get("up", (1,))]
        expected = (F.silu(model.gate(X4)) * model.up(X4))[:, left] @ model.down.weight[:, left].T
        torch.testing.assert_close(found.model(X4), expected, rtol=1e-5, atol=1e-5)
        prune_neurons(model, {name: gone(6, *indices) for name, indices in masks.items()}, X4)
        torch.testing.assert_close(model(X4), expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("layer", ["expand", "depthwise", "excite"])
    def test_depthwise_convolutions(self, layer: str) -> None:
        torch.manual_seed(0)
        model = settled(Excited(), IMAGES)
        found = compact(model, {layer: gone(6, 0, 4)}, IMAGES)
        assert found.removed == dict.fromkeys(("expand", "depthwise", "excite"), 2)
        small = found.model
        assert (small.depthwise.groups, small.depthwise.in_channels, small.squeeze.in_channels) == (4, 4, 4)
        a = F.silu(model.bn2(model.depthwise(F.relu6(model.bn1(model.expand(IMAGES))))))
        a = a.index_fill(1, torch.tensor([0, 4]), 0)
        scale = torch.sigmoid(model.excite(F.relu(model.squeeze(a.mean((2, 3), keepdim=True)))))
        torch.testing.assert_close(small(IMAGES), IMAGES + model.project(scale * a), rtol=1e-5, atol=1e-5)

    def test_counts_what_is_saved(self) -> None:
        found = compact(MLP(), {"0": gone(6, 0, 3)}, X4)
        assert found.removed == {"0": 2}
        assert found.parameters_before == 4 * 6 + 6 + 6 * 5 + 5 + 5 * 3 + 3
        assert found.parameters == 4 * 4 + 4 + 4 * 5 + 5 + 5 * 3 + 3
        assert (found.flops_before, found.flops) == (2 * 16 * (24 + 30 + 15), 2 * 16 * (16 + 20 + 15))
        assert "parameters 83 → 63 (−24%)" in str(found)

    def test_narrows_the_modules(self) -> None:
        torch.manual_seed(0)
        small = compact(settled(CONVS(), IMAGES), {"0": gone(6, 1, 2)}, IMAGES).model
        assert (small[0].out_channels, small[1].num_features, small[2].num_parameters, small[4].in_channels) == (
            4,
            4,
            4,
            4,
        )
        assert small[1].running_var.shape == (4,)

    def test_dead_neurons_make_no_difference(self) -> None:
        model = MLP()
        with torch.no_grad():
            model[0].bias[2] = -100
        assert compact(model, {"0": gone(6, 2)}, X4).change < 1e-6

    def test_copy_learns(self) -> None:
        small = compact(MLP(), {"0": gone(6, 2)}, X4).model
        small(X4).sum().backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters())

    def test_leaves_the_model_as_it_was(self, case: tuple[nn.Module, Any, dict[str, Tensor]]) -> None:
        model, x, masks = case
        model.train()
        before = state(model)
        small = compact(model, masks, x).model
        assert state(model) == before
        assert small.training

    def test_after_pruning(self) -> None:
        model, masks = MLP(), {"0": gone(6, 1), "2": gone(5, 0)}
        prune_neurons(model, masks, X4)
        found = compact(model, masks, X4)
        torch.testing.assert_close(found.model(X4), model(X4), rtol=1e-5, atol=1e-5)
        assert found.change < 1e-5
        assert not any("orig" in name for name, _ in found.model.named_parameters())

    def test_leaves_out_what_is_not_safe(self) -> None:
        found = compact(ResNet(), {"stem": gone(6, 0), "conv1": gone(5, 0)}, IMAGES, skip=True)
        assert found.removed == {"conv1": 1}
        assert list(found.refused) == ["stem"]
        assert "stem stays: it is part of a sum" in str(found)

    @pytest.mark.parametrize(
        ("masks", "error", "words"),
        [
            ({"0": gone(6, *range(6))}, CannotCutError, "none of its neurons would be left"),
            ({"0": gone(5, 0)}, ValueError, "is of 5 neurons; 0 has 6"),
            ({"fc": gone(5, 0)}, ValueError, "no layer is called 'fc'; there are 0, 2, 4"),
            ({"0": torch.zeros(6)}, TypeError, "must be a bool tensor"),
            ({"0": [True] * 6}, TypeError, "must be a bool tensor"),
        ],
    )
    def test_bad_masks(self, masks: Any, error: type[Exception], words: str) -> None:
        model = MLP()
        before = state(model)
        for change in (compact, prune_neurons, model_pruning):
            with pytest.raises(error, match=words):
                change(model, masks, X4)
        assert state(model) == before

    def test_nothing_to_do(self) -> None:
        found = compact(MLP(), Masks({"0": gone(6)}), X4)
        assert (found.removed, found.change) == ({}, 0)


SWAPPED = ("Conv1D", "ConvTranspose2d")


def pruned_output(model: nn.Module, masks: dict[str, Tensor], x: Tensor) -> Tensor:
    """The output when the masked neurons give 0 where they are read."""

    def silence(module: nn.Module, inputs: tuple[Tensor, ...], mask: Tensor) -> tuple[Tensor, ...]:
        axis = 1 if isinstance(module, nn.modules.conv._ConvNd) else -1
        repeated = mask.repeat_interleave(inputs[0].shape[axis] // len(mask))
        return (inputs[0].index_fill(axis, repeated.nonzero().flatten(), 0), *inputs[1:])

    readers = {"0": "next", "2": "4", "4": "8", "fc1": "fc2", "linear1": "linear2", "conv1": "conv2"}
    owners = [
        name for name, m in model.named_modules() if getattr(m, "weight", None) is not None and m.weight.dim() > 1
    ]
    hooks = []
    for name, mask in masks.items():
        reader = owners[owners.index(name) + 1] if readers[name] == "next" else readers[name]
        module = model.get_submodule(reader)
        hooks.append(module.register_forward_pre_hook(lambda m, i, mask=mask: silence(m, i, mask)))
    out = model(x)
    for hook in hooks:
        hook.remove()
    return out
