from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth import Monitor, Report
from lightning_neurohealth.interventions.fitness import SCORES, Fitness, fitness
from lightning_neurohealth.record import LayerReport

TAYLOR = Fitness("taylor", {"a": torch.tensor([3.0, 1.0, 2.0]), "b": torch.tensor([0.5, 40.0])})


def report_of(**layers: dict[str, Any]) -> Report:
    tensors = {
        name: LayerReport(name, 2, {measure: torch.tensor(values) for measure, values in measures.items()})
        for name, measures in layers.items()
    }
    return Report(0, 0, 0, 1, 1, tensors)


def watched(hidden: int = 6, steps: int = 0) -> tuple[nn.Sequential, Tensor, Tensor, Report]:
    """A net, its data, and what a monitor reports of one step after some of Adam."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    x = torch.randn(64, 4)
    y = (x @ torch.randn(4, 3)).argmax(1)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    monitor = Monitor(net, every_n_steps=1, window="epoch", measures="full", rules=[])
    with monitor:
        F.cross_entropy(net(x), y).backward()
    report = monitor.close()
    monitor.remove()
    assert report is not None
    return net, x, y, report


class TestFitness:
    def test_of_a_real_report(self) -> None:
        net, x, y, report = watched()
        a = net[1](net[0](x)).detach().requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(net[2](a), y), a)
        a = a.detach()
        expected = {
            "taylor": (g * a).abs().mean(0),
            "gradient": g.abs().mean(0),
            "activation": a.abs().mean(0),
            "variance": a.var(0, correction=0),
            "weight": net[0].weight.norm(dim=1),
            "outgoing_weight": net[2].weight.norm(dim=0),
        }
        for score, values in expected.items():
            found = fitness(report, score)["0"]
            np.testing.assert_allclose(found.numpy(), values.detach().numpy(), rtol=1e-4, atol=1e-7, err_msg=score)

    def test_composite(self) -> None:
        report = report_of(a={"weight_norm": [2.0, 4.0], "fisher": [9.0, 1.0], "activation_magnitude": [0.0, 0.0]})
        assert fitness(report, "composite")["a"].tolist() == pytest.approx([0.4 * 0.5 + 0.4, 0.4 + 0.4 / 3])
        weights = {"weight": 1.0, "gradient": 0.0, "activation": 5.0}
        assert fitness(report, "composite", **weights)["a"].tolist() == pytest.approx([0.5, 1.0])

    @pytest.mark.parametrize("score", SCORES)
    def test_every_score_comes_from_a_measure_or_is_refused(self, score: str) -> None:
        needs = SCORES[score][0]
        report = report_of(a={need: [1.0, 2.0] for need in needs}, b={})
        assert list(fitness(report, score)) == ["a"]
        with pytest.raises(ValueError, match="ask for it with"):
            fitness(report_of(a={}), score)

    def test_rank_within_one_unit(self) -> None:
        assert TAYLOR.rank() == [("b", 0, 0.5), ("a", 1, 1.0), ("a", 2, 2.0), ("a", 0, 3.0), ("b", 1, 40.0)]

    def test_rank_over_layers_of_different_scale(self) -> None:
        weights = Fitness(
            "weight", {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([30.0, 40.0]), "c": torch.zeros(1)}
        )
        size = math.sqrt(12.5)
        assert [(layer, neuron) for layer, neuron, _ in weights.rank()] == [
            ("c", 0),
            ("a", 0),
            ("b", 0),
            ("a", 1),
            ("b", 1),
        ]
        assert weights.rank()[1][2] == pytest.approx(3 / size)

    def test_rank_puts_nan_last(self) -> None:
        ranked = Fitness("taylor", {"a": torch.tensor([math.nan, 2.0, 1.0])}).rank()
        assert [neuron for _, neuron, _ in ranked] == [2, 1, 0]

    def test_summary(self) -> None:
        summary = TAYLOR.summary()["a"]
        assert summary == pytest.approx({"mean": 2.0, "max": 3.0, "variance": np.var([3.0, 1.0, 2.0])})

    def test_dying_by_quantile(self) -> None:
        assert TAYLOR.dying(quantile=0.4)["a"].tolist() == [False, True, False]
        assert TAYLOR.dying(quantile=0.4)["b"].tolist() == [False, False]
        assert TAYLOR.dying(quantile=1.0).count == 5

    def test_dying_takes_no_more_than_the_share_where_scores_are_equal(self) -> None:
        equal = Fitness("taylor", {"a": torch.ones(10)})
        assert equal.dying(quantile=0.25)["a"].nonzero().flatten().tolist() == [0, 1]

    def test_dying_below(self) -> None:
        masks = TAYLOR.dying(below=1.5)
        assert {name: mask.tolist() for name, mask in masks.items()} == {"a": [False, True, False], "b": [True, False]}

    def test_outputs_are_not_dying(self) -> None:
        _, _, _, report = watched()
        assert list(fitness(report, "weight").dying(below=1e9)) == ["0"]

    @pytest.mark.parametrize("choice", [{}, {"quantile": 0.1, "below": 1.0}, {"quantile": 1.5}, {"quantile": -0.1}])
    def test_bad_choices(self, choice: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="dying"):
            TAYLOR.dying(**choice)

    def test_bad_scores_and_reports(self) -> None:
        with pytest.raises(ValueError, match="must be one of 'taylor'"):
            fitness(report_of(a={}), "strength")
        with pytest.raises(ValueError, match="no window has closed"):
            fitness(None)
        with pytest.raises(KeyError, match="no taylor of 'z'; there are a, b"):
            TAYLOR["z"]
