"""Healthy runs whose losses go up, stand still or jump by their nature."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.architectures import mlp
from tests.rules.sick_runs import Validated, fit_validated, split
from tests.rules.trained import Lit, Trained, X, Y, accuracy, adam, classify, fit, network


@network
def wrong_labels() -> Trained:
    """A third of the labels are wrong, so that the loss ends far above 0 and stays there."""
    net = mlp(depth=1)
    y = torch.where(torch.rand(len(Y)) < 0.35, torch.randint(10, (len(Y),)), Y)
    reports = fit(
        Lit(net, lambda net: torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.3)),
        data=(X, y),
        window="epoch",
        every=5,
        epochs=14,
    )
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def log_likelihood() -> Trained:
    """A Gaussian's log-likelihood: the loss starts above 0 and ends below."""

    class Gaussian(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.mean, self.log_std = nn.Linear(64, 64), nn.Linear(64, 1), nn.Linear(64, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = F.relu(self.body(x))
            return self.mean(h)[:, 0], self.log_std(h)[:, 0]

    net = Gaussian()
    y = X @ torch.randn(64)
    y = 0.3 * (y - y.mean()) / y.std()

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        mean, log_std = net(x)
        return (((y - mean) / log_std.exp()) ** 2 / 2 + log_std).mean()

    reports = fit(Lit(net, lambda net: adam(net, 2e-3), loss), data=(X, y), every=5, window="epoch", epochs=10)
    assert loss(net, X, y) < -1
    return Trained(reports)


@network
def hinge_that_reaches_zero() -> Trained:
    net, few = mlp(), (X[:300], Y[:300])

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.multi_margin_loss(net(x), y)

    reports = fit(Lit(net, lambda net: adam(net, 3e-3), loss), data=few, every=5, window=30, epochs=60)
    assert loss(net, *few) < 1e-3
    return Trained(reports)


@network
def policy_gradient() -> Trained:
    """REINFORCE: the loss is around 0 all along, while the policy gets better."""
    net = mlp(nn.Tanh, depth=1, width=64)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        policy = torch.distributions.Categorical(logits=net(x))
        action = policy.sample()
        reward = (action == y).float()
        return -((reward - reward.mean()) * policy.log_prob(action)).mean()

    before = accuracy(net)
    net.train()
    reports = fit(Lit(net, lambda net: adam(net, 5e-3), loss), every=5, window="epoch", epochs=12, batch=90)
    assert accuracy(net) > before + 0.3
    return Trained(reports)


@network
def value_learning() -> Trained:
    """Q-learning with a target network: the loss rises as the values do."""

    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.now, self.then = mlp(depth=1), mlp(depth=1).requires_grad_(False)
            self.then.load_state_dict(self.now.state_dict())

        def forward(self, x: Tensor) -> Tensor:
            return self.now(x)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        action = torch.randint(10, (len(x),))
        with torch.no_grad():
            for slow, fast in zip(net.then.parameters(), net.now.parameters(), strict=True):
                slow.lerp_(fast, 0.05)
            target = (action == y).float() + 0.9 * net.then(x.roll(1, 0)).amax(1)
        return F.mse_loss(net(x).gather(1, action[:, None])[:, 0], target)

    net = Values()
    reports = fit(Lit(net, lambda net: adam(net.now, 2e-3), loss), every=5, window="epoch", epochs=14, batch=90)
    assert accuracy(net) > 0.5
    return Trained(reports)


@network
def contrastive() -> Trained:
    """Pairs of views; the loss is a matter of the batch and falls by a third."""
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        one, two = (F.normalize(net(x + 0.25 * torch.randn_like(x)), dim=1) for _ in range(2))
        return F.cross_entropy(one @ two.T / 0.5, torch.arange(len(x)))

    reports = fit(Lit(net, lambda net: adam(net, 1e-3), loss), every=5, window="epoch", epochs=10)
    return Trained(reports)


@network
def validated() -> Trained:
    """The validation loss falls, then stays where it is."""
    net, (mine, other) = mlp(), split(1200)
    reports = fit_validated(Validated(net, lambda net: adam(net, 1e-3)), mine, other, epochs=14)
    return Trained(reports)


@network
def sure_and_right() -> Trained:
    """Training loss goes to 0 and the gap grows, but validation does not get worse."""
    net, (mine, other) = mlp(nn.Tanh, depth=1), split(900)
    module = Validated(net, lambda net: torch.optim.AdamW(net.parameters(), 5e-3, weight_decay=0.1))
    reports = fit_validated(module, mine, other, epochs=25)
    assert classify(net, *other) < 0.4
    return Trained(reports)


@network
def noisy_validation() -> Trained:
    """Twenty rows of validation under dropout and noise: it jumps up and down."""
    net, (mine, _) = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)), split(1000)

    class Jumpy(Validated):
        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            rows = torch.randint(len(X), (20,))
            self.log("val_loss", self.loss(self.net, X[rows] + 0.3 * torch.randn(20, 64), Y[rows]))

    reports = fit_validated(Jumpy(net, lambda net: adam(net, 1e-3)), mine, mine, epochs=16)
    return Trained(reports)


@network
def heavy_tails() -> Trained:
    """A few rows in a thousand have targets a hundred times as large: tall losses are usual here."""
    net = mlp(depth=1)
    y = X @ torch.randn(64)
    y = (y - y.mean()) / y.std()
    y[torch.rand(len(y)) < 0.01] *= 8
    reports = fit(
        Lit(net, lambda net: adam(net, 2e-3), lambda net, x, y: F.l1_loss(net(x)[:, 0], y)),
        data=(X, y),
        every=5,
        window="epoch",
        epochs=10,
        batch=16,
    )
    return Trained(reports)
