"""Finding the classes of a folder, and what their methods ask for."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from lightning_neurohealth import discovery
from lightning_neurohealth.discovery import concrete_classes, parameters_of, snake_case, unknown_name


class Animal(ABC):
    @abstractmethod
    def sound(self) -> str: ...


class Stranger(Animal):
    def sound(self) -> str:
        return "?"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package with an abstract class, two concrete ones in two files, and what is none."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    header = f"from {__name__} import Animal\n"
    files = {
        "__init__": header + "class Hidden(Animal):\n    def sound(self): return ''\n",
        "base": header + "class Cat(Animal): ...\nclass Stone: ...\nlion = 'no class'\n",
        "tiger": "from zoo.base import Cat\nclass Tiger(Cat):\n    def sound(self): return 'roar'\n",
        "tabby": "from zoo.tiger import Tiger\nclass Tabby(Tiger):\n    def sound(self): return 'miaow'\n",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("zoo")
    for name in [name for name in sys.modules if name.split(".")[0] == "zoo"]:
        del sys.modules[name]


def test_a_folder_gives_each_concrete_class_where_it_is_defined(zoo: ModuleType) -> None:
    assert [cls.__name__ for cls in concrete_classes(zoo, Animal)] == ["Tabby", "Tiger"]  # type: ignore[type-abstract]


def test_other_packages_add_theirs_under_the_folders_name(zoo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint("stranger", f"{__name__}:Stranger", group)] if group == "zoo" else []

    monkeypatch.setattr(discovery, "entry_points", entry_points)
    assert Stranger in list(concrete_classes(zoo, Animal))  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nowhere.to.be.found:Cat", "No module named 'nowhere'"),
        (f"{__name__}:Dog", "has no attribute 'Dog'"),
        (f"{__name__}:snake_case", "is no Animal"),
        (f"{__name__}:Animal", "Animal is abstract"),
    ],
)
def test_a_broken_one_gives_one_warning_that_names_it(
    zoo: ModuleType, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    found = [EntryPoint("broken", value, "zoo"), EntryPoint("stranger", f"{__name__}:Stranger", "zoo")]
    monkeypatch.setattr(discovery, "entry_points", lambda group: found)
    with pytest.warns(RuntimeWarning) as warned:
        classes = [cls.__name__ for cls in concrete_classes(zoo, Animal)]  # type: ignore[type-abstract]
    assert classes == ["Tabby", "Tiger", "Stranger"]
    (warning,) = warned
    assert f"goes on without broken ({value})" in str(warning.message)
    assert said in str(warning.message)


PLUGIN = """
from lightning_neurohealth.measures import Measure
raise RuntimeError("out of order")
"""


def test_the_package_can_be_imported_beside_a_broken_one(tmp_path: Path) -> None:
    """In a process of its own, with a package installed beside it that fails to import."""
    (tmp_path / "third_party.py").write_text(PLUGIN)
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    rooms = {"measures": "third", "rules": "fourth"}
    groups = (f"[lightning_neurohealth.{room}]\n{name} = third_party:Third\n" for room, name in rooms.items())
    (info / "entry_points.txt").write_text("\n".join(groups))
    code = "from lightning_neurohealth.settings import Settings; print(len(Settings(measures='full').chosen_rules) > 0)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert run.stdout == "True\n"
    for name in rooms.values():
        assert run.stderr.count(f"goes on without {name} (third_party:Third) of the package third-party") == 1
    assert "out of order" in run.stderr


@pytest.mark.parametrize(
    ("camel", "snake"), [("OnRate", "on_rate"), ("Slope", "slope"), ("NonfiniteLossStep", "nonfinite_loss_step")]
)
def test_snake_case(camel: str, snake: str) -> None:
    assert snake_case(camel) == snake


def test_parameters_of_a_method_and_which_it_can_do_without() -> None:
    def judge(self: object, on_rate: float, slope: float | None = None, *, zero_rate: float = 0.0) -> None: ...

    assert parameters_of(judge) == {"on_rate": False, "slope": True, "zero_rate": True}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("on_rat", "fc.py: Rule.judge: no 'on_rat' is known here; did you mean 'on_rate'?"),
        ("xyz", "fc.py: Rule.judge: no 'xyz' is known here; known are on_rate, slope"),
    ],
)
def test_unknown_names_come_with_the_near_or_all_known_ones(name: str, said: str) -> None:
    error = unknown_name("fc.py: Rule.judge", name, ["slope", "on_rate"])
    assert isinstance(error, TypeError)
    assert str(error) == said
