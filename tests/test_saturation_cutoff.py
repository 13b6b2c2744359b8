"""``saturation_cutoff``: what reports show counts from there, what rules read from 0.99."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_neurohealth import Monitor, NeuronHealth, Report
from lightning_neurohealth.reporting.comparison import Comparison
from lightning_neurohealth.reporting.history import History
from lightning_neurohealth.reporting.page import html_page
from lightning_neurohealth.reporting.page_data import page_data
from lightning_neurohealth.reporting.planes import Planes
from lightning_neurohealth.rules.saturation import Saturation
from tests.measures.harness import assert_close
from tests.test_resume import SaveAt, Steady
from tests.training import make_data, make_health, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint")

RULE = [Saturation(grace=0, windows=1)]


def pushed(size: float) -> nn.Module:
    """Of its layer most neurons give tanh(size · x) of a uniform x, and the last one 0."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    nn.init.zeros_(net[0].bias)
    net[0].weight.data = torch.diag(torch.tensor([size, size, size, 0.0]))
    return net


def watched(net: nn.Module, steps: int = 3, windows: int = 1, **settings: Any) -> tuple[Report, np.ndarray]:
    """The report, and what tanh gave in the last window."""
    monitor = Monitor(net, every_n_steps=1, window="epoch", **settings)
    generator, seen = torch.Generator().manual_seed(0), []
    for step in range(steps * windows):
        x = torch.rand(50, 4, generator=generator) * 2 - 1
        with monitor:
            net(x).square().mean().backward()
            monitor.record_loss(1.0)
        seen.append(net[:2](x).detach().double().numpy())
        if step % steps == steps - 1:
            monitor.close()
    monitor.remove()
    assert monitor.report is not None
    return monitor.report, np.concatenate(seen[-steps:])


@pytest.mark.parametrize("cutoff", [0.6, 0.9, 0.95, 0.99, 0.999])
def test_a_report_shows_the_share_beyond_the_cutoff(cutoff: float) -> None:
    report, a = watched(pushed(5.0), saturation_cutoff=cutoff)
    assert_close(report["0"]["saturation_rate"], (abs(a) >= cutoff).mean(0))
    assert report.saturation_cutoff == cutoff
    assert 0 < float(report["0"]["saturation_rate"][0]) < 1


def test_it_changes_no_other_number_and_no_finding() -> None:
    (report, _), (usual, _) = (
        watched(pushed(300.0), measures="full", rules=RULE, saturation_cutoff=c) for c in (0.6, 0.99)
    )
    assert list(report["0"]) == list(usual["0"])
    for name, value in usual["0"].items():
        assert (name == "saturation_rate") != torch.equal(report["0"][name].nan_to_num(), value.nan_to_num())
    torch.testing.assert_close(dict(report.run), dict(usual.run), rtol=0, atol=0, equal_nan=True)
    assert [f.to_dict() for f in report.findings] == [f.to_dict() for f in usual.findings] != []


def test_a_network_that_is_healthy_at_0_99_stays_so_at_0_9() -> None:
    net = pushed(5.0)
    with torch.no_grad():
        net[0].weight[3, 3] = 5.0
    report, a = watched(net, measures=["saturation_rate"], rules=RULE, saturation_cutoff=0.9)
    assert (abs(a) >= 0.9).mean() > 0.65
    assert_close(report["0"]["saturation_rate"], (abs(a) >= 0.9).mean(0))
    assert (abs(a) >= 0.99).mean() < 0.65
    assert report.findings == []
    assert report.not_judged == {}


def test_the_value_of_a_finding_is_that_at_0_99() -> None:
    report, a = watched(pushed(50.0), measures=["saturation_rate"], rules=RULE, saturation_cutoff=0.6)
    (finding,) = report.findings
    assert finding.value == pytest.approx((abs(a) >= 0.99).mean())
    assert finding.value < float(report["0"]["saturation_rate"].mean())


def test_where_an_end_is_reached_the_cutoff_is_the_end() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Hardtanh(), nn.Linear(4, 1))
    (report, _), (usual, _) = (watched(net, saturation_cutoff=c) for c in (0.6, 0.99))
    assert torch.equal(report["0"]["saturation_rate"], usual["0"]["saturation_rate"])


