from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_neurohealth import Finding, Report, Severity
from lightning_neurohealth.interventions import ablate
from lightning_neurohealth.interventions.ablated import students_t
from lightning_neurohealth.rules.dead_neurons import DeadNeurons
from tests.interventions.state import state
from tests.training import Learner, Validated, make_data, make_health, make_trainer


class Multiplied(nn.Module):
    """Gives what ``inner`` gives, times a mask over the neurons, which lie on ``axis``."""

    def __init__(self, inner: nn.Module, axis: int, neurons: int) -> None:
        super().__init__()
        self.inner, self.axis, self.mask = inner, axis, torch.ones(neurons)

    def forward(self, *args: Any) -> Tensor:
        a = self.inner(*args)
        shape = [1] * a.dim()
        shape[self.axis] = -1
        return a * self.mask.view(shape)


def brute_force(model: nn.Module, path: str, axis: int, neurons: int, data: Any, loss: Any) -> np.ndarray:
    """Loss without each neuron minus loss with all, weighted by rows; ``path`` is what writes the activation."""
    model = copy.deepcopy(model).eval()
    masked = Multiplied(model.get_submodule(path), axis, neurons)
    model.set_submodule(path, masked)

    def total() -> float:
        losses = [(float(loss(model(x), y)), len(x)) for x, y in data]
        return sum(value * rows for value, rows in losses) / sum(rows for _, rows in losses)

    changes = []
    with torch.no_grad():
        for neuron in range(neurons):
            masked.mask = torch.ones(neurons)
            whole = total()
            masked.mask[neuron] = 0
            changes.append(total() - whole)
    return np.array(changes)


def mlp(act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), act(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 3)
    )


def classes(shape: tuple[int, ...] = (4,), rows: int = 20, batch: int = 8) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(rows, *shape, generator=draw), torch.randint(0, 3, (rows,), generator=draw)
    return list(zip(x.split(batch), y.split(batch), strict=True))


