"""Several ablations in one forward, whatever the step is, give what single ones give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth.interventions import ablate
from tests.interventions.together import check_together
from tests.training import Learner, make_data

DRAW = torch.Generator().manual_seed(3)
X, Y = torch.randn(8, 4, generator=DRAW), torch.randn(8, 1, generator=DRAW)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))


class Manual(Learner):
    """Optimizes by itself."""

    def __init__(self) -> None:
        super().__init__(net())
        self.automatic_optimization = False

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = F.mse_loss(self.net(batch[0]), batch[1]) + 0.1 * self.net[0].weight.abs().sum()
        self.log("val_loss", loss)
        return loss


class Two(nn.Module):
    """Two networks, one behind the other, and a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = net()[:4], nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))

    def forward(self, x: Tensor, *, target: Tensor) -> dict[str, Tensor]:
        code = self.encoder(x)
        return {"loss": F.mse_loss(self.decoder(code), target) + 0.1 * code.square().mean(), "code": code}


def two(model: nn.Module, batch: Any) -> Tensor:
    return model(batch[0], target=batch[0])["loss"]


BATCHED: dict[str, tuple[Callable[[], nn.Module], list[Any], dict[str, Any]]] = {
    "training step": (lambda: Learner(net()), make_data(rows=16), {}),
    "validation step": (Manual, [(X, Y)], {}),
    "step": (Two, [(X, Y), (X[:3], Y[:3])], {"step": two}),
}


@pytest.mark.parametrize("case", BATCHED)
def test_gives_what_single_ablations_give(case: str) -> None:
    make, data, options = BATCHED[case]
    torch.manual_seed(0)
    check_together(make(), data, **options)


class Twice(nn.Module):
    """Compares two views of a batch: the network is called twice in a step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def views(model: nn.Module, batch: Any) -> Tensor:
    return F.mse_loss(model(batch[0]), model(batch[0].flip(1)))


def pieces(model: nn.Module, batch: Any) -> Tensor:
    """Nothing that holds a layer is called as a whole."""
    x = batch[0]
    for module in model.net:
        x = module(x)
    return F.mse_loss(x, batch[1])


def over_the_batch(model: nn.Module, batch: Any) -> Tensor:
    """Rows are not independent within the network."""
    return F.mse_loss(model(batch[0]), batch[1])


class Centred(Twice):
    def forward(self, x: Tensor) -> Tensor:
        a = self.net[:2](x)
        return self.net[2:](a - a.mean(0))


@pytest.mark.parametrize(("model", "step"), [(Twice, views), (Twice, pieces), (Centred, over_the_batch)])
def test_one_by_one_where_no_stage_is_safe(model: type[nn.Module], step: Any) -> None:
    torch.manual_seed(0)
    net = model()
    one, many = (ablate(net, [(X, Y), (Y.expand(8, 4), Y)], step=step, together=k, progress=False) for k in (1, 16))
    for name, layer in one.items():
        torch.testing.assert_close(many[name].change, layer.change, rtol=1e-5, atol=1e-7)
    assert one["net.0"].change.abs().max() > 1e-4


def test_a_step_that_optimizes_needs_another_one_that_gives_a_loss() -> None:
    class Silent(Manual):
        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self(batch[0])

    with pytest.raises(TypeError, match="validation_step must give the loss as one number, gave a NoneType"):
        ablate(Silent(), [(X, Y)], progress=False)


def test_a_forward_of_ones_own_comes_back() -> None:
    """As accelerate puts one on a module."""
    model = Learner(net())
    inner = model.net.forward
    model.net.forward = mine = lambda x: 2 * inner(x)
    found = ablate(model, [(X, Y)], progress=False)
    assert found.forwards < 12
    assert model.net.forward is mine
