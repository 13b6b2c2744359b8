"""What is summed in C on the CPU is what torch sums, whatever happens to a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report
from lightning_neurohealth.counting.native_sums import NativeSums
from lightning_neurohealth.native import kernel
from lightning_neurohealth.signals import Signal
from tests.training import MLP

pytestmark = pytest.mark.skipif(kernel() is None, reason="needs a C compiler")


class Residual(nn.Module):
    """Images through BatchNorm and one ReLU in place that several layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 20, 3, padding=1), nn.BatchNorm2d(20)
        self.conv2, self.norm2 = nn.Conv2d(20, 20, 3, padding=1), nn.BatchNorm2d(20)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(x + self.norm2(self.conv2(x)))
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    """Attention, a functional GELU, and an output over a vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.norm = nn.Embedding(90, 16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.down, self.head = nn.Linear(16, 40), nn.Linear(40, 16), nn.Linear(16, 90)

    def forward(self, x: Tensor) -> Tensor:
        x = self.token(x)
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        return self.head(x + self.down(F.gelu(self.up(x)))).flatten(0, 1)


class Recurrent(nn.Module):
    """A GRU and activations of two kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.mix, self.head = nn.GRU(5, 12, batch_first=True), nn.Linear(12, 12), nn.Linear(12, 3)
        self.act, self.last = nn.SiLU(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.act(self.mix(self.gru(x)[0][:, -1]))))


def images(rows: int) -> Tensor:
    return torch.randn(rows, 3, 9, 9)


def channels_last(rows: int) -> Tensor:
    return images(rows).to(memory_format=torch.channels_last)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "mlp": (lambda: MLP(24), lambda rows: torch.randn(rows, 4)),
    "large rows": (lambda: MLP(700), lambda rows: torch.randn(9 * rows, 4)),
    "images": (Residual, images),
    "channels last": (Residual, channels_last),
    "tokens": (Tokens, lambda rows: torch.randint(90, (rows, 7))),
    "recurrent": (Recurrent, lambda rows: torch.randn(rows, 6, 5)),
}


def train(network: str, fused: bool | str, measures: str = "standard", batches: int = 1, **how: Any) -> list[Report]:
    """Ten steps in two windows, with batches of different sizes."""
    torch.manual_seed(0)
    build, batch = NETWORKS[network]
    net = build()
    monitor = Monitor(
        net, every_n_steps=2, window=5, fused=fused, measures=measures, max_rows=how.get("max_rows", "auto")
    )
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    for step in range(10):
        optimizer.zero_grad()
        monitor.begin_step()
        for _ in range(batches):
            monitor.begin_batch()
            with how.get("autocast", nullcontext()):
                loss = net(batch(20 + step % 3)).float().square().mean()
            monitor.intake.gradient_scale = how.get("scale", 1.0)
            loss.backward()
            monitor.end_batch()
            monitor.record_loss(loss)
        monitor.before_update(optimizer)
        optimizer.step()
        monitor.end_step(stepped=True)
        if step % 5 == 4:
            monitor.close()
    monitor.remove()
    return monitor.reports


def numbers(report: Report) -> Iterator[tuple[str, Tensor]]:
    for where, measures in (*report.layers.items(), *report.parameters.items(), ("run", report.run)):
        for name, value in measures.items():
            yield f"{where}/{name}", value


def assert_same(reports: list[Report], expected: list[Report], rtol: float = 1e-5) -> None:
    for one, other in zip(reports, expected, strict=True):
        found, wanted = dict(numbers(one)), dict(numbers(other))
        assert found.keys() == wanted.keys()
        for name, value in found.items():
            torch.testing.assert_close(
                value, wanted[name], rtol=rtol, atol=1e-9, equal_nan=True, msg=lambda text, n=name: f"{n}: {text}"
            )
        assert [f.condition for f in one.findings] == [f.condition for f in other.findings]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("measures", ["economy", "standard", "full"])
