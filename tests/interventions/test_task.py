"""What is ablated on: a model, its loss and its batches, and what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth.interventions import ablate
from tests.interventions.classified import brute_force, classes, mlp
from tests.interventions.state import state
from tests.training import Learner, Validated, make_data, make_trainer


class TestTask:
    def test_lightning_module_by_its_own_step(self) -> None:
        torch.manual_seed(0)
        model, data = Learner(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))), make_data()
        found = ablate(model, data, progress=False)["net.0"]
        np.testing.assert_allclose(
            found.change.numpy(), brute_force(model, "net.1", 1, 6, data, F.mse_loss), rtol=1e-4, atol=1e-6
        )

    def test_validation_data_of_a_trainer_after_its_fit(self) -> None:
        model, trainer = Validated(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))), make_trainer()
        trainer.fit(model, make_data(), make_data(rows=12))
        before = state(model)
        assert ablate(model, trainer, progress=False).rows == 12
        assert state(model) == before

    def test_mapping_batches(self) -> None:
        class Answers(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = mlp()

            def forward(self, x: Tensor, labels: Tensor) -> Any:
                return type("Output", (), {"loss": F.cross_entropy(self.net(x), labels)})

        torch.manual_seed(0)
        model, data = Answers(), classes()
        found = ablate(model, [{"x": x, "labels": y} for x, y in data], progress=False)
        plain = ablate(model.net, data, progress=False)
        np.testing.assert_allclose(found["net.0"].change.numpy(), plain["0"].change.numpy(), rtol=1e-4, atol=1e-7)

    def test_passes_over_a_batch_without_rows(self) -> None:
        torch.manual_seed(0)
        model, data = mlp(), classes()
        found = ablate(model, [data[0], (data[0][0][:0], data[0][1][:0]), *data[1:]], progress=False)
        assert torch.equal(found["0"].change, ablate(model, data, progress=False)["0"].change)

    def test_a_generator_and_a_limit(self) -> None:
        assert ablate(mlp(), (batch for batch in classes()), max_batches=2, progress=False).batches == 2

    @pytest.mark.parametrize(
        ("data", "error", "words"),
        [
            ([], ValueError, "gives no batch"),
            ([(torch.ones(0, 4), torch.ones(0))], ValueError, "or none with a row"),
            (5, TypeError, "data is a int"),
            (None, TypeError, "data is None; pass a DataLoader"),
            (torch.ones(3, 4), TypeError, "data is a Tensor"),
            ([torch.ones(3, 4)], TypeError, "must be \\(input, target\\), got a Tensor"),
            ([(torch.ones(3, 4), torch.ones(5))], ValueError, "no usual loss"),
            ([{"x": torch.ones(3, 4)}], TypeError, "unexpected keyword"),
        ],
    )
    def test_bad_data(self, data: Any, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            ablate(mlp(), data, progress=False)

    def test_bad_models(self) -> None:
        with pytest.raises(TypeError, match="must be an"):
            ablate(lambda x: x, classes(), progress=False)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="several devices \\(cpu, meta\\)"):
            ablate(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3, device="meta")), classes(), progress=False)
        with pytest.raises(ValueError, match="on the meta device, where there are no numbers"):
            ablate(mlp().to("meta"), classes(), progress=False)
        with pytest.raises(ValueError, match="no shape yet"):
            ablate(nn.Sequential(nn.LazyLinear(3)), classes(), progress=False)
        with pytest.raises(ValueError, match="no parameters"):
            ablate(nn.ReLU(), classes(), progress=False)
        with pytest.raises(ValueError, match="no hidden layer"):
            ablate(nn.Linear(4, 3), classes(), progress=False)

    def test_refuses_to_optimize(self) -> None:
        model = Learner(mlp())
        model.automatic_optimization = False
        with pytest.raises(ValueError, match="would change the model"):
            ablate(model, classes(), progress=False)
