from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelPruning
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from lightning_neurohealth.interventions import CannotCutError, Masks, compact, model_pruning, prune_neurons
from tests.interventions.state import state
from tests.training import Learner, make_data, make_trainer


def gone(neurons: int, *indices: int) -> Tensor:
    mask = torch.zeros(neurons, dtype=torch.bool)
    mask[list(indices)] = True
    return mask


def settled(model: nn.Module, x: Any) -> nn.Module:
    """With running statistics and learned numbers that are not those of the start."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight)
    for _ in range(3):
        model(x)
    return model.eval()


class Conv1D(nn.Module):
    """As in Hugging Face's GPT-2: a linear layer whose weight lies the other way."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        shape = (*x.size()[:-1], self.nf)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(shape)


class Block(nn.Module):
    """x + fc2(act(fc1(norm(x))))."""

    def __init__(self, fc1: nn.Module, fc2: nn.Module) -> None:
        super().__init__()
        self.norm, self.fc1, self.fc2, self.drop = nn.LayerNorm(8), fc1, fc2, nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.fc2(self.drop(F.gelu(self.fc1(self.norm(x))))))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.bn1 = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Conv2d(6, 5, 3, padding=1),
            nn.BatchNorm2d(5),
        )
        self.conv2, self.bn2, self.head = nn.Conv2d(5, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Linear(6, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.head(self.relu(x + inner).mean((2, 3)))


def sequential(*modules: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*copy.deepcopy(modules))


X4, SEQUENCE, IMAGES = torch.randn(16, 4), torch.randn(3, 7, 8), torch.randn(4, 3, 8, 8)
MLP = sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3))
CONVS = sequential(
    nn.Conv2d(3, 6, 3, bias=False),
    nn.BatchNorm2d(6),
    nn.PReLU(6),
    nn.MaxPool2d(2),
    nn.Conv2d(6, 8, 3),
    nn.ELU(inplace=True),
    nn.Dropout(),
    nn.Flatten(),
    nn.Linear(8, 4),
)

CUTS: dict[str, tuple[Callable[[], nn.Module], Any, dict[str, Tensor]]] = {
    "mlp": (MLP, X4, {"0": gone(6, 0, 3)}),
    "mlp_both": (MLP, X4, {"0": gone(6, 0, 3), "2": gone(5, 4)}),
    "conv_bn_prelu": (CONVS, IMAGES, {"0": gone(6, 1, 2), "4": gone(8, 0, 7, 6)}),
    "flatten": (
        sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)),
        IMAGES,
        {"0": gone(4, 0, 2)},
    ),
    "conv_bn_after_relu": (
        sequential(nn.Conv1d(8, 6, 1), nn.ReLU(), nn.BatchNorm1d(6), nn.Conv1d(6, 2, 1)),
        SEQUENCE.mT.contiguous(),
        {"0": gone(6, 5)},
    ),
    "transposed": (
        sequential(nn.ConvTranspose2d(3, 6, 2), nn.ReLU(), nn.ConvTranspose2d(6, 2, 2)),
        IMAGES,
        {"0": gone(6, 1)},
    ),
    "transformer_mlp": (lambda: Block(nn.Linear(8, 16), nn.Linear(16, 8)), SEQUENCE, {"fc1": gone(16, 1, 5, 7)}),
    "gpt2_mlp": (lambda: Block(Conv1D(16, 8), Conv1D(8, 16)), SEQUENCE, {"fc1": gone(16, 1, 5, 7)}),
    "torch_transformer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        SEQUENCE,
        {"linear1": gone(16, 0, 15)},
    ),
    "inside_a_residual_block": (ResNet, IMAGES, {"conv1": gone(5, 0, 4)}),
}


