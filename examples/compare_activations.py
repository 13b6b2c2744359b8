"""Compare activations in the same deep network, with torch's default initialisation and with the matched one.

Prints a table (norm of the gradient at the input, first loss, whether the preflight calls the network fit to be
trained; health, accuracy and the worst finding after training) and draws the gradients of all layers before it:

    python examples/compare_activations.py --depth 10 --steps 300
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report
from lightning_neurohealth.interventions import Preflight, check_initialization, initialize

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "LeakyReLU": lambda: nn.LeakyReLU(0.1),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "GELU": nn.GELU,
}
INITIALISATIONS = ("default", "matched")


@dataclass
class Result:
    """One network: before, during and after its training."""

    activation: str
    initialisation: str
    input_gradient: float
    before: Preflight
    report: Report
    accuracy: float


def data() -> tuple[Tensor, Tensor]:
    """Standardised digits."""
    images, labels = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    return ((images - images.mean()) / images.std()).float(), labels


def study(name: str, initialisation: str, depth: int, width: int, steps: int) -> Result:
    """Measure the network at its start, train it under a monitor, and measure it again."""
    torch.manual_seed(0)
    images, labels = data()
    layers = [m for i in range(depth) for m in (nn.Linear(width if i else 64, width), ACTIVATIONS[name]())]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    if initialisation != "default":
        initialize(model, images[:2], seed=0)
    x = images[:256].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels[:256]), x)
    before = check_initialization(model, (images[:256], labels[:256]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    monitor = Monitor(model, every_n_steps=5, window="epoch")
    for step in range(steps):
        rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(step))[:64]
        optimizer.zero_grad()
        with monitor:
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            loss.backward()
            monitor.record_loss(loss)
        optimizer.step()
        if (step + 1) % max(steps // 4, 1) == 0:
            monitor.close(step=step + 1, last=step + 1 == steps)
    monitor.remove()
    assert monitor.report is not None
    with torch.no_grad():
        accuracy = float((model(images).argmax(1) == labels).float().mean())
    return Result(name, initialisation, float(gradient.norm()), before, monitor.report, accuracy)


def table(results: list[Result]) -> Table:
    """A row a network."""
    found = Table(title="The same deep network under different activations")
    for column in ("activation", "init"):
        found.add_column(column)
    for column in ("input ∇", "loss", "fit", "health", "accuracy"):
        found.add_column(column, justify="right")
    found.add_column("worst finding", overflow="fold")
    for result in results:
        worst = result.report.findings[0].condition if result.report.findings else "nothing"
        found.add_row(
            result.activation,
            result.initialisation,
            f"{result.input_gradient:.1e}",
            f"{result.before.loss:.2f}",
            "yes" if result.before.healthy else "no",
            f"{result.report.score:.2f}",
            f"{result.accuracy:.0%}",
            worst,
        )
    return found


def draw(results: list[Result], path: str) -> None:
    """The size of each layer's weight gradient before training, a panel for each initialisation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for ax, initialisation in zip(figure.subplots(1, 2, sharey=True), INITIALISATIONS, strict=True):
        for result in results:
            if result.initialisation == initialisation:
                sizes = [birth.gradient_rms for birth in result.before.layers.values()]
                ax.semilogy(range(1, len(sizes) + 1), sizes, label=result.activation)
        ax.set_title(f"initialisation: {initialisation}")
        ax.set_xlabel("layer, from the input")
    figure.axes[0].set_ylabel("gradient of a weight (RMS)")
    figure.axes[0].legend()
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("depth", 10), ("width", 64), ("steps", 300)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--picture", default="compare_activations.png")
    options = parser.parse_args(arguments)
    results = [
        study(name, initialisation, options.depth, options.width, options.steps)
        for name in ACTIVATIONS
        for initialisation in INITIALISATIONS
    ]
    Console().print(table(results))
    draw(results, options.picture)
    print(f"picture: {options.picture}")
    return results


if __name__ == "__main__":
    main()
