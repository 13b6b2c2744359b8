"""Ablation gives what a loop over neurons would, and sooner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neurohealth.interventions import ablate
from tests.interventions.classified import brute_force, classes, conv_net, mlp
from tests.interventions.state import state


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