@pytest.fixture(params=CUTS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    make, x, masks = CUTS[request.param]
    return settled(make(), x), x, masks


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

    @pytest.mark.parametrize(
        ("make", "x", "layer", "neurons", "words"),
        [
            (ResNet, IMAGES, "stem", 6, "part of a sum, as in a residual connection"),
            (ResNet, IMAGES, "conv2", 6, "part of a sum"),
            (lambda: Block(nn.Linear(8, 16), nn.Linear(16, 8)), SEQUENCE, "fc2", 8, "part of a sum"),
            (MLP, X4, "4", 3, "gives it to the user"),
            (lambda: Tied(), X4, "fc1", 4, "tied to those of fc2"),
            (lambda: Tied(), X4, "fc0", 4, "reader fc1: its weights are tied"),
            (lambda: Twice(), X4, "fc", 4, "runs 2 times in one forward"),
            (lambda: Scaled(), X4, "fc", 6, "mul reads it"),
            (lambda: Gated(residual=True), X4, "gate", 6, "up, which goes with it: it is part of a sum"),
            (lambda: ReadTwice(), X4, "fc1", 4, "its reader out: it runs 2 times"),
            (
                lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1, groups=3)),
                IMAGES,
                "0",
                6,
                "1 reads it in groups",
            ),
            (
                lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1, groups=6)),
                IMAGES,
                "0",
                6,
                "1, which goes with it: the model gives it to the user",
            ),
            (
                lambda: nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 2, 1)),
                IMAGES,
                "0",
                3,
                "read their inputs in groups",
            ),
            (
                lambda: nn.Sequential(nn.Conv2d(6, 6, 1, groups=2), nn.Conv2d(6, 6, 1)),
                torch.randn(2, 6, 4, 4),
                "0",
                6,
                "read their inputs in groups",
            ),
            (
                lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)),
                X4,
                "0",
                6,
                "layer_norm in 1 reads it",
            ),
            (
                lambda: nn.Sequential(nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 2)),
                X4,
                "0",
                6,
                "softmax in 1 reads it",
            ),
            (
                lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6)), nn.Linear(6, 2)),
                X4,
                "0",
                6,
                "parametrized",
            ),
            (lambda: Recurrent(), SEQUENCE, "rnn", 6, "cannot be taken out of a RNN"),
            (lambda: Unseen(), X4, "fc", 6, "nothing was seen to read it"),
            (lambda: HardCoded(), X4, "fc", 6, "the narrower copy fails"),
        ],
    )
    def test_refuses_what_is_not_safe(self, make: Any, x: Any, layer: str, neurons: int, words: str) -> None:
        model, masks = make(), {layer: gone(neurons, 0)}
        before = state(model)
        with pytest.raises(CannotCutError, match=words):
            compact(model, masks, x)
        assert state(model) == before

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


class TestPruneNeurons:
    def test_silences_as_a_cut_does(self, case: tuple[nn.Module, Any, dict[str, Tensor]]) -> None:
        model, x, masks = case
        expected = compact(model, masks, x).model(x)
        assert prune_neurons(model, masks, x) == {}
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)

    def test_masks_both_sides(self) -> None:
        model = MLP()
        prune_neurons(model, {"0": gone(6, 1), "2": gone(5, 0, 4)}, X4)
        middle = model[2].weight_mask
        assert (model[0].weight[1].abs().sum(), model[0].bias[1]) == (0, 0)
        assert {tuple(rc) for rc in (middle == 0).nonzero().tolist()} == {
            (r, c) for r in range(5) for c in range(6) if r in (0, 4) or c == 1
        }
        assert (model[4].weight[:, [0, 4]] == 0).all()

    def test_stays_through_training(self) -> None:
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
        prune_neurons(net, {"0": gone(6, 1)}, X4)
        make_trainer().fit(Learner(net), make_data())
        assert net[0].weight[1].abs().sum() == 0
        assert net[0].weight[0].abs().sum() > 0

    def test_refuses_and_changes_nothing(self) -> None:
        model = ResNet()
        before = state(model)
        with pytest.raises(CannotCutError, match="stem: it is part of a sum"):
            prune_neurons(model, {"conv1": gone(5, 0), "stem": gone(6, 0)}, IMAGES)
        assert state(model) == before
        assert list(prune_neurons(model, {"conv1": gone(5, 0), "stem": gone(6, 0)}, IMAGES, skip=True)) == ["stem"]
        assert prune.is_pruned(model.conv1)
        assert not prune.is_pruned(model.stem)


class TestModelPruning:
    def test_prunes_in_a_fit(self) -> None:
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
        pruning = ModelPruning(**model_pruning(net, {"0": gone(6, 1, 4)}, X4))
        make_trainer(pruning, max_epochs=2).fit(Learner(net), make_data())
        assert net[0].weight[[1, 4]].abs().sum() == 0
        assert net[2].weight[:, [1, 4]].abs().sum() == 0
        assert (net[0].weight[[0, 2, 3, 5]] != 0).all()


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


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc0, self.fc1, self.fc2, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.fc2.weight = self.fc1.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc2(self.fc1(self.fc0(x).relu()).relu()).relu())


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(self.fc(x).relu()).relu())


class Gated(nn.Module):
    """The MLP of a Llama; with ``residual``, one side of its gate is needed elsewhere."""

    def __init__(self, residual: bool = False) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 4, bias=False)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        out = self.down(F.silu(self.gate(x)) * up)
        return out + (up + x.mean(1, keepdim=True)).mean() if self.residual else out


class Scaled(nn.Module):
    """Learned scales between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.scale, self.out = nn.Linear(4, 6), nn.Parameter(torch.ones(6)), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(x) * self.scale)


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc1(x).relu()) * self.out(self.fc2(x).relu())


class Excited(nn.Module):
    """Expand, depthwise, squeeze and excite, project: the block of an EfficientNet."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.depthwise, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.squeeze, self.excite = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.project = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu6(self.bn1(self.expand(x)))
        a = F.silu(self.bn2(self.depthwise(a)))
        return x + self.project(torch.sigmoid(self.excite(F.relu(self.squeeze(a.mean((2, 3), keepdim=True))))) * a)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(8, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


class Unseen(nn.Module):
    """Reads a layer by what torch does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.from_numpy(self.fc(x).numpy()))


class HardCoded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = nn.Linear(4, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(x).view(len(x), 6))
