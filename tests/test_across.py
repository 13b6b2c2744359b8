"""Numbers by measure, and earlier windows, are put together when they are asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.across import Across, Earlier
from lightning_neurohealth.window import Past


class Watched(dict[str, Tensor]):
    """Counts who looks into it."""

    looks = 0

    def __contains__(self, name: object) -> bool:
        self.looks += 1
        return super().__contains__(name)


def test_is_a_mapping_of_measures_to_names() -> None:
    on_rate, norm, loss = torch.ones(3), torch.tensor(2.0), torch.zeros(4)
    layers, parameters = {"fc1": {"on_rate": on_rate}, "fc2": {}}, {"fc1.weight": {"gradient_norm": norm}}
    across = Across({"train_loss": loss, "gradient_norm": loss}, (layers, parameters))
    assert across["on_rate"] == {"fc1": on_rate}
    assert across["gradient_norm"] == {"fc1.weight": norm}  # before that of the run
    assert across["train_loss"] is loss
    assert sorted(across) == ["gradient_norm", "on_rate", "train_loss"]
    assert len(across) == 3
    assert "slope" not in across
    with pytest.raises(KeyError, match="slope"):
        across["slope"]


def test_a_measure_is_looked_up_once() -> None:
    layer = Watched(on_rate=torch.ones(3))
    across = Across({}, ({"fc1": layer},))
    for _ in range(5):
        assert across["on_rate"]["fc1"] is layer["on_rate"]
        assert across.get("slope") is None
    assert layer.looks == 2


def test_earlier_windows_are_found_once_and_only_if_somebody_looks() -> None:
    found: list[int] = []

    def find() -> list[Past]:
        found.append(1)
        return [Past(window, {}) for window in ("first", "second", "third")]  # type: ignore[arg-type]

    earlier = Earlier(find)
    assert not found
    assert [past.window for past in earlier] == ["first", "second", "third"]
    assert (earlier[-1].window, len(earlier), [past.window for past in earlier[1:]]) == (
        "third",
        3,
        ["second", "third"],
    )
    assert len(found) == 1
