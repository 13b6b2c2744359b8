"""Finding the classes of a folder, and what their methods ask for."""

from __future__ import annotations

import importlib
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