class TestAblate:
    @pytest.mark.parametrize("together", [1, 4, 16])
    @pytest.mark.parametrize(
        ("make", "shape", "layer", "path", "axis", "neurons"),
        [
            (mlp, (4,), "0", "1", 1, 6),
            (mlp, (4,), "2", "3", 1, 5),
            (lambda: mlp(nn.Sigmoid), (4,), "0", "1", 1, 6),
            (conv_net, (2, 5, 5), "0", "2", 1, 4),
        ],
        ids=["relu", "tanh", "sigmoid", "conv"],
    )
    def test_is_what_a_loop_over_neurons_gives(
        self, make: Any, shape: Any, layer: str, path: str, axis: int, neurons: int, together: int
    ) -> None:
        torch.manual_seed(0)
        model, data = make(), classes(shape)
        found = ablate(model, data, together=together, progress=False)
        expected = brute_force(model, path, axis, neurons, data, F.cross_entropy)
        np.testing.assert_allclose(found[layer].change.numpy(), expected, rtol=1e-4, atol=1e-6)
        assert found[layer].neurons.tolist() == list(range(neurons))
        assert np.abs(expected).max() > 1e-3
        assert (found.rows, found.batches) == (20, 3)

    def test_batches_its_forwards(self) -> None:
        one, many = (ablate(mlp(), classes(), together=k, progress=False) for k in (1, 16))
        assert one.forwards == 3 * (1 + 6 + 5)
        assert one.forwards > many.forwards >= 3 * (1 + 1 + 1)

    def test_functional_activations_and_second_calls(self) -> None:
        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.shared, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
                self.masks = {name: torch.ones(6) for name in ("first", "shared", "shared#2")}

            def forward(self, x: Tensor) -> Tensor:
                a = F.relu(self.first(x)) * self.masks["first"]
                a = torch.tanh(self.shared(a)) * self.masks["shared"]
                return self.last(torch.tanh(self.shared(a)) * self.masks["shared#2"])

        torch.manual_seed(0)
        model, data = Twice(), classes()
        found = ablate(model, data, progress=False)
        assert list(found) == list(model.masks)
        with torch.no_grad():
            losses = [sum(F.cross_entropy(model(x), y, reduction="sum") for x, y in data) / 20]
            for name in model.masks:
                for neuron in range(6):
                    model.masks[name] = torch.ones(6)
                    model.masks[name][neuron] = 0
                    loss = sum(F.cross_entropy(model(x), y, reduction="sum") for x, y in data) / 20
                    assert float(found[name].change[neuron]) == pytest.approx(float(loss - losses[0]), abs=1e-6)
                model.masks[name] = torch.ones(6)

    def test_memory_that_no_view_describes(self) -> None:
        """A sequence turned to (time, batch, features) before its ReLU has rows at odd strides."""

        class Turned(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc, self.act, self.out = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.out(self.act(self.fc(x).transpose(0, 1))).mean(0)

        torch.manual_seed(0)
        model, data = Turned(), classes((7, 4))
        found = ablate(model, data, progress=False)["fc"].change
        np.testing.assert_allclose(
            found.numpy(), brute_force(model, "act", 2, 6, data, F.cross_entropy), rtol=1e-4, atol=1e-6
        )

    def test_one_at_a_time_where_rows_of_a_batch_are_not_independent(self) -> None:
        class Mixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc, self.act, self.out = nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)

            def forward(self, x: Tensor) -> Tensor:
                a = self.act(self.fc(x))
                return self.out(a - a.mean(0))

        torch.manual_seed(0)
        model, data = Mixed(), classes()
        found = ablate(model, data, progress=False)["fc"].change
        np.testing.assert_allclose(
            found.numpy(), brute_force(model, "act", 1, 6, data, F.cross_entropy), rtol=1e-4, atol=1e-6
        )

    def test_one_at_a_time_where_the_first_axis_is_time(self) -> None:
        """Copies behind one another are later steps of one sequence there, and each reads all the earlier ones."""

        class Causal(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attend, self.act, self.out = nn.MultiheadAttention(4, 1), nn.Tanh(), nn.Linear(4, 3)

            def forward(self, x: Tensor) -> Tensor:
                past = nn.Transformer.generate_square_subsequent_mask(len(x))
                return self.out(self.act(self.attend(x, x, x, attn_mask=past)[0]))

        torch.manual_seed(0)
        model, data = Causal(), [(torch.randn(7, 5, 4), torch.randint(0, 3, (7, 5)))]
        found = ablate(model, data, progress=False)["attend.out_proj"].change
        expected = brute_force(model, "act", 2, 4, data, lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)

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

    def test_output_only_when_named(self) -> None:
        assert list(ablate(mlp(), classes(), progress=False)) == ["0", "2"]
        assert list(ablate(mlp(), classes(), layers=["4"], progress=False)) == ["4"]
        assert list(ablate(mlp(), classes(), neurons={"4": [0]}, progress=False)) == ["4"]

    def test_rank_and_words(self) -> None:
        found = ablate(mlp(), classes(), progress=False)
        changes = [change for _, _, change in found.rank()]
        assert changes == sorted(changes)
        assert len(changes) == 11
        assert "0: " in str(found)

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

    def test_shows_the_time_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        ablate(mlp(), classes())
        assert "Ablating 11 neurons or groups of 2 layers on 3 batches: about" in capsys.readouterr().out
        ablate(mlp(), (batch for batch in classes()), progress=False)
        assert capsys.readouterr().out == ""

    def test_halves_its_batches_where_memory_runs_out(self) -> None:
        class Small(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net, self.largest = mlp(), 0

            def forward(self, x: Tensor) -> Tensor:
                if len(x) > 20:
                    raise torch.OutOfMemoryError("no more")
                self.largest = max(self.largest, len(x))
                return self.net(x)

        torch.manual_seed(0)
        model, data = Small(), classes(rows=8)
        found = ablate(model, data, progress=False)
        assert model.largest == 16
        np.testing.assert_allclose(
            found["net.0"].change.numpy(), ablate(model.net, data, progress=False)["0"].change.numpy(), atol=1e-6
        )

    @pytest.mark.parametrize("training", [True, False])
    def test_leaves_everything_as_it_was(self, training: bool) -> None:
        model = conv_net().train(training)
        model[3].eval()
        x = torch.randn(8, 2, 5, 5)
        model(x).sum().backward()
        before = state(model)
        ablate(model, DataLoader(TensorDataset(x, torch.zeros(8).long()), 4, shuffle=True), progress=False)
        assert state(model) == before

    def test_puts_back_buffers_that_a_forward_replaces(self) -> None:
        class Averaged(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = mlp()
                self.register_buffer("mean", torch.zeros(4))
                self.register_buffer("last", None)

            def forward(self, x: Tensor) -> Tensor:
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
                self.last = x
                return self.net(x)

        model = Averaged()
        mean = model.mean
        ablate(model, classes(), neurons=1, progress=False)
        assert model.mean is mean
        assert (mean == 0).all()
        assert model.last is None

    def test_restores_after_an_error(self) -> None:
        model, calls = conv_net(), iter(range(3))

        def failing(model: nn.Module, batch: Any) -> Tensor:
            next(calls)
            model.train()
            return F.cross_entropy(model(batch[0]), batch[1])

        before = state(model)
        with pytest.raises(StopIteration):
            ablate(model, classes((2, 5, 5)), step=failing, progress=False)
        assert state(model) == before

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"neurons": {"0": [6]}}, ValueError, "6 is out of range; 0 has neurons 0 to 5"),
            ({"neurons": {"0": [-1]}}, ValueError, "out of range"),
            ({"neurons": {"0": [1.5]}}, TypeError, "no index"),
            ({"neurons": {"0": [[]]}}, ValueError, "a group is empty"),
            ({"neurons": {"0": 3}}, TypeError, "list of indices"),
            ({"neurons": {"fc9": [0]}}, ValueError, "no layer is called 'fc9'"),
            ({"neurons": 0}, ValueError, "at least 1"),
            ({"neurons": True}, TypeError, "must be"),
            ({"neurons": "some"}, TypeError, "must be"),
            ({"neurons": "suspects"}, ValueError, "needs a report"),
            ({"layers": ["fc*"]}, ValueError, "no layer is called 'fc\\*'; there are 0, 2, 4"),
            ({"layers": "0"}, TypeError, "list of glob patterns"),
            ({"together": 0}, ValueError, "together"),
            ({"max_batches": 1.5}, TypeError, "max_batches"),
            ({"loss": 3}, TypeError, "must be a function"),
            ({"loss": F.mse_loss, "step": print}, ValueError, "both given"),
            ({"step": lambda model, batch: model(batch[0])}, TypeError, "as one number"),
        ],
    )
    def test_bad_arguments(self, options: dict[str, Any], error: type[Exception], words: str) -> None:
        model = mlp()
        before = state(model)
        with pytest.raises(error, match=words):
            ablate(model, classes(), progress=False, **options)
        assert state(model) == before

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


class TestStudentsT:
    @pytest.mark.parametrize("freedom", [1, 2, 3, 10, 100, 1000])
    def test_quantile(self, freedom: int) -> None:
        assert students_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)
