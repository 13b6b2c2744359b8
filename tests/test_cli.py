"""The configs are whole LightningCLI configs, and a wrong key or value is refused with what is allowed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from lightning.pytorch.cli import LightningCLI

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of Lightning's own calls
    cli = example("cli")

    def run(*arguments: str) -> LightningCLI:
        monkeypatch.setattr(sys, "argv", ["cli.py", *arguments])
        return LightningCLI(cli.Classifier, cli.Digits)

    return run


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_trains(config: Path, run, tmp_path: Path) -> None:
    cli = run("fit", "--config", str(config), "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1")
    (health,) = [c for c in cli.trainer.callbacks if type(c).__name__ == "NeuronHealth"]
    assert health.settings.measures == config.stem
    assert list(health.report) == ["net.0", "net.2", "net.4"]
    assert (Path(cli.trainer.log_dir) / "neurohealth" / "findings.json").exists()


def test_the_cutoff_of_saturation_is_a_key_of_a_config(run, tmp_path: Path) -> None:
    config = ("--config", str(CONFIGS[0]), "--trainer.callbacks.saturation_cutoff", "0.9")
    cli = run("fit", *config, "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1")
    (health,) = [c for c in cli.trainer.callbacks if type(c).__name__ == "NeuronHealth"]
    assert health.report.saturation_cutoff == 0.9


def test_there_is_a_config_for_each_set() -> None:
    assert [path.stem for path in CONFIGS] == ["economy", "full", "standard"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("windows", "5", "windows"),
        ("measures", "standrad", "did you mean 'standard'"),
        ("every_n_steps", "0", "must be at least 1"),
        ("log", "everything", "summary"),
        ("on_critical", "explode", "warn"),
        ("saturation_cutoff", "90", "must lie between 0.5 and 1"),
    ],
)
def test_a_wrong_setting_is_refused(key: str, value: str, said: str, run, capsys: pytest.CaptureFixture[str]) -> None:
    given = (f"--trainer.callbacks.{key}", value)
    with pytest.raises((SystemExit, ValueError)) as error:
        run("fit", "--config", str(ROOT / "configs" / "standard.yaml"), *given)
    assert said in capsys.readouterr().err + str(error.value)


def test_every_argument_has_a_help_text(run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("fit", "--trainer.callbacks.help", "lightning_neurohealth.NeuronHealth")
    text = " ".join(capsys.readouterr().out.split())
    for said in ("one training step in N", "every N optimizer steps", "Glob patterns", "not watched", "list of names"):
        assert said in text
    for said in ("Rule objects", "What loggers get", "Where reports go", "CRITICAL finding appears"):
        assert said in text