def test_every_number_is_that_of_torch(network: str, measures: str) -> None:
    assert_same(train(network, "auto", measures), train(network, False, measures))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("most", [None, 9], ids=["all rows", "nine rows"])
def test_so_it_is_of_all_rows_and_of_few(network: str, most: int | None) -> None:
    how: dict[str, Any] = {"max_rows": most, "batches": 2}
    assert_same(train(network, "auto", "full", **how), train(network, False, "full", **how))


@pytest.mark.parametrize("network", ["mlp", "tokens"])
def test_halves_accumulated_batches_and_loss_scales(network: str) -> None:
    how = {"batches": 3, "scale": torch.tensor(0.125)}
    for precision in (nullcontext(), torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", torch.float16)):
        how["autocast"] = precision
        for measures in ("standard", "full"):
            assert_same(train(network, "auto", measures, **how), train(network, False, measures, **how), rtol=1e-3)


def monitored(net: nn.Module, fused: bool | str = "auto", **settings: Any) -> Monitor:
    return Monitor(net, every_n_steps=1, window="epoch", fused=fused, **settings)


def step(monitor: Monitor, net: nn.Module, x: Tensor, break_off: bool = False, overflow: bool = False) -> None:
    try:
        with monitor:
            net(x).square().mean().backward()
            if overflow:
                monitor.skip_gradients()
            if break_off:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def assert_same_in_c(build: Callable[[], nn.Module], run: Callable[[Monitor, nn.Module], None]) -> None:
    """The report of ``run`` is the same whoever sums."""
    reports = []
    for fused in ("auto", False):
        torch.manual_seed(0)
        net = build()
        monitor = monitored(net, fused)
        run(monitor, net)
        reports.append(monitor.close())
    assert_same(reports[:1], reports[1:])


@pytest.mark.parametrize("how", ["break_off", "overflow"])
@pytest.mark.parametrize("bad", [False, True], ids=["sound", "with NaN"])
def test_a_step_that_does_not_count_does_not_count_in_c_either(how: str, bad: bool) -> None:
    def run(monitor: Monitor, net: nn.Module) -> None:
        for i in range(6):
            x = torch.randn(30, 4)
            x[3] = torch.nan if bad and i == 2 else x[3]
            step(monitor, net, x, **{how: i in (2, 4)})

    assert_same_in_c(MLP, run)


def test_a_layer_whose_activation_is_found_later_loses_nothing() -> None:
    def run(monitor: Monitor, net: nn.Module) -> None:
        step(monitor, net, torch.randn(30, 4))
        net.act = nn.ReLU()
        for _ in range(3):
            step(monitor, net, torch.randn(30, 4))

    def without() -> nn.Module:
        net = MLP()
        net.act = nn.Identity()
        return net

    assert_same_in_c(without, run)


def test_tensors_that_come_in_another_layout_are_taken_too() -> None:
    def run(monitor: Monitor, net: nn.Module) -> None:
        for i in range(6):
            x = (images, channels_last)[i % 2](4 + i // 3)
            step(monitor, net.double() if i > 3 else net, x.double() if i > 3 else x)

    assert_same_in_c(Residual, run)


def test_it_is_c_that_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Signal] = []
    add = NativeSums.add
    monkeypatch.setattr(
        NativeSums, "add", lambda self, route, *a: (taken.append(route.slot.signal), add(self, route, *a))
    )
    net = MLP()
    for fused in (False, "auto"):
        monitor = monitored(net, fused)
        for _ in range(2):
            step(monitor, net, torch.randn(30, 4))
        assert bool(taken) is (fused == "auto")
        monitor.remove()
    assert {Signal.ACTIVATION, Signal.PREACTIVATION, Signal.ACTIVATION_GRADIENT, Signal.PARAMETER_GRADIENT} <= set(
        taken
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_it_is_c_that_multiplies(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: dict[str, set[int]] = {}
    add, phases = NativeSums.add_products, {2, 3, 4}

    def note(self: NativeSums, route: Any, product: Any, x: Tensor, y: Tensor, phase: int, *rest: Any) -> None:
        steps.setdefault(route.slot.subject.name, set()).add(phase)
        add(self, route, product, x, y, phase, *rest)

    monkeypatch.setattr(NativeSums, "add_products", note)
    torch.manual_seed(0)
    build, batch = NETWORKS[network]
    net = build()
    monitor = monitored(net, measures=["taylor"])
    for _ in range(5):
        step(monitor, net, batch(20))
    report = monitor.close()
    monitor.remove()
    assert report is not None
    found = {name for name, measures in report.items() if "taylor" in measures}
    turned = {"gru", "attention.out_proj"}  # time lies before the samples in memory
    assert {name for name, seen in steps.items() if seen >= phases} == found - turned != set()


@pytest.mark.parametrize("how", ["break_off", "overflow"])
def test_rows_of_a_step_that_does_not_count_do_not_wait(how: str) -> None:
    def run(monitor: Monitor, net: nn.Module) -> None:
        for i in range(9):
            step(monitor, net, torch.randn(30 + i, 4), **{how: i in (2, 5)})

    reports = []
    for fused in ("auto", False):
        torch.manual_seed(0)
        net = MLP()
        monitor = monitored(net, fused, measures="full")
        run(monitor, net)
        reports.append(monitor.close())
        run(monitor, net)
        reports.append(monitor.close())
    assert_same(reports[:2], reports[2:])


def test_a_state_that_is_loaded_between_two_steps_goes_on() -> None:
    def run(monitor: Monitor, net: nn.Module, *seeds: int) -> None:
        for seed in seeds:
            net.zero_grad()
            with monitor:
                net(torch.randn(40, 4, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
                monitor.record_answers(torch.arange(40) % 2)

    reports = []
    for lost in ([4, 5], []):
        torch.manual_seed(0)
        net = MLP()
        monitor = monitored(net, measures="full")
        run(monitor, net, 1, 2, 3)
        state = monitor.state_dict()
        run(monitor, net, *lost)
        if not lost:
            monitor.remove()
            monitor = monitored(net, measures="full")
        monitor.load_state_dict(state)
        run(monitor, net, 6, 7)
        reports.append(monitor.close())
        monitor.remove()
    assert_same(reports[:1], reports[1:])
    assert reports[0].layers["fc1"]["activation_rows"].item() == 200


def test_answers_are_the_same() -> None:
    def run(monitor: Monitor, net: nn.Module) -> None:
        for i in range(6):
            x, labels = torch.randn(300, 3, 9, 9), torch.randint(4, (300,))
            labels[:: 2 + i] = -1
            with monitor:
                net(x).square().mean().backward()
                monitor.record_answers(labels)

    reports = []
    for fused in ("auto", False):
        torch.manual_seed(0)
        net = Residual()
        monitor = monitored(net, fused, measures=["output_correlation"])
        run(monitor, net)
        reports.append(monitor.close())
    assert all("output_correlation" in measures for measures in reports[0].layers.values())
    assert_same(reports[:1], reports[1:])


def test_the_black_box_sees_what_c_sums() -> None:
    records = []
    for fused in ("auto", False):
        torch.manual_seed(0)
        net = MLP()
        monitor = monitored(net, fused)
        for _ in range(11):
            step(monitor, net, torch.randn(30, 4))
        records.append(monitor.black_box.read())
    assert records[0].steps == records[1].steps
    for place, sizes in records[0].sizes.items():
        assert sizes == pytest.approx(records[1].sizes[place], rel=1e-9)


def test_a_run_without_a_compiler_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train("mlp", "auto")
    monkeypatch.setattr("lightning_neurohealth.counting.native_sums.kernel", lambda: None)
    monkeypatch.setattr("lightning_neurohealth.samples.kernel", lambda: None)
    assert_same(train("mlp", "auto"), expected)
