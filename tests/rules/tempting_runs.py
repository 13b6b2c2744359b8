"""Healthy runs whose losses, rates and gradients tempt a rule on the whole run to speak."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rules.architectures import Encoder, conv_net, mlp
from tests.rules.sick_runs import Validated, fit_validated, split
from tests.rules.trained import Lit, Trained, X, Y, accuracy, adam, classify, fit, network, regress, sgd, train


def learn(net: nn.Module, lr: float = 5e-3, steps: int = 200, batch: int = 256) -> None:
    """Train before the watch begins."""
    optimizer = adam(net, lr)
    for _ in range(steps):
        rows = torch.randint(len(X), (batch,))
        optimizer.zero_grad()
        classify(net, X[rows], Y[rows]).backward()
        optimizer.step()


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
def fine_tuned_gently() -> Trained:
    """AdamW at 1e-5 on a network that has learned all there is."""
    net = mlp(nn.GELU, width=128)
    learn(net)
    reports = fit(Lit(net, lambda net: torch.optim.AdamW(net.parameters(), 1e-5)), every=5, window=40, epochs=10)
    assert accuracy(net) > 0.97
    return Trained(reports)


@network
def fine_tuned_more_gently() -> Trained:
    """Gradient descent at 1e-6 on a transformer that has learned: a thousandth of rounding a step."""
    net = Encoder("gelu")
    learn(net, 3e-3, 150, 128)
    reports = fit(Lit(net, lambda net: sgd(net, 1e-6)), every=5, window="epoch", epochs=6)
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def at_its_floor() -> Trained:
    """Noisy regression by a network that knows all that can be known."""
    net = mlp(nn.Tanh, depth=1)
    y = 5 * X @ torch.randn(64)
    y = (y - y.mean()) / y.std()
    optimizer = adam(net, 5e-3)
    for _ in range(400):
        optimizer.zero_grad()
        regress(net, X, y).backward()
        optimizer.step()
    data = (X, y + 0.5 * torch.randn(len(y)))
    reports = fit(Lit(net, lambda net: adam(net, 1e-4), regress), data=data, every=2, window=30, epochs=8)
    assert regress(net, X, y) < 0.1
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
def one_row_at_a_time() -> Trained:
    """Batches of one row; three steps of a window are measured."""
    net = mlp(depth=1)
    reports = train(net, optimizer=sgd(net, 0.02), batch=1, steps=600, window=60, every=20)
    assert accuracy(net) > 0.6
    return Trained(reports)


@network
def seldom_measured() -> Trained:
    """One step in fifty is measured, in windows of thirty."""
    net = mlp()
    reports = fit(Lit(net, lambda net: adam(net, 1e-3)), every=50, window=30, epochs=8)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def short() -> Trained:
    """Twelve steps: too few to tell."""
    net = mlp()
    return Trained(fit(Lit(net, lambda net: adam(net, 1e-3)), every=1, window=4, epochs=1, batch=150))


@network
def small_head() -> Trained:
    """A last layer that starts at a thousandth, as policies do: the first steps change it by its own size."""
    net = mlp()
    with torch.no_grad():
        net[4].weight.mul_(1e-3)
    reports = fit(Lit(net, lambda net: adam(net, 3e-3)), every=1, window=10, epochs=4)
    assert accuracy(net) > 0.85
    return Trained(reports)


@network
def small_everywhere() -> Trained:
    """Weights of 0.01 and a quick Adam: at first a step is as large as the weights."""
    net = conv_net(nn.ReLU, norm=True)
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=0.01)
    reports = fit(Lit(net, lambda net: adam(net, 1.5e-2)), every=1, window=10, epochs=4)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def zero_start() -> Trained:
    """The last layer starts at 0 and labels are mostly wrong: its steps are as large as itself for long."""
    net = mlp(depth=1)
    nn.init.zeros_(net[2].weight)
    y = torch.where(torch.rand(len(Y)) < 0.7, torch.randint(10, (len(Y),)), Y)
    reports = fit(Lit(net, lambda net: adam(net, 2e-3)), data=(X, y), every=1, window=10, epochs=4)
    assert accuracy(net) > 0.6
    return Trained(reports)


@network
def adapter_on_a_converged_network() -> Trained:
    """LoRA on a network that has nothing left to learn."""

    class Adapted(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.a, self.b = nn.Linear(base.in_features, 4, bias=False), nn.Linear(4, base.out_features, bias=False)
            nn.init.zeros_(self.b.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.b(self.a(x))

    net = mlp()
    learn(net)
    net = nn.Sequential(*(Adapted(m) if isinstance(m, nn.Linear) else m for m in net))
    reports = fit(
        Lit(net, lambda net: torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-4)),
        every=2,
        window=30,
        epochs=8,
    )
    assert accuracy(net) > 0.97
    return Trained(reports)


@network
def word_vectors() -> Trained:
    """An embedding of 5,000 words, most of them rare, on text with an order."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.fc, self.head = nn.Embedding(5000, 16), nn.Linear(16, 64), nn.Linear(64, 20)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.fc(self.embed(x))))

    words = (5000 * torch.rand(4000) ** 4).long()
    net = Words()
    reports = fit(Lit(net, lambda net: sgd(net, 0.5)), data=(words, words % 20), every=5, window="epoch", epochs=8)
    assert classify(net, words, words % 20) < 2.5
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


HEALTHY = [
    warm_up_and_cosine,
    slow_warm_up,
    steps_down,
    wrong_labels,
    fine_tuned_gently,
    fine_tuned_more_gently,
    at_its_floor,
    log_likelihood,
    hinge_that_reaches_zero,
    policy_gradient,
    value_learning,
    one_row_at_a_time,
    seldom_measured,
    short,
    small_head,
    small_everywhere,
    zero_start,
    adapter_on_a_converged_network,
    word_vectors,
    contrastive,
    signs_of_gradients,
    quick_adam,
    large_rate_behind_norms,
    slow_start,
    validated,
    sure_and_right,
    noisy_validation,
    heavy_tails,
]
