"""A gallery of sick networks, each beside the same one cured.

    python examples/sick_networks.py                  # all of them
    python examples/sick_networks.py dead_neurons     # one

Each function trains one network on scikit-learn's digits, sick or cured, and returns the last report.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report

Train = Callable[[bool], Report]


@dataclass(frozen=True)
class Exhibit:
    """One disease: what is found, the training that has it, and the measure and layer that show it best."""

    condition: str
    train: Train
    measure: str
    layer: str | None = None


EXHIBITS: dict[str, Exhibit] = {}


def exhibit(measure: str, layer: str | None = None) -> Callable[[Train], Train]:
    """Put a training into the gallery; it is named after what is found."""

    def add(train: Train) -> Train:
        EXHIBITS[train.__name__] = Exhibit(train.__name__, train, measure, layer)
        return train

    return add


def digits(standardise: bool = True) -> tuple[Tensor, Tensor]:
    """Images ``[1797, 64]``, of pixels from 0 to 255 if not standardised, and their labels."""
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    return (((images - images.mean()) / images.std()) if standardise else 16 * images).float(), labels


def network(activation: type[nn.Module] = nn.ReLU, depth: int = 3, width: int = 48) -> nn.Sequential:
    """Layers 0, 2, 4, … with an activation behind each but the last."""
    layers = [m for i in range(depth) for m in (nn.Linear(width if i else 64, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def fit(
    net: nn.Module,
    data: tuple[Tensor, Tensor] | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    lr: float = 1e-3,
    steps: int = 160,
    validation: tuple[Tensor, Tensor] | None = None,
) -> Report:
    """Train with Adam under a monitor, in eight windows."""
    images, labels = data or digits()
    optimizer = torch.optim.Adam(net.parameters() if parameters is None else parameters, lr)
    monitor = Monitor(net, every_n_steps=2, window="epoch")
    for step in range(steps):
        rows = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        with monitor:
            loss = F.cross_entropy(net(images[rows]), labels[rows])
            loss.backward()
            monitor.record_loss(loss)
        optimizer.step()
        if (step + 1) % (steps // 8) == 0:
            if validation is not None:
                monitor.record_validation_loss(F.cross_entropy(net(validation[0]), validation[1]))
            monitor.close(step=step + 1)
    monitor.remove()
    assert monitor.report is not None
    return monitor.report


@exhibit("zero_rate", layer="2")
def dead_neurons(cured: bool) -> Report:
    """A learning rate a hundred times too high throws the biases of ReLUs so far down that nothing turns them on again.

    Cure: the usual learning rate.
    """
    return fit(network(nn.ReLU), lr=1e-3 if cured else 0.1)


@exhibit("saturation_rate")
def saturation(cured: bool) -> Report:
    """Inputs that were not standardised, pixels from 0 to 255, push a tanh to its ends.

    Cure: standardise them.
    """
    return fit(network(nn.Tanh), data=digits(standardise=cured))


@exhibit("gradient_rms")
def vanishing_gradients(cured: bool) -> Report:
    """Twelve layers of sigmoids: each passes at most a quarter of the gradient on.

    Cure: ReLU with He initialisation.
    """
    net = network(nn.ReLU if cured else nn.Sigmoid, depth=12)
    for module in net if cured else ():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return fit(net)


@exhibit("activation_std")
def exploding_activations(cured: bool) -> Report:
    """Weights drawn from N(0, 1), as ``torch.randn`` gives them: each layer multiplies what it reads by about 5.

    Cure: a standard deviation of √(2 / inputs).
    """
    net = network(nn.ReLU, depth=8)
    for module in net:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=(2 / module.in_features) ** 0.5 if cured else 1.0)
    return fit(net)


@exhibit("nonfinite_rate")
def non_finite(cured: bool) -> Report:
    """Each pixel is divided by its own standard deviation. Some at the edge never change: 0 / 0.

    Cure: add a little to what may be zero before dividing by it.
    """
    images, labels = digits()
    spread = images.std(0) + (1e-2 if cured else 0.0)
    return fit(network(), data=((images - images.mean(0)) / spread, labels))


@exhibit("gradient_rms")
def no_gradient(cured: bool) -> Report:
    """A head was added after the optimizer had been made, which never learns of it.

    Cure: make the optimizer last.
    """
    net = network()
    return fit(net, parameters=net.parameters() if cured else net[:-1].parameters())


@exhibit("twin_distance")
def redundant_neurons(cured: bool) -> Report:
    """All weights start at the same value, so all neurons of a layer compute, and learn, the same.

    Cure: random weights.
    """
    net = network()
    for module in () if cured else net:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 0.02)
            nn.init.zeros_(module.bias)
    return fit(net)


@exhibit("train_loss")
def plateau(cured: bool) -> Report:
    """A learning rate a thousand times too low.

    Cure: the usual one.
    """
    return fit(network(), lr=1e-3 if cured else 1e-7, steps=320)


@exhibit("train_loss")
def overfitting(cured: bool) -> Report:
    """Sixty images to learn from, a fifth of them with wrong labels: the network learns the errors by heart.

    Cure: all of the data.
    """
    images, labels = digits()
    known = 1400 if cured else 60
    wrong = torch.rand(known) < (0.0 if cured else 0.2)
    train = images[:known], torch.where(wrong, torch.randint(10, (known,)), labels[:known])
    return fit(network(), data=train, steps=320, lr=3e-3, validation=(images[1400:], labels[1400:]))


def visit(name: str, cured: bool) -> Report:
    """Train one of the gallery, from the same seed each time."""
    torch.manual_seed(0)
    return EXHIBITS[name].train(cured)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(EXHIBITS)}; all by default")
    names = parser.parse_args(arguments).names
    if unknown := set(names) - set(EXHIBITS):
        parser.error(f"no {', '.join(sorted(unknown))} here; there are {', '.join(EXHIBITS)}")
    for name in names or EXHIBITS:
        print(f"\n{'=' * 80}\n{name}: {EXHIBITS[name].train.__doc__}\n{'=' * 80}\n")
        print(visit(name, cured=False))
        print(f"\ncured: {[f.condition for f in visit(name, cured=True).findings] or 'nothing found'}")


if __name__ == "__main__":
    main()
