"""Numbers that wait are what they were when they came."""

from __future__ import annotations

import pytest
import torch

from lightning_neurohealth.counting.strip import MANY, Strip

CPU = torch.device("cpu")


@pytest.mark.parametrize("on_host", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_changes_later_is_kept(on_host: bool, dtype: torch.dtype) -> None:
    strip, x = Strip(CPU, on_host), torch.ones((), dtype=dtype)
    for step in range(MANY):
        assert not strip.full
        strip.add(x, step, step // 2)
        x.add_(0.5)
    assert strip.full
    assert strip.values().tolist() == [1 + step / 2 for step in range(MANY)]
    assert (strip.steps, strip.places) == ([*range(MANY)], [step // 2 for step in range(MANY)])


@pytest.mark.parametrize("on_host", [True, False])
def test_any_shape_and_type(on_host: bool) -> None:
    strip = Strip(CPU, on_host)
    for x in (torch.tensor([[1.5]]), torch.tensor(2), torch.tensor(0.1), torch.tensor(3.0, requires_grad=True) * 2):
        strip.add(x, 0, 0)
    assert strip.values().dtype == torch.float64
    torch.testing.assert_close(strip.values(), torch.tensor([1.5, 2, torch.tensor(0.1).double(), 6]).double())


def test_one_mixture() -> None:
    strip = Strip(CPU, on_host=True)
    strip.add(torch.tensor(1.0), 0, 0)
    strip.on_host = False
    strip.add(torch.tensor(2.0, dtype=torch.float64), 1, 1)
    assert strip.values().tolist() == [1.0, 2.0]
