"""Which neurons are ablated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_neurohealth import Finding, Report, Severity
from lightning_neurohealth.interventions import ablate
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from tests.interventions.classified import classes, mlp
from tests.training import Validated, make_data, make_health, make_trainer


class TestSelection:
    def test_groups(self) -> None:
        torch.manual_seed(0)
        model, data = mlp(), classes(rows=8)
        found = ablate(model, data, neurons={"0": [[0, 1, 2, 3, 4, 5], [2]]}, progress=False)["0"]
        a = torch.zeros(8, 6)
        with torch.no_grad():
            rest = model[2:]
            expected = F.cross_entropy(rest(a), data[0][1]) - F.cross_entropy(model(data[0][0]), data[0][1])
        assert found.groups == ((0, 1, 2, 3, 4, 5), (2,))
        assert float(found.change[0]) == pytest.approx(float(expected), abs=1e-6)
        with pytest.raises(ValueError, match="in groups"):
            _ = found.neurons

    def test_a_number_of_neurons_of_each_layer(self) -> None:
        draws = [ablate(mlp(), classes(), neurons=2, seed=seed, progress=False) for seed in (0, 0, 1, 2)]
        assert [len(layer.groups) for layer in draws[0].values()] == [2, 2]
        assert draws[0]["0"].groups == draws[1]["0"].groups
        assert len({draw["0"].groups for draw in draws}) > 1

    def test_suspects(self) -> None:
        findings = [
            Finding("dead_neurons", Severity.SERIOUS, "0", neurons=(4, 1)),
            Finding("dormant_neurons", Severity.SERIOUS, "0", neurons=(4,)),
            Finding("plateau", Severity.WARNING),
        ]
        report = Report(0, 0, 0, 1, 1, {}, findings=findings)
        found = ablate(mlp(), classes(), neurons="suspects", report=report, progress=False)
        assert {name: layer.groups for name, layer in found.items()} == {"0": ((1,), (4,))}

    def test_output_only_when_named(self) -> None:
        assert list(ablate(mlp(), classes(), progress=False)) == ["0", "2"]
        assert list(ablate(mlp(), classes(), layers=["4"], progress=False)) == ["4"]
        assert list(ablate(mlp(), classes(), neurons={"4": [0]}, progress=False)) == ["4"]

    def test_suspects_of_a_trainer(self) -> None:
        net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1))
        with torch.no_grad():
            net[0].bias[2] = -100
        model, health = Validated(net), make_health(rules=[DeadNeurons(windows=1, grace=0)])
        trainer = make_trainer(health, max_epochs=2)
        trainer.fit(model, make_data(), make_data())
        found = ablate(model, trainer, neurons="suspects", progress=False)
        assert list(found) == ["net.0"]
        assert (2,) in found["net.0"].groups
