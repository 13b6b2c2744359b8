"""What DeepSpeed, which this machine cannot run, leaves on a model; and FSDP1 itself, in a loop without a Trainer."""

from __future__ import annotations

import os
import socket
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from lightning_neurohealth import Monitor
from lightning_neurohealth.layers import clean_name
from tests.ranks import OF_BATCHES
from tests.training import MLP


class Wrapper(nn.Module):
    """Calls what it wraps, as FullyShardedDataParallel and the checkpoint wrapper do."""

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, module)

    def forward(self, *args: Tensor) -> Tensor:
        return getattr(self, self.name)(*args)


def steps(monitor: Monitor, model: nn.Module, count: int = 3) -> None:
    for _ in range(count):
        with monitor:
            model(torch.ones(4, 4)).square().mean().backward()
            monitor.record_loss(torch.tensor(1.0))


def test_names_without_what_fsdp_puts_in_between() -> None:
    net = MLP()
    net.fc1 = Wrapper("_fsdp_wrapped_module", Wrapper("_checkpoint_wrapped_module", net.fc1))
    model = Wrapper("_fsdp_wrapped_module", net)
    monitor = Monitor(model, every_n_steps=1)
    steps(monitor, model)
    report = monitor.close()
    monitor.remove()
    assert report is not None
    assert list(report) == ["fc1", "fc2"]
    assert list(report.parameters) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert report["fc1"].activation == "act"
    assert {"weight_norm", "on_rate", "gradient_flow"} <= report["fc1"].keys()


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_forward_module", "_fsdp_wrapped_module"])
def test_wrappers_in_names(wrapper: str) -> None:
    assert clean_name(f"{wrapper}.encoder.{wrapper}.fc") == "encoder.fc"
    assert clean_name(f"encoder.{wrapper}") == "encoder"


@pytest.mark.parametrize("rest", [5, 0], ids=["flat pieces", "nothing"])
def test_weights_that_are_whole_only_while_they_work(rest: int) -> None:
    """FSDP1 leaves flat pieces between two steps, ZeRO-3 nothing: the activations are seen all the same."""
    model = MLP()
    whole = {name: parameter.data for name, parameter in model.named_parameters()}

    def gather(*_: object) -> None:
        for name, parameter in model.named_parameters():
            parameter.data = whole[name]

    def release(*_: object) -> None:
        for parameter in model.parameters():
            parameter.grad = None
            parameter.data = parameter.data.flatten()[:rest]

    monitor = Monitor(model, every_n_steps=1, measures="full")
    for _ in range(3):
        gather()
        with monitor:
            model(torch.ones(4, 4)).square().mean().backward()
            release()
    report = monitor.close()
    assert report is not None
    assert monitor.failure is None
    monitor.remove()
    assert float(report["fc1"]["activation_rows"]) == 12
    assert "gradient_flow" in report["fc1"]
    assert "weight_norm" not in report["fc1"]


class Engine:
    """DeepSpeed's optimizers are none of torch, and hold flat copies of the parameters."""

    def __init__(self, model: nn.Module) -> None:
        flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        self.param_groups = [{"params": [flat], "lr": 0.1}]


def test_gradients_that_an_engine_keeps_raise_no_alarm() -> None:
    model = MLP()
    monitor = Monitor(model, every_n_steps=1, measures=["standard", "gradient_max"])
    monitor.parameters.know_optimizers([Engine(model)])  # type: ignore[list-item]
    for _ in range(30):
        with monitor:
            model(torch.randn(40, 4)).square().mean().backward()
            monitor.record_loss(torch.tensor(1.0))
            for parameter in model.parameters():
                parameter.grad = None
    report = monitor.close()
    monitor.remove()
    assert report is not None
    assert monitor.failure is None
    assert "gradient_norm" not in report.parameters.get("fc1.weight", {})
    assert "gradient_flow" in report["fc1"]
    for measure in ("gradient_norm", "gradient_max"):
        assert "keeps their gradients to itself" in report.coverage.missed[measure]
    assert "no_gradient" not in {finding.condition for finding in report.findings}


def train(model: nn.Module, rows: Tensor, share: float = 1.0) -> dict[str, dict[str, Tensor]]:
    """What is reported of the parameters, of the run and of the first layer after three steps of descent.

    ``share`` is that of the rank's loss in the loss of the step.
    """
    monitor = Monitor(model, every_n_steps=1, measures="full")
    monitor.intake.gradient_scale = share
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for number, step in enumerate(rows):
        if number == 2:  # as if the run had been cut here
            state = monitor.state_dict()
            monitor.remove()
            monitor = Monitor(model, every_n_steps=1, measures="full")
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                monitor.load_state_dict(state)
            monitor.intake.gradient_scale = share
        optimizer.zero_grad()
        with monitor:
            model(step).square().mean().backward()
        optimizer.step()
    report = monitor.close()
    monitor.remove()
    assert report is not None
    missed = {name for name, why in report.coverage.missed.items() if why.startswith("FSDP1")}
    missed.add("parameter_change")  # begins anew at a cut, where ranks share the parameters
    of_run = {name: report.run[name] for name in ("global_gradient_norm", "update_ratio")}
    layer = {name: value for name, value in report["fc1"].items() if name not in missed}
    tables = [(name, of_one.items()) for name, of_one in report.parameters.items()]
    parameters = {f"{name} {m}": value for name, of_one in tables for m, value in of_one if m not in missed}
    return {"parameters": parameters, "run": of_run, "fc1": layer, "missed": dict.fromkeys(missed, torch.empty(0))}


def build() -> nn.Module:
    torch.manual_seed(0)
    return MLP(hidden=7).double()  # whose pieces are not even


DATA = torch.linspace(-2, 2, 3 * 40 * 4, dtype=torch.float64).sin().view(3, 40, 4)


def on_rank(rank: int, port: int, folder: Path, whole: bool) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    net, options = build(), {"use_orig_params": whole, "device_id": torch.device("cpu")}
    net.fc1 = FullyShardedDataParallel(net.fc1, **options)
    model = FullyShardedDataParallel(net, **options)
    torch.save(train(model, DATA[:, rank * 20 : rank * 20 + 20], 0.5), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("whole", [True, False], ids=["parameters", "flat parameters"])
def test_fsdp1_reports_what_one_process_would(whole: bool, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(on_rank, (port, tmp_path, whole), nprocs=2, start_method="fork")
    ours, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    torch.testing.assert_close(ours, other, rtol=0, atol=0, equal_nan=True)
    expected = train(build(), DATA)
    assert {"weight_norm", "gradient_uniformity"} <= ours["missed"].keys()
    assert "gradient_flow" in ours["fc1"]
    for name in ours["fc1"].keys() - OF_BATCHES:
        torch.testing.assert_close(
            ours["fc1"][name], expected["fc1"][name], rtol=1e-9, atol=1e-12, equal_nan=True, msg=name
        )
    torch.testing.assert_close(ours["run"]["global_gradient_norm"], expected["run"]["global_gradient_norm"])
    if whole:
        torch.testing.assert_close(ours["parameters"], expected["parameters"], equal_nan=True)
        assert {"fc1.weight gradient_std", "fc2.bias gradient_min"} <= expected["parameters"].keys()
        torch.testing.assert_close(ours["run"], expected["run"])
