"""What an ablation tells of its losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_neurohealth.interventions import ablate
from lightning_neurohealth.interventions.ablated import students_t
from tests.interventions.classified import classes, mlp


class TestAblated:
    def test_interval_over_batches(self) -> None:
        torch.manual_seed(0)
        model, data = mlp(), classes(rows=24)
        found = ablate(model, data, progress=False)["0"]
        each = np.stack([ablate(model, [batch], progress=False)["0"].change.numpy() for batch in data])
        reach = stats.t.ppf(0.975, 2) * each.std(0, ddof=1) / np.sqrt(3)
        np.testing.assert_allclose(found.low.numpy(), each.mean(0) - reach, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.high.numpy(), each.mean(0) + reach, rtol=1e-3, atol=1e-6)

    def test_one_batch_has_no_interval(self) -> None:
        found = ablate(mlp(), classes(rows=8), progress=False)["0"]
        assert found.low.tolist() == [-np.inf] * 6
        assert not found.noticed.any()

    @pytest.mark.parametrize("seed", range(4))
    def test_of_a_dead_neuron_is_nothing(self, seed: int) -> None:
        """Whatever the order in which several copies are added up."""
        torch.manual_seed(seed)
        model = mlp()
        with torch.no_grad():
            model[0].bias[3] = -100
        found = ablate(model, classes(), progress=False)
        assert float(found["0"].change[3]) == 0
        assert (found["0"].low[3], found["0"].high[3]) == (0, 0)
        assert not found["0"].noticed[3]

    def test_rank_and_words(self) -> None:
        found = ablate(mlp(), classes(), progress=False)
        changes = [change for _, _, change in found.rank()]
        assert changes == sorted(changes)
        assert len(changes) == 11
        assert "0: " in str(found)


class TestStudentsT:
    @pytest.mark.parametrize("freedom", [1, 2, 3, 10, 100, 1000])
    def test_quantile(self, freedom: int) -> None:
        assert students_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)
