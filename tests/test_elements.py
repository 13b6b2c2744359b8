"""Which elements of gradients are looked at."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import elements
from lightning_neurohealth.elements import of_gradients
from tests.callback.test_several_optimizers import Adversarial
from tests.measures.gradients import GRADIENTS, of_each, reported
from tests.training import MLP, Learner, fit, make_data

CPU = torch.device("cpu")
NAMES = ("gradient_mean", "gradient_std", "gradient_min", "gradient_max")


def of(*gradients: Tensor | None) -> np.ndarray:
    return of_gradients(gradients, {}, CPU).numpy()


def by_hand(*gradients: Tensor) -> np.ndarray:
    rows = [g.double().flatten().numpy() for g in gradients]
    return np.array([[r.sum(), (r * r).sum(), r.min(), r.max()] for r in rows]).T


@pytest.mark.parametrize(("few", "cached"), [(1, 1), (1, 4), (6, 100), (8, 100), (1 << 15, 1 << 16)])
def test_however_few_are_looked_at_together(few: int, cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "FEW", few)
    monkeypatch.setattr(elements, "CACHED", cached)
    gradients = [g[:6] if g.dim() else g for g in GRADIENTS.values()] * 3
    gradients = [g[..., :3] if g.dim() > 1 else g for g in gradients]
    np.testing.assert_allclose(of(*gradients), by_hand(*gradients), rtol=1e-6, atol=1e-6)


def test_a_large_one_is_precise_to_five_digits() -> None:
    large = torch.randn(3_000_001, generator=torch.Generator().manual_seed(1)) + 0.01
    for gradient in (large, large.bfloat16(), 1e-12 * large, 1e9 * large):
        sums, *rest = of(gradient)
        exact, *expected = by_hand(gradient)
        np.testing.assert_allclose(rest, expected, rtol=5e-6)
        assert abs(sums - exact) < 5e-6 * float(gradient.double().abs().sum())


def test_nothing_is_nothing() -> None:
    assert of().shape == (4, 0)
    assert of(None, torch.zeros(0, 3), None).tolist() == [[0.0] * 3] * 4


def test_none_and_empty_ones_among_others() -> None:
    found = of(None, torch.tensor([2.0, -1.0]), torch.zeros(0), torch.tensor(3.0))
    assert found.T.tolist() == [[0] * 4, [1, 5, -1, 2], [0] * 4, [3, 9, 3, 3]]


def test_what_a_sparse_gradient_does_not_hold_is_0() -> None:
    make = functools.partial(torch.sparse_coo_tensor, check_invariants=True)
    some = make([[1, 1, 3]], [[1.0, 2.0], [3.0, 4.0], [5.0, 5.0]], (4, 2))
    all_ = make([[0, 1]], [[1.0, 2.0], [3.0, 4.0]], (2, 2))
    none = make(torch.zeros(1, 0), torch.zeros(0, 2), (4, 2))
    below = make([[2]], [[-1.0, -2.0]], (4, 2))
    np.testing.assert_allclose(of(some, all_, none, below), by_hand(*(g.to_dense() for g in (some, all_, none, below))))


def test_of_a_complex_gradient_both_parts_are_elements() -> None:
    gradient = torch.tensor([1 + 2j, -3 + 0.5j, 0j])
    parts = np.array([1, 2, -3, 0.5, 0, 0])
    report = reported([[gradient]])
    expected = [parts.mean(), parts.std(), parts.min(), parts.max()]
    np.testing.assert_allclose([of_each(name, report)[0] for name in NAMES], expected)
    assert of(gradient.conj()).T.tolist()[0][2:] == [-3, 1]


def test_gradients_stay_what_they_are() -> None:
    gradients = [g.clone() for g in GRADIENTS.values()]
    of(*gradients)
    assert all(torch.equal(a, b) for a, b in zip(gradients, GRADIENTS.values(), strict=True))


def test_gradients_that_have_a_graph_of_their_own() -> None:
    gradient = torch.ones(3, requires_grad=True) * 2
    assert not of_gradients([gradient], {}, CPU).requires_grad


def test_a_step_without_a_gradient_is_one_of_zeros() -> None:
    """As for ``gradient_norm``."""
    gradient = torch.tensor([1.0, 3.0])
    report = reported([[gradient, None], [None, None]], like=[gradient, gradient])
    found = {name: of_each(name, report) for name in NAMES}
    assert found["gradient_mean"] == [1, 0]
    assert found["gradient_std"] == [pytest.approx(np.std([1, 3, 0, 0])), 0]
    assert (found["gradient_min"], found["gradient_max"]) == ([0, 0], [3, 0])


def test_frozen_and_empty_parameters() -> None:
    report = reported([[torch.ones(2), torch.zeros(0, 3)]])
    assert [of_each(name, report) for name in NAMES] == [[1, 0], [0, 0], [1, 0], [1, 0]]


# In a Trainer


class Recorder(Learner):
    """Notes the gradients as the user could, before they are clipped."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net, lr=0.0)
        self.seen: dict[str, list[Tensor]] = {}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        for name, parameter in self.named_parameters():
            self.seen.setdefault(name, []).append(parameter.grad.detach().clone())


@pytest.mark.parametrize(
    ("batch", "options"),
    [
        (16, {}),
        (8, {"accumulate_grad_batches": 2}),
        (16, {"gradient_clip_val": 1e-3}),
        (16, {"precision": "bf16-true"}),
    ],
    ids=["plain", "accumulated", "clipped", "bf16"],
)
def test_are_those_that_the_optimizer_would_get_unclipped(batch: int, options: dict[str, Any]) -> None:
    model = Recorder(MLP())
    report = fit(model, make_data(rows=64, batch=batch), measures=["standard", *NAMES], **options).report
    assert len(model.seen) == 4
    for name, gradients in model.seen.items():
        values = torch.stack(gradients).double().numpy()
        assert len(values) == 4
        found = [float(report.parameters[name][measure]) for measure in NAMES]
        np.testing.assert_allclose(found, [values.mean(), values.std(), values.min(), values.max()], rtol=1e-9)
    assert report["net.fc1"]["gradient_max"] == report.parameters["net.fc1.weight"]["gradient_max"]


def test_of_two_optimizers_each_has_its_own() -> None:
    class Noted(Adversarial):
        seen: dict[str, list[Tensor]]

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for name, parameter in self.named_parameters():
                if id(parameter) in mine:
                    self.seen.setdefault(name, []).append(parameter.grad.detach().clone())

    model = Noted()
    model.seen = {}
    report = fit(model, measures=list(NAMES), rules=[]).report
    for name, gradients in model.seen.items():
        values = torch.stack(gradients).double().numpy()
        found = [float(report.parameters[name][measure]) for measure in NAMES]
        np.testing.assert_allclose(found, [values.mean(), values.std(), values.min(), values.max()], rtol=1e-9)
