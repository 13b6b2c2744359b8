"""Each example runs and shows what it promises; ``cli.py`` and ``compare_activations.py`` have tests of their own."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from examples import fabric_loop, plain_loop, sick_networks
from lightning_neurohealth import Severity

EXAMPLES = Path(sick_networks.__file__).parent


def test_quickstart_finds_the_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    torch.manual_seed(0)  # of its other 16 neurons one may die by chance
    runpy.run_path(str(EXAMPLES / "quickstart.py"))
    printed = " ".join(capsys.readouterr().out.split())
    begins = "CRITICAL dead_neurons in net.2, since epoch 0, step 157 (learning rate 0.001): 48 of 64 neurons of net.2"
    assert begins in printed
    assert list(tmp_path.rglob("neurohealth/report.html"))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("main", [plain_loop.main, fabric_loop.main], ids=["plain", "fabric"])
def test_loop_without_a_trainer_runs(main: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    assert printed.count("Neuron health epoch") == 3
    assert "healthy" in printed


@pytest.mark.parametrize("name", sick_networks.EXHIBITS)
def test_a_sick_network_has_what_it_is_named_after_and_its_cure_helps(name: str) -> None:
    sick = {f.condition: f.severity for f in sick_networks.visit(name, cured=False).findings}
    cured = {f.condition: f.severity for f in sick_networks.visit(name, cured=True).findings}
    assert cured.get(name, Severity.HEALTHY) < sick[name]
    assert max(cured.values(), default=Severity.HEALTHY) <= Severity.WARNING


def test_an_unknown_sick_network_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sick_networks.main(["dead_neuron"])
    assert "there are dead_neurons, " in capsys.readouterr().err
