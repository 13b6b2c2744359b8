"""Calls of functions that are activations, in every spelling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth.activations import from_function, from_module
from tests.activations.known import INF, Watch, autograd, slope_of

SLOPES = torch.tensor([0.3], dtype=torch.float64)
SPELLINGS: dict[str, list[str]] = {
    "relu": """F.relu(x); F.relu(x, True); F.relu(input=x); F.relu(x, inplace=True); F.relu_(x); x.relu(); x.relu_();
        torch.relu(x); torch.relu(input=x); torch.relu_(x); torch.clamp(x, 0); torch.clamp(x, min=0); x.clamp(0);
        torch.clamp(x, min=0.0, max=None); x.clamp(min=0); x.clamp_(0); x.clamp_(min=0); torch.clamp_(x, 0);
        torch.clamp_min(x, 0); torch.clamp_min_(x, 0); x.clamp_min(0); x.clamp_min(min=0); x.clamp_min_(0.0);
        torch.clip(x, 0); torch.clip_(x, min=0); x.clip(0); x.clip_(0); nn.ReLU()(x); nn.ReLU(inplace=True)(x)""",
    "relu6": """F.relu6(x); F.relu6(x, inplace=True); nn.ReLU6()(x); nn.ReLU6(True)(x); F.hardtanh(x, 0, 6)""",
    "leaky_relu": """F.leaky_relu(x); F.leaky_relu(x, 0.2); F.leaky_relu(x, negative_slope=0.2, inplace=True);
        F.leaky_relu_(x, 0.2); F.leaky_relu_(x); nn.LeakyReLU(0.2)(x); nn.LeakyReLU(0.2, True)(x)""",
    "prelu": """F.prelu(x, SLOPES); torch.prelu(x, SLOPES); torch.prelu(x, weight=SLOPES); x.prelu(SLOPES);
        nn.PReLU().double()(x)""",
    "rrelu": """F.rrelu(x); F.rrelu(x, 0.1, 0.2); F.rrelu(x, 0.1, 0.2, False, True); F.rrelu_(x, 0.1, 0.2);
        torch.rrelu(x); torch.rrelu(x, 0.1, 0.2, False); torch.rrelu_(x); nn.RReLU().eval()(x)""",
    "elu": """F.elu(x); F.elu(x, 2.0); F.elu(x, alpha=0.5, inplace=True); F.elu_(x); F.elu_(x, 2.0); nn.ELU(2.0)(x)""",
    "celu": """F.celu(x); F.celu(x, 2.0); F.celu(x, 2.0, True); F.celu_(x, 2.0); torch.celu(x, 2.0);
        torch.celu(x, alpha=2.0); torch.celu_(x, 2.0); torch.celu_(x); nn.CELU(2.0)(x)""",
    "selu": """F.selu(x); F.selu(x, inplace=True); F.selu_(x); torch.selu(x); torch.selu_(x); nn.SELU()(x)""",
    "gelu": """F.gelu(x); F.gelu(x, approximate="none"); F.gelu(input=x); nn.GELU()(x)""",
    "gelu_tanh": """F.gelu(x, approximate="tanh"); nn.GELU("tanh")(x)""",
    "silu": """F.silu(x); F.silu(x, inplace=True); nn.SiLU()(x)""",
    "mish": """F.mish(x); F.mish(x, inplace=True); nn.Mish()(x)""",
    "softplus": """F.softplus(x); F.softplus(x, 2, 1); F.softplus(x, beta=2); F.softplus(x, threshold=0.5);
        nn.Softplus(3, 2)(x)""",
    "tanh": """torch.tanh(x); torch.tanh(input=x); torch.tanh_(x); x.tanh(); x.tanh_(); F.tanh(x); nn.Tanh()(x)""",
    "sigmoid": """torch.sigmoid(x); torch.sigmoid_(x); x.sigmoid(); x.sigmoid_(); F.sigmoid(x); torch.special.expit(x);
        nn.Sigmoid()(x); x * torch.sigmoid(x)""",
    "sine": """torch.sin(x); torch.sin(input=x); torch.sin_(x); x.sin(); x.sin_()""",
    "log_sigmoid": """F.logsigmoid(x); nn.LogSigmoid()(x)""",
    "softsign": """F.softsign(x); nn.Softsign()(x)""",
    "hardtanh": """F.hardtanh(x); F.hardtanh(x, -2, 2); F.hardtanh(x, min_val=-2, inplace=True); F.hardtanh_(x);
        F.hardtanh_(x, -2.0, 1.5); nn.Hardtanh(-2, 0.5)(x)""",
    "hardsigmoid": """F.hardsigmoid(x); F.hardsigmoid(x, inplace=True); nn.Hardsigmoid()(x)""",
    "hardswish": """F.hardswish(x); F.hardswish(x, inplace=True); nn.Hardswish()(x)""",
    "hardshrink": """F.hardshrink(x); F.hardshrink(x, lambd=0.3); torch.hardshrink(x); x.hardshrink(0.3);
        nn.Hardshrink(0.3)(x)""",
    "softshrink": """F.softshrink(x); F.softshrink(x, 0.3); nn.Softshrink(0.3)(x)""",
    "threshold": """F.threshold(x, 0.1, 20.0); F.threshold(x, 0.1, 20.0, True); F.threshold_(x, 0.1, 20.0);
        torch.threshold(x, 0.1, 20.0); torch.threshold_(x, 0.1, 20.0); nn.Threshold(0.1, 20.0)(x)""",
}
EACH = [(name, spelling.strip()) for name, text in SPELLINGS.items() for spelling in text.split(";")]


@pytest.mark.parametrize(("name", "spelling"), EACH, ids=[spelling for _, spelling in EACH])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_spelling(name: str, spelling: str) -> None:
    def f(x: Tensor) -> Tensor:
        return eval(spelling, {"F": F, "nn": nn, "torch": torch, "SLOPES": SLOPES, "x": x.clone()})

    z = torch.linspace(-4.01, 3.99, 800, dtype=torch.float64)  # without 0, where clamp differs from relu
    with Watch() as watch:
        f(z)
    (activation,) = watch.seen
    assert activation.name == name
    if "x * " not in spelling:
        torch.testing.assert_close(slope_of(activation, z), autograd(f, z))


def test_spelling_with_out() -> None:
    z = torch.randn(3)
    with Watch() as watch:
        torch.tanh(z, out=torch.empty(3))
    assert [activation.name for activation in watch.seen] == ["tanh"]


NOT_ONE = """x.softmax(0); F.softmax(x, 0); x.log_softmax(0); F.log_softmax(x, 0); x.exp(); x.sqrt(); x.abs(); x.erf();
    torch.clamp(x, 0, 1); x.clamp(max=0); x.clamp(min=-1); x.clamp_min(1); torch.clamp(x, min=torch.zeros(3));
    torch.maximum(x, torch.zeros(3)); F.dropout(x); F.layer_norm(x, (3,)); F.normalize(x, dim=0); x.clamp(0, INF);
    F.linear(x, torch.ones(2, 3)); F.glu(x[:2]); nn.Identity()(x); x + 1"""


@pytest.mark.parametrize("spelling", [spelling.strip() for spelling in NOT_ONE.split(";")])
def test_not_an_activation(spelling: str) -> None:
    with Watch() as watch:
        eval(spelling, {"F": F, "nn": nn, "torch": torch, "INF": INF, "x": torch.rand(3)})
    assert watch.seen == []


def test_random_relu_in_training_has_the_mean_slope() -> None:
    with Watch() as watch:
        F.rrelu(torch.ones(3), 0.1, 0.3, training=True)
    z = torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(slope_of(watch.seen[0], z), torch.tensor([0.2, 1.0]))


@pytest.mark.parametrize(
    ("function", "kwargs"),
    [(F.softplus, {"beta": torch.tensor(2.0)}), (F.celu, {"alpha": torch.tensor(2.0)})],
)
def test_parameters_that_are_tensors_are_not_read(function: Any, kwargs: dict[str, Any]) -> None:
    assert from_function(function, (torch.randn(3),), kwargs) is None
    assert from_function(function, (torch.randn(3),), dict.fromkeys(kwargs, 2.0)) is not None


def test_equal_calls_share_one_activation() -> None:
    first = from_function(F.elu, (torch.randn(3),), {"alpha": 2.0, "inplace": True})
    assert first is from_function(F.elu, (torch.randn(2),), {"alpha": 2.0, "inplace": False})
    assert first is not from_function(F.elu, (torch.randn(3),), {"alpha": 3.0, "inplace": True})
    assert from_module(nn.GELU()) is from_module(nn.GELU())
    assert from_module(nn.GELU()) is not from_module(nn.GELU("tanh"))
