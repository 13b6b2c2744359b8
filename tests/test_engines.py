"""What strategies that this machine cannot run make of a model: DeepSpeed and FSDP1, by what they leave on it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from lightning_neurohealth.layers import clean_name
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
    monitor = Monitor(model, every_n_steps=1)
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
    assert "keeps their gradients to itself" in report.coverage.missed["gradient_norm"]
    assert "no_gradient" not in {finding.condition for finding in report.findings}