def test_nothing_more_is_counted_without_it() -> None:
    def kinds(**settings: Any) -> list[str]:
        wanted = Monitor(pushed(1.0), measures=["saturation_rate"], **settings).ledger.wanted
        return [kind.__name__ for kind in wanted[next(iter(wanted))]]

    assert kinds() == ["BoundCounts"]
    assert kinds(saturation_cutoff=0.9) == ["BoundCounts", "BoundCountsFrom0.9"]


# What is saved, and said


def test_saved_loaded_and_told(tmp_path: Path) -> None:
    report, _ = watched(pushed(5.0), windows=2, saturation_cutoff=0.9)
    report.save(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded.saturation_cutoff == loaded.previous.saturation_cutoff == 0.9
    assert loaded.to_dict()["saturation_cutoff"] == 0.9
    for shown in (str(report), str(loaded), html_page(report)):
        assert "saturated from 0.9 on" in shown
    about = page_data(History.of(report), Planes())["measures"]["saturation_rate"]["about"]
    assert about.endswith("In this report c is 0.9.")


def test_at_0_99_nothing_is_said() -> None:
    report, _ = watched(pushed(5.0))
    assert report.to_dict()["saturation_cutoff"] == 0.99
    assert "saturated from" not in str(report)
    about = page_data(History.of(report), Planes())["measures"]["saturation_rate"]["about"]
    assert "In this report" not in about


def test_shares_from_other_cutoffs_are_not_compared() -> None:
    def compared(**settings: Any) -> str:
        before, after = watched(pushed(0.1), rules=[])[0], watched(pushed(300.0), rules=RULE, **settings)[0]
        return "\n".join(map(str, Comparison(before, after).__rich_console__(*console())))

    assert "saturated 0% → 7" in compared()
    assert "saturated 0%" not in compared(saturation_cutoff=0.9)
    assert "saturation is not compared: it counts from 0.99 on in A and from 0.9 on in B" in compared(
        saturation_cutoff=0.9
    )


def console() -> Any:
    from rich.console import Console

    made = Console(width=100)
    return made, made.options


# Other processes, and other runs


def test_a_callback_that_is_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(NeuronHealth(saturation_cutoff=0.9)))
    assert sent.settings.saturation_cutoff == 0.9
    assert sent.settings.shown_measures.keys() == {"saturation_rate"}


class Tanh(nn.Module):
    """The layers of the networks of resumed runs, behind bounded activations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.fc1, self.act, self.fc2 = nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(9 * self.fc1(x)))


def cut(file: Path, before: float, after: float) -> NeuronHealth:
    """A run with windows of 5 steps, cut behind the second step of the second window."""

    def health(cutoff: float) -> NeuronHealth:
        return make_health(window=5, measures=["saturation_rate", "activation_rows"], saturation_cutoff=cutoff)

    data = make_data(rows=48)
    make_trainer(health(before), SaveAt(7, file), max_steps=7, max_epochs=-1).fit(Steady(Tanh()), data)
    resumed = health(after)
    make_trainer(resumed, max_steps=10, max_epochs=-1).fit(Steady(Tanh()), data, ckpt_path=file)
    return resumed


def test_resumed_with_the_same_cutoff(tmp_path: Path) -> None:
    resumed = cut(tmp_path / "cut.ckpt", 0.9, 0.9)
    whole = make_health(window=5, measures=["saturation_rate", "activation_rows"], saturation_cutoff=0.9)
    make_trainer(whole, max_steps=10, max_epochs=-1).fit(Steady(Tanh()), make_data(rows=48))
    ours, expected = resumed.report["net.fc1"], whole.report["net.fc1"]
    assert torch.equal(ours["saturation_rate"], expected["saturation_rate"])
    assert 0 < float(ours["saturation_rate"].mean()) < 1


@pytest.mark.parametrize(("before", "after"), [(0.99, 0.9), (0.9, 0.95), (0.9, 0.99)])
def test_resumed_with_another_cutoff_the_count_begins_anew(before: float, after: float, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=rf"what saturation_rate has counted from another cut-off \({before:g}\)"):
        resumed = cut(tmp_path / "cut.ckpt", before, after)
    layer = resumed.report["net.fc1"]
    assert float(layer["activation_rows"]) == 5 * 8
    rows = 5 if after == 0.99 else 3  # what rules read is counted in every run
    counts = layer["saturation_rate"] * rows * 8
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-9)
