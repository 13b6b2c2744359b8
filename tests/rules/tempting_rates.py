"""Healthy runs whose learning rate, or the size of whose updates, tempts a rule on the whole run to speak."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from tests.rules.architectures import Encoder, conv_net, mlp
from tests.rules.trained import Lit, Trained, accuracy, adam, classify, fit, network, sgd


class Scheduled(Lit):
    """Adam at ``lr`` times ``rate`` of the step."""

    def __init__(self, net: nn.Module, lr: float, rate: Any, loss: Any = classify, optimizer: Any = None) -> None:
        super().__init__(net, lambda net: (optimizer or torch.optim.AdamW)(net.parameters(), lr), loss)
        self.rate = rate

    def configure_optimizers(self) -> Any:
        optimizer = self.choose(self.net)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@network
def warm_up_and_cosine() -> Trained:
    """A hundred steps of warm-up from nothing, then a cosine down to nothing."""
    net = Encoder("gelu")

    def rate(step: int) -> float:
        return step / 100 if step < 100 else 0.5 * (1 + math.cos(math.pi * min(1.0, (step - 100) / 190)))

    reports = fit(Scheduled(net, 4e-3, rate), every=5, window="epoch", epochs=10)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def slow_warm_up() -> Trained:
    """The rate grows from a hundred-millionth over all of the run; little is learned by its end."""
    net = mlp()
    reports = fit(Scheduled(net, 1e-3, lambda step: 1e-5 * 1.06**step), every=1, window=20, epochs=8)
    assert accuracy(net) > 0.5
    return Trained(reports)


@network
def steps_down() -> Trained:
    net = conv_net(nn.ReLU, norm=True)
    reports = fit(
        Scheduled(net, 0.2, lambda step: 0.1 ** (step // 90), optimizer=torch.optim.SGD),
        every=5,
        window="epoch",
        epochs=10,
    )
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def signs_of_gradients() -> Trained:
    """Normalised steps of a fixed size, as Lion and signSGD take them."""

    class Signs(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            if closure is not None:
                with torch.enable_grad():
                    value = closure()
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad = p.grad.sign()
            super().step()
            return value if closure is not None else None

    net = mlp()
    reports = fit(Lit(net, lambda net: Signs(net.parameters(), 2e-3)), every=5, window="epoch", epochs=5)
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def quick_adam() -> Trained:
    """Adam at 2e-2, twenty times its default: rough, and it learns."""
    net = mlp(depth=1)
    reports = fit(Lit(net, lambda net: adam(net, 2e-2)), every=1, window=20, epochs=5)
    assert accuracy(net) > 0.9
    return Trained(reports)


@network
def large_rate_behind_norms() -> Trained:
    """Behind BatchNorm the scale of weights is free: a rate of 2 is borne."""
    net = conv_net(nn.ReLU, norm=True)
    reports = fit(Lit(net, lambda net: sgd(net, 2.0)), every=2, window=30, epochs=6)
    assert accuracy(net) > 0.7
    return Trained(reports)


@network
def slow_start() -> Trained:
    """A tanh network of six layers at a small rate: nothing for a hundred steps, then it learns."""
    net = mlp(nn.Tanh, depth=5, width=48)
    with torch.no_grad():
        for module in net:
            if isinstance(module, nn.Linear):
                module.weight.mul_(0.6)
    reports = fit(Lit(net, lambda net: adam(net, 3e-4)), every=5, window=30, epochs=20)
    assert accuracy(net) > 0.5
    return Trained(reports)
