"""What the taps deliver: the right rows, once, as views, whatever runs around them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode, _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils.checkpoint import checkpoint

from lightning_neurohealth import Monitor, Report
from lightning_neurohealth.ledger import Ledger
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.taps import fold
from tests.training import MLP, Learner, fit, make_data, make_health, make_trainer, watch_step


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# Folding


def rows(x: Tensor, axis: int) -> Tensor:
    """``x`` as [rows, neurons], by hand."""
    return torch.stack([part.flatten() for part in x.unbind(axis)], dim=1)


def nchw() -> Tensor:
    return torch.randn(2, 3, 4, 5)


CASES: dict[str, tuple[Tensor, int]] = {
    "linear": (torch.randn(6, 3), -1),
    "tokens": (torch.randn(2, 5, 3), -1),
    "images": (nchw(), 1),
    "channels_last": (nchw().to(memory_format=torch.channels_last), 1),
    "volumes": (torch.randn(2, 3, 4, 5, 6), 1),
    "volumes, channels last": (torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d), 1),
    "signals": (torch.randn(2, 3, 7), 1),
    "one image": (torch.randn(3, 4, 5), 0),
    "one sample": (torch.randn(3), -1),
    "one pixel": (torch.randn(2, 3, 1, 1), 1),
    "one channel": (torch.randn(2, 1, 4, 5), 1),
    "images permuted to the last axis": (nchw().permute(0, 2, 3, 1), 3),
    "tokens transposed to the first axis": (torch.randn(2, 7, 3).transpose(1, 2), 1),
    "a part of the rows": (torch.randn(9, 3)[2:6], -1),
    "every second image": (torch.randn(6, 3, 4, 5)[::2], 1),
    "one number for all": (torch.ones(1, 3, 1, 1).expand(2, 3, 4, 5), 1),
    "cropped": (torch.randn(2, 3, 6, 6)[..., 1:-1, 1:-1], 1),
    "sliced features": (torch.randn(4, 8)[:, 2:5], -1),
    "no rows": (torch.randn(0, 3), -1),
    "no images": (torch.randn(0, 3, 4, 5), 1),
}
COPIES = {"images permuted to the last axis", "one number for all", "cropped", "every second image"}


@pytest.mark.parametrize("case", CASES)
def test_fold_gives_the_rows_of_each_neuron(case: str) -> None:
    x, axis = CASES[case]
    folded = fold(x, axis)
    assert folded.shape[1] == x.shape[axis]
    ours, true = folded.movedim(1, 2).flatten(0, 1), rows(x, axis)
    assert ours.shape == true.shape
    # the order of rows may differ: rows are pooled
    assert torch.equal(ours.sort(0).values, true.sort(0).values)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, true.tolist()))


@pytest.mark.parametrize("case", sorted(CASES.keys() - COPIES))
def test_fold_copies_nothing(case: str) -> None:
    x, axis = CASES[case]
    assert fold(x, axis).data_ptr() == x.data_ptr()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_does_not_show(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    plain = watch_step(copy.deepcopy(net), x)[1]
    other = watch_step(net.to(memory_format=memory_format), x.to(memory_format=memory_format))[1]
    for measure in ("on_rate", "activation_std", "preactivation_mean", "gradient_flow"):
        torch.testing.assert_close(other["0"][measure], plain["0"][measure], rtol=1e-12, atol=1e-12)


# Numbers


def test_statistics_are_of_the_tensor_before_anything_changes_it() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act = nn.Linear(4, 8), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            a = self.act(self.fc(x))
            a += 100.0
            return a

    net, x = InPlace(), torch.randn(50, 4)
    _, report = watch_step(net, x, backward=False)
    z = net.fc(x)
    torch.testing.assert_close(report["fc"]["preactivation_mean"], z.double().mean(0))
    torch.testing.assert_close(report["fc"]["activation_mean"], z.relu().double().mean(0))


def flow(net: nn.Module, x: Tensor, name: str) -> Tensor:
    return watch_step(net, x)[1][name]["gradient_flow"]


def test_gradient_is_that_of_the_activation() -> None:
    net, x = MLP().double(), torch.randn(20, 4, dtype=torch.float64)
    a = torch.relu(net.fc1(x)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.fc2(a).square().mean(), a)
    torch.testing.assert_close(flow(net, x, "fc1"), gradient.abs().mean(0), rtol=1e-12, atol=0)


def test_gradient_behind_an_inplace_activation() -> None:
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    inplace = copy.deepcopy(plain)
    inplace[1].inplace = True
    x = torch.randn(20, 4, dtype=torch.float64)
    torch.testing.assert_close(flow(inplace, x, "0"), flow(plain, x, "0"), rtol=1e-12, atol=0)


# Forwards that run twice


class Checkpointed(nn.Module):
    """The middle is computed again in backward."""

    def __init__(self, checkpointed: Callable[..., Tensor], middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 8), middle, nn.Linear(8, 1)
        self.checkpointed = checkpointed

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.checkpointed(self.middle, self.first(x)))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def modules() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 8), nn.Tanh())


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("build", [modules, Functional])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(use_reentrant: bool, build: Callable[[], nn.Module], steps: int) -> None:
    torch.manual_seed(0)
    plain = Checkpointed(lambda middle, x: middle(x), build()).double()
    again = copy.deepcopy(plain)
    again.checkpointed = lambda middle, x: checkpoint(middle, x, use_reentrant=use_reentrant)
    x = torch.randn(10, 4, dtype=torch.float64)
    expected, report = watch_step(plain, x, steps=steps)[1], watch_step(again, x, steps=steps)[1]
    assert list(report) == list(expected)
    assert report.coverage == expected.coverage
    for name, layer in expected.items():
        assert float(report[name]["activation_rows"]) == 10 * steps
        assert report[name].activation == layer.activation
        for measure in layer:
            torch.testing.assert_close(
                report[name][measure], layer[measure], rtol=1e-9, atol=0, equal_nan=True, msg=f"{name} {measure}"
            )


@pytest.mark.parametrize("build", [modules, Functional])
def test_reentrant_checkpoint_under_a_trainer(build: Callable[[], nn.Module]) -> None:
    """Where what a backward pass calls is no new layer."""
    torch.manual_seed(0)
    plain = Checkpointed(lambda middle, x: middle(x), build()).double()
    again = copy.deepcopy(plain)
    again.checkpointed = lambda middle, x: checkpoint(middle, x, use_reentrant=True)
    data = make_data(dtype=torch.float64)
    expected, report = fit(plain, data).report, fit(again, data).report
    assert list(report) == list(expected)
    for name, layer in expected.items():
        for measure in ("activation_rows", "on_rate", "gradient_flow", "gradient_pass_rate"):
            torch.testing.assert_close(
                report[name][measure], layer[measure], rtol=1e-9, atol=0, msg=f"{name} {measure}"
            )
    assert not _get_current_function_mode_stack()


def test_checkpointing_of_the_whole_model() -> None:
    class Whole(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=False)

    _, report = watch_step(Whole(), torch.randn(10, 4), steps=2)
    assert list(report) == ["fc1", "fc2"]
    assert (report["fc1"]["gradient_flow"] > 0).any()


class Penalised(Learner):
    """The gradient of the output with respect to the input is kept small."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = batch[0].requires_grad_()
        out = self(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return F.mse_loss(out, batch[1]) + slope.square().mean()


def test_gradient_penalty_is_not_counted_twice() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    data = make_data(rows=20, batch=20, dtype=torch.float64)
    report = fit(Penalised(net, lr=0.0), data).report

    x, y = next(iter(data))
    x.requires_grad_()
    a = torch.tanh(net[0](x))
    out = net[2](a)
    (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    (gradient,) = torch.autograd.grad(F.mse_loss(out, y) + slope.square().mean(), a)
    torch.testing.assert_close(report["net.0"]["gradient_flow"], gradient.abs().mean(0), rtol=1e-9, atol=0)
    assert float(report["net.0"]["activation_rows"]) == 20


def test_two_backwards_of_two_losses_add_up() -> None:
    """The rows of a layer that two losses reach are counted for each of them."""
    net, x = MLP().double(), torch.randn(20, 4, dtype=torch.float64)
    monitor = Monitor(net, every_n_steps=1)
    with monitor:
        net(x).mean().backward()
        net(x).mean().backward()
    report = monitor.close()
    monitor.remove()
    torch.testing.assert_close(
        report["fc1"]["gradient_flow"], net.fc2.weight.abs().flatten().detach() / 20, rtol=1e-12, atol=0
    )


# Tensors and modules of all kinds


def test_no_gradients_without_a_graph() -> None:
    net, x = MLP(), torch.randn(10, 4)
    with torch.no_grad():
        _, report = watch_step(net, x, backward=False)
    assert float(report["fc1"]["activation_rows"]) == 10
    assert "gradient_flow" not in report["fc1"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    net, x = MLP().to(dtype), torch.randn(100, 4).to(dtype)
    _, report = watch_step(net, x)
    a = torch.relu(net.fc1(x)).double()
    torch.testing.assert_close(report["fc1"]["activation_mean"], a.mean(0))
    torch.testing.assert_close(report["fc1"]["on_rate"], (a > 0).double().mean(0))


def test_autocast() -> None:
    net, x = MLP(), torch.randn(100, 4)
    with torch.autocast("cpu", torch.bfloat16):
        _, report = watch_step(net, x)
    a = torch.relu(net.fc1(x)).double()
    torch.testing.assert_close(report["fc1"]["activation_mean"], a.mean(0), rtol=0.02, atol=0.02)
    assert list(report) == ["fc1", "fc2"]


def test_vmap_is_left_alone() -> None:
    class Mapped(MLP):
        def forward(self, x: Tensor) -> Tensor:
            once = super().forward(x)
            return once + torch.func.vmap(super().forward)(x)

    net = Mapped()
    monitor, report = watch_step(net, torch.randn(10, 4))
    assert monitor.failure is None
    assert float(report["fc1"]["activation_rows"]) == 10


def test_script_modules_are_left_alone() -> None:
    with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
        scripted = torch.jit.script(nn.Linear(8, 8))
    monitor, report = watch_step(nn.Sequential(MLP(8).fc1, scripted, nn.ReLU(), nn.Linear(8, 1)), torch.randn(10, 4))
    assert monitor.failure is None
    assert {"0", "3"} <= set(report)


def test_outputs_that_are_no_tensors() -> None:
    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), None

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.head = Pair(4, 8), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.pair(x)[0])

    monitor, report = watch_step(Net(), torch.randn(10, 4))
    assert monitor.failure is None
    assert "head" in report
    assert "pair" in {*report, *report.coverage.missed}  # seen, or listed as not seen


def test_users_own_hooks_still_run() -> None:
    net, calls = MLP(), []
    net.fc1.register_forward_hook(lambda m, i, o: calls.append("forward"))
    net.fc1.register_full_backward_hook(lambda m, i, o: calls.append("backward"))
    watch_step(net, torch.randn(10, 4, requires_grad=True))
    assert calls == ["forward", "backward"]


def test_users_function_mode_still_works() -> None:
    class Count(torch.overrides.TorchFunctionMode):
        calls = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls += func is F.gelu
            return func(*args, **(kwargs or {}))

    net = nn.Sequential(Functional(), nn.Linear(8, 1))
    with Count() as count:
        _, report = watch_step(net, torch.randn(10, 8))
    assert count.calls == 1
    assert report["0.fc1"].function == "gelu"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_monitors_end_in_either_order(order: tuple[int, int]) -> None:
    net, x = nn.Sequential(Functional(), nn.Linear(8, 1)), torch.randn(10, 8)
    monitors = [Monitor(net, every_n_steps=1), Monitor(net, every_n_steps=1)]
    for _ in range(2):
        for monitor in monitors:
            monitor.begin_step()
            monitor.begin_batch()
        net(x).sum().backward()
        monitors[order[0]].end_batch()
        (left,) = _get_current_function_mode_stack()
        assert left is monitors[order[1]].taps._functions
        with BaseTorchFunctionMode() as mode:
            monitors[order[1]].end_batch()
            assert _get_current_function_mode_stack() == [mode]
        assert not _get_current_function_mode_stack()
        for monitor in monitors:
            monitor.end_step()
    reports = [monitor.close() for monitor in monitors]
    assert [list(report) for report in reports] == [["0.fc1", "0.fc2", "1"]] * 2
    for measure in ("on_rate", "gradient_flow", "activation_rows"):
        torch.testing.assert_close(reports[0]["0.fc1"][measure], reports[1]["0.fc1"][measure])


class InMode(Learner):
    """Steps by hand, within a mode of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.automatic_optimization = False
        self.kept: list[bool] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        with torch.device("cpu"):
            (mode,) = (m for m in _get_current_function_mode_stack() if isinstance(m, DeviceContext))
            for _ in range(2):
                optimizer.zero_grad()
                self.manual_backward(super().training_step(batch, batch_idx))
                optimizer.step()
                self.kept.append(any(m is mode for m in _get_current_function_mode_stack()))


def test_users_mode_stays_around_a_manual_backward() -> None:
    model = InMode(nn.Sequential(Functional(), nn.Linear(8, 1)))
    fit(model, make_data(shape=(8,)), every_n_steps=2)
    assert model.kept == [True] * 8
    assert not _get_current_function_mode_stack()


# Compiled code


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2, self.tanh = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.tanh(self.fc2(self.relu(self.fc1(x))))


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Body()
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def compile_in_place(net: Halves, **options: Any) -> None:
    net.body.compile(**options)


def compile_a_copy(net: Halves, **options: Any) -> None:
    net.body = torch.compile(net.body, **options)


class Graphs(list[torch.fx.GraphModule]):
    """A backend that keeps each graph that is compiled, and runs it as it is."""

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.append(graph)
        return graph.forward


def assert_same_findings(report: Report, expected: Report) -> None:
    assert report.measured == 3
    assert list(report) == list(expected)
    for name, layer in expected.items():
        assert report[name].activation == layer.activation
        assert report[name].keys() == layer.keys()
        for measure in layer:
            torch.testing.assert_close(report[name][measure], layer[measure], rtol=1e-9, atol=1e-12, msg=measure)
    assert set(report.parameters) == set(expected.parameters)
    assert report.coverage == expected.coverage
    assert [str(f) for f in report.findings] == [str(f) for f in expected.findings]


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("compiled", [compile_in_place, compile_a_copy])
def test_compiled_submodule(compiled: Callable[..., None], fullgraph: bool) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    net, graphs = Halves().double(), Graphs()
    plain = copy.deepcopy(net)
    compiled(net, backend=graphs, fullgraph=fullgraph)
    data = make_data(rows=40, dtype=torch.float64)
    expected = fit(plain, data, every_n_steps=2).report
    report = fit(net, data, every_n_steps=2).report

    assert len(graphs) == 1  # the steps that are not measured ran compiled, without a recompilation
    assert list(report) == ["net.body.fc1", "net.body.fc2", "net.head"]
    assert_same_findings(report, expected)


class Silent(Learner):
    """Its step can be compiled as a whole: it logs nothing."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.mse_loss(self(batch[0]), batch[1])


class FunctionalHalves(nn.Module):
    """Its activations are functions, so that every measured step is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.fc2(F.relu(self.fc1(x)))))


@pytest.mark.parametrize("build", [Halves, FunctionalHalves])
@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled_lightning_module(fullgraph: bool, build: type[nn.Module]) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    model, graphs = Silent(build().double()), Graphs()
    plain = copy.deepcopy(model)
    data = make_data(rows=40, dtype=torch.float64)
    expected = fit(plain, data, every_n_steps=2).report
    health = make_health(every_n_steps=2)
    make_trainer(health).fit(torch.compile(model, backend=graphs, fullgraph=fullgraph, dynamic=True), data)
    assert len(graphs) == 1
    assert_same_findings(health.report, expected)


# Idle steps


def test_a_step_that_is_not_measured_takes_nothing_of_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, Signal]] = []
    take = Ledger.take

    def note(self: Ledger, subject: Any, signal: Signal, x: Tensor) -> None:
        taken.append((self.step, signal))
        take(self, subject, signal, x)

    monkeypatch.setattr(Ledger, "take", note)
    net = nn.Sequential(Functional(), nn.Linear(8, 1))
    fit(net, make_data(rows=48, shape=(8,)), every_n_steps=3, window=100)
    assert {step for step, signal in taken if signal is Signal.ACTIVATION} == {0, 3}
    assert {step for step, signal in taken if signal is Signal.ACTIVATION_GRADIENT} == {0, 3}
    assert {signal for step, signal in taken if step in (1, 2, 4)} <= {Signal.LOSS}
