from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.interventions import ablate
from lightning_neurohealth.interventions.ablated import Ablation, LayerAblation
from lightning_neurohealth.interventions.agreement import agreement, correlation
from tests.interventions.test_fitness import report_of, watched


def ablation_of(**changes: list[float]) -> Ablation:
    layers = {
        name: LayerAblation(tuple((i,) for i in range(len(values))), torch.tensor(values), *torch.zeros(2, len(values)))
        for name, values in changes.items()
    }
    return Ablation(layers, 1.0, 1, 1, 1, 0.0)


class TestAgreement:
    def test_is_a_rank_correlation(self) -> None:
        scores, changes = [1.0, 2.0, 2.0, 7.0, 3.0], [0.1, 0.2, 0.5, 0.4, -0.3]
        found = agreement(report_of(a={"taylor": scores}), ablation_of(a=changes))
        expected = stats.spearmanr(scores, changes).statistic
        assert found["taylor"] == pytest.approx({"a": expected, "all": expected}, abs=1e-5)

    def test_over_layers(self) -> None:
        report = report_of(a={"taylor": [1.0, 2.0, 3.0]}, b={"taylor": [6.0, 5.0, 4.0]}, c={"taylor": [0.0]})
        found = agreement(report, ablation_of(a=[1.0, 2.0, 3.0], b=[4.0, 5.0, 6.0]))["taylor"]
        assert found == pytest.approx({"a": 1.0, "b": -1.0, "all": 1 - 6 * 8 / (6 * 35)}, abs=1e-5)

    def test_tells_which_score_to_trust(self) -> None:
        net, x, y, report = watched(hidden=24, steps=60)
        found = agreement(report, ablate(net, [(x, y)], progress=False))
        assert found["taylor"]["0"] > 0.5
        assert found[found.best]["all"] == max(layers["all"] for layers in found.values())
        assert str(found).split()[0] == found.best

    def test_only_the_ablated_neurons_count(self) -> None:
        report = report_of(a={"taylor": [9.0, 1.0, 2.0, 3.0]})
        ablation = Ablation(
            {"a": LayerAblation(((1,), (2,), (3,)), torch.tensor([1.0, 2.0, 3.0]), *torch.zeros(2, 3))}, 1, 1, 1, 1, 0
        )
        assert agreement(report, ablation)["taylor"]["a"] == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [1.0, 2.0]), ([1.0] * 4, [1.0, 2.0, 3.0, 4.0]), ([], [])])
    def test_says_nothing_of_too_little(self, a: list[float], b: list[float]) -> None:
        assert math.isnan(correlation(torch.tensor(a), torch.tensor(b)))

    def test_bad_input(self) -> None:
        report = report_of(a={"taylor": [1.0, 2.0]})
        with pytest.raises(ValueError, match="share no layer"):
            agreement(report, ablation_of(b=[1.0, 2.0]))
        with pytest.raises(ValueError, match="must be one of"):
            agreement(report, ablation_of(a=[1.0, 2.0]), ["strength"])
        with pytest.raises(KeyError, match="no agreement of 'weight'"):
            agreement(report, ablation_of(a=[1.0, 2.0]))["weight"]

    def test_of_the_callback(self) -> None:
        health = NeuronHealth()
        with pytest.raises(ValueError, match="no report yet"):
            health.agreement(ablation_of(a=[1.0, 2.0, 3.0]))
        health.reports = [report_of(a={"taylor": [1.0, 2.0, 3.0]})]
        assert health.agreement(ablation_of(a=[3.0, 2.0, 1.0]), ["taylor"])["taylor"]["all"] == pytest.approx(
            -1, abs=1e-5
        )
