"""outgoing_weight_norm: the norm of the weights by which later layers read a neuron."""

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report
from tests.measures.harness import assert_close


def report_of(net: nn.Module, x: Tensor) -> Report:
    monitor = Monitor(net, every_n_steps=1, measures=["outgoing_weight_norm", "on_rate"])
    with monitor:
        net(x).sum().backward()
    report = monitor.close()
    assert report is not None
    return report


def effect(reader: nn.Module, inputs: Tensor) -> list[float]:
    """Input by input: what comes out of the reader if only that one is on, summed over the places it can be at."""
    found = []
    for i in range(inputs.shape[1]):
        one = torch.zeros_like(inputs[:1])
        one[0, i].view(-1)[one[0, i].numel() // 2] = 1
        found.append((reader(one) - reader(torch.zeros_like(one))).norm().item())
    return found


@pytest.mark.parametrize(
    ("owner", "reader", "shape"),
    [
        (nn.Linear(3, 5), nn.Linear(5, 4), (3,)),
        (nn.Linear(3, 1), nn.Linear(1, 4), (3,)),
        (nn.Conv1d(2, 5, 1), nn.Conv1d(5, 4, 3), (2, 9)),
        (nn.Conv2d(2, 6, 1), nn.Conv2d(6, 4, 3, groups=2), (2, 9, 9)),
        (nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, groups=6), (2, 9, 9)),
        (nn.Conv2d(2, 6, 1), nn.ConvTranspose2d(6, 4, 3), (2, 9, 9)),
        (nn.Conv3d(2, 6, 1), nn.Conv3d(6, 4, 3), (2, 9, 9, 9)),
    ],
    ids=str,
)
def test_what_one_neuron_alone_does_to_the_next_layer(
    owner: nn.Module, reader: nn.Module, shape: tuple[int, ...]
) -> None:
    net = nn.Sequential(owner, nn.ReLU(), reader).double()
    x = torch.randn(2, *shape).double()
    report = report_of(net, x)
    assert_close(report["0"]["outgoing_weight_norm"], effect(reader, owner(x)))
    assert "outgoing_weight_norm" not in report["2"]


def test_all_readers_count() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.left, self.right = nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 4), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            a = self.act(self.fc(x))
            return self.left(a) + self.right(a)

    net = Fork()
    both = torch.cat([net.left.weight, net.right.weight]).detach()
    assert_close(report_of(net, torch.randn(2, 3))["fc"]["outgoing_weight_norm"], both.double().norm(dim=0))


def test_a_reader_that_mixes_neurons_first_is_not_one() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    assert "outgoing_weight_norm" not in report_of(net, torch.randn(2, 2, 6, 6))["0"]
