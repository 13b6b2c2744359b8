"""Models whose neurons can be cut out, and some whose neurons cannot."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


X4 = torch.randn(16, 4)

SEQUENCE = torch.randn(3, 7, 8)

IMAGES = torch.randn(4, 3, 8, 8)

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
