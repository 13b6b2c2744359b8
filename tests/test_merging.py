"""The states of a window on the host stand in the same memory each time; nothing that is kept is made of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor
from lightning_neurohealth.counting.ledger import Ledger
from lightning_neurohealth.counting.merging import Merger, Packing, _runs
from lightning_neurohealth.measures import all_measures
from lightning_neurohealth.native import kernel
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics.moments import Moments
from tests.measures.harness import layer


def window(net: nn.Module, monitor: Monitor, optimizer: torch.optim.Optimizer, scale: float) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        with monitor:
            loss = (net(torch.randn(8, 4)) * scale).square().mean()
            loss.backward()
            monitor.record_loss(loss)
        optimizer.step()


@pytest.mark.parametrize("measures", ["standard", "full"])
def test_a_report_keeps_its_numbers_when_the_next_window_closes(measures: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    monitor = Monitor(net, every_n_steps=1, window="epoch", measures=measures)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    window(net, monitor, optimizer, 1.0)
    monitor.close()
    window(net, monitor, optimizer, 2.0)
    second = monitor.close()  # the first to be read from memory that stays
    assert second is not None
    kept = {(name, m): value.clone() for name, of in second.layers.items() for m, value in of.items()}
    run = {m: value.clone() for m, value in second.run.items()}
    window(net, monitor, optimizer, 30.0)
    assert monitor.close() is not None
    for (name, measure), value in kept.items():
        torch.testing.assert_close(second[name][measure], value, rtol=0, atol=0, equal_nan=True)
    for measure, value in run.items():
        torch.testing.assert_close(second.run[measure], value, rtol=0, atol=0, equal_nan=True)
    monitor.remove()


def sums(ledger: Ledger) -> list[Tensor]:
    twins, _ = ledger.merged()
    return [statistic.sums for book in twins.values() for statistic in book.get(Signal.ACTIVATION, ())]


def test_states_that_are_other_tensors_now_are_found() -> None:
    ledger, of = Ledger([]), layer(3, nn.ReLU())
    ledger.wanted = {Signal.ACTIVATION: [Moments]}
    for number in (1.0, 2.0):
        ledger.take(of, Signal.ACTIVATION, torch.full((5, 3, 1), number))
        ledger.commit()
        assert [t.tolist() for t in sums(ledger)] == [[5.0 * number] * 3]
        ledger.reset()
    statistic = ledger.books[of][Signal.ACTIVATION][0]
    statistic.load({"sums": torch.full((3,), 7.0, dtype=torch.float64)})
    assert [t.tolist() for t in sums(ledger)] == [[7.0] * 3]
    newcomer = layer(2, nn.ReLU())
    newcomer.name = "late"
    ledger.take(newcomer, Signal.ACTIVATION, torch.ones(4, 2, 1))
    ledger.commit()
    assert sorted(t.tolist() for t in sums(ledger)) == [[4.0] * 2, [7.0] * 3]


def test_what_lies_together_in_memory_is_sent_together() -> None:
    ledger = Ledger(all_measures().values(), fused=True)
    for name, width in (("a", 3), ("b", 5)):
        of = layer(width, nn.Tanh())
        of.name = name
        for signal in (Signal.ACTIVATION, Signal.PREACTIVATION, Signal.ACTIVATION_GRADIENT, Signal.WEIGHT):
            x = torch.randn(7, width, 1)
            route = ledger.route(of, signal)
            if route is None or not ledger.native.take(route, x, None, 0, 1.0, step=0):
                ledger.take(of, signal, x, rest=True)
    ledger.commit()
    shelf = Merger(ledger).shelf
    shelf.agree(alone=True)
    packing = Packing(shelf.agreed, shelf, lambda s: {name: getattr(s, name) for name in s.kinds})
    for kind, entries in packing.entries.items():
        states = [state.reshape(-1) for _, _, state in entries]
        assert torch.equal(torch.cat(packing.flat[kind]), torch.cat(states))
    fewer = len(packing.flat["sum"]) < 0.7 * len(packing.entries["sum"])
    assert fewer == (kernel() is not None)


def test_neighbours_of_different_memory_stay_apart() -> None:
    both = torch.arange(6.0)
    for tensors in ([both[:2], both[3:]], [both[3:], both[:3]], [torch.ones(2), torch.zeros(2)]):
        assert [run.tolist() for run in _runs(tensors)] == [tensor.tolist() for tensor in tensors]
    assert [run.tolist() for run in _runs([both[:2].view(2, 1), both[2], both[3:]])] == [both.tolist()]
