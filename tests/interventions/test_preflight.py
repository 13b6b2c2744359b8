from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lightning_neurohealth.interventions import assert_healthy, check_initialization, initialize
from tests.interventions.state import state
from tests.training import Learner, make_data, make_trainer


def classifier(depth: int = 2, act: Any = nn.ReLU, width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(m for i in range(depth) for m in (nn.Linear(width if i else 16, width), act())), nn.Linear(width, 10)
    )
    initialize(model, torch.randn(2, 16), seed=0)
    return model


def batch(rows: int = 128) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    return torch.randn(rows, 16, generator=draw), torch.randint(0, 10, (rows,), generator=draw)


class TestCheckInitialization:
    def test_numbers(self) -> None:
        model, (x, y) = classifier(), batch()
        found = check_initialization(model, (x, y))
        loss = F.cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, [model[0].weight, model[2].weight, model[4].weight])
        assert found.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        assert found.expected == pytest.approx(math.log(10))
        assert [b.gradient_rms for b in found.layers.values()] == pytest.approx(
            [float(g.square().mean().sqrt()) for g in gradients], rel=1e-4
        )
        a = model[:2](x).detach()
        assert found.layers["0"].activation_scale == pytest.approx(float(a.std(0).median()), rel=1e-4)
        assert found.layers["0"].init_scale == pytest.approx(
            float(model[0].weight.detach().std() / (2 / 16) ** 0.5), rel=1e-2
        )
        assert found.layers["0"].dead == float((a.amax(0) == 0).float().mean())
        assert list(found.layers) == ["0", "2", "4"]

    @pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU])
    def test_well_initialised_is_healthy(self, act: Any) -> None:
        model = classifier(depth=6, act=act)
        found = check_initialization(model, batch())
        assert found.healthy, str(found)
        assert_healthy(model, batch())

    def test_outputs_that_are_too_large(self) -> None:
        model = classifier()
        with torch.no_grad():
            model[4].weight *= 20
        (problem,) = check_initialization(model, batch()).problems
        assert "2.3 would be that of a network that knows nothing" in problem

    def test_dead_at_birth(self) -> None:
        model = classifier()
        with torch.no_grad():
            model[2].bias[:50] = -100
        found = check_initialization(model, batch())
        assert found.layers["2"].dead >= 50 / 64
        assert any("of the neurons of 2 are silent" in problem for problem in found.problems)

    @pytest.mark.parametrize("rows", [1, 64])
    def test_few_rows_and_rows_that_look_alike_kill_nobody(self, rows: int) -> None:
        found = check_initialization(classifier(depth=20, width=32), batch(rows))
        assert max(birth.dead for birth in found.layers.values()) > 0.35
        assert not any("silent" in problem for problem in found.problems)

    def test_gradients_that_do_not_arrive(self) -> None:
        model = classifier(depth=12, act=nn.Sigmoid)
        with torch.no_grad():
            for module in model:
                if isinstance(module, nn.Linear):
                    module.weight *= 0.2
        problems = check_initialization(model, batch()).problems
        assert any(re.search("the gradient of [024] is", problem) for problem in problems)

    def test_queries_and_keys_of_an_even_attention_are_no_fault(self) -> None:
        """Where all tokens look the same to it, attention passes next to nothing on to what it compares them by."""

        class Attention(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
                self.out = nn.Linear(16, 10)
                nn.init.normal_(self.query.weight, std=0.002)
                nn.init.normal_(self.key.weight, std=0.002)

            def forward(self, x: Tensor) -> Tensor:
                x = x.unsqueeze(1) + 0.02 * torch.ones(6, 1).cumsum(0)
                return self.out(F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x)).mean(1))

        torch.manual_seed(0)
        found = check_initialization(Attention(), batch())
        assert found.layers["query"].gradient_rms < 1e-4 * found.layers["out"].gradient_rms
        assert found.healthy, str(found)

    def test_activations_that_vanish(self) -> None:
        model = classifier(depth=8)
        with torch.no_grad():
            for module in model[:-1]:
                if isinstance(module, nn.Linear):
                    module.weight *= 0.2
        assert not check_initialization(model, batch()).healthy

    def test_targets_far_from_what_it_gives(self) -> None:
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
        x, y = batch()[0], 1000 + torch.randn(128, 1)
        found = check_initialization(model, (x, y))
        assert found.expected == pytest.approx(float(y.var(correction=0)), rel=1e-4)
        assert "times the variance of the targets" in found.problems[0]
        assert check_initialization(model, (x, y - 1000)).healthy

    @pytest.mark.parametrize(
        ("loss", "expected"),
        [
            (nn.CrossEntropyLoss(), math.log(10)),
            (lambda out, y: F.nll_loss(F.log_softmax(out, 1), y), math.log(10)),
            (lambda out, y: F.binary_cross_entropy_with_logits(out[:, 0], (y > 4).float()), math.log(2)),
            (lambda out, y: F.cross_entropy(out, y) + F.mse_loss(out[:, 0], y.float()), math.nan),
            (lambda out, y: out.square().mean(), math.nan),
            (lambda out, y: F.cross_entropy(out, y, reduction="sum"), math.nan),
        ],
    )
    def test_expected_loss(self, loss: Any, expected: float) -> None:
        found = check_initialization(classifier(), batch(), loss=loss).expected
        assert found == pytest.approx(expected, nan_ok=True)

    def test_not_finite(self) -> None:
        model = classifier()
        with torch.no_grad():
            model[2].weight[0, 0] = math.nan
        assert not check_initialization(model, batch()).healthy

    def test_lightning_module_by_its_own_step(self) -> None:
        learner = Learner(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
        x, y = next(iter(make_data()))
        found = check_initialization(learner, (x, y))
        assert found.loss == pytest.approx(float(F.mse_loss(learner(x), y).detach()), rel=1e-5)
        assert list(found.layers) == ["net.0", "net.2"]

    def test_inside_a_fit(self) -> None:
        class Checked(Learner):
            def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
                if batch_idx == 0:
                    before = state(self)
                    self.found = check_initialization(self, batch)
                    assert state(self) == before

        torch.manual_seed(0)
        learners = [kind(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))) for kind in (Checked, Learner)]
        learners[1].load_state_dict(learners[0].state_dict())
        for learner in learners:
            trainer: Trainer = make_trainer()
            trainer.fit(learner, make_data())
        assert learners[0].found.healthy
        for a, b in zip(learners[0].parameters(), learners[1].parameters(), strict=True):
            assert torch.equal(a, b)

    def test_leaves_everything_as_it_was(self) -> None:
        model = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 10)).eval()
        model(batch()[0]).sum().backward()
        before = state(model)
        check_initialization(model, batch())
        assert state(model) == before
        with pytest.raises(ZeroDivisionError):
            check_initialization(model, batch(), step=lambda model, batch: 1 / 0)
        assert state(model) == before

    def test_under_no_grad(self) -> None:
        with torch.no_grad():
            assert check_initialization(classifier(), batch()).layers["0"].gradient_rms > 0

    def test_words_and_table(self) -> None:
        found = check_initialization(classifier(), batch())
        assert str(found).splitlines()[1] == "  healthy"
        assert len(found.__rich__().rows) == 3

    @pytest.mark.parametrize(
        ("given", "error", "words"),
        [
            (torch.ones(3, 16), TypeError, "must be \\(input, target\\)"),
            ((torch.ones(3, 16), torch.ones(3, 4)), ValueError, "no usual loss"),
            ((torch.ones(3, 15), torch.ones(3).long()), RuntimeError, "shapes"),
        ],
    )
    def test_bad_batches(self, given: Any, error: type[Exception], words: str) -> None:
        model = classifier()
        before = state(model)
        with pytest.raises(error, match=words):
            check_initialization(model, given)
        assert state(model) == before

    def test_bad_models(self) -> None:
        with pytest.raises(ValueError, match="no gradient"):
            check_initialization(classifier().requires_grad_(False), batch())
        with pytest.raises(ValueError, match="no layer to watch"):
            check_initialization(nn.BatchNorm1d(16), batch())


class TestAssertHealthy:
    def test_names_the_faults(self) -> None:
        model = classifier()
        with torch.no_grad():
            model[4].weight *= 20
        with pytest.raises(AssertionError, match="Sequential is not fit to be trained: initial loss"):
            assert_healthy(model, batch())
