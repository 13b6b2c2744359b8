"""Imports run one way: each room of the house sees only the rooms that this table gives it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import lightning_neurohealth

PACKAGE = "lightning_neurohealth"
FOLDER = Path(lightning_neurohealth.__path__[0])

# A stage sees the stages above it, and nothing of its own but itself.
STAGES: tuple[frozenset[str], ...] = tuple(
    frozenset(rooms.split())
    for rooms in (
        "hosts",
        "signals ranks breakdown budget discovery findings folding frozen garbage hooks patterns "
        "progress compiled terminal native",
        "slices",
        "activations window sharding",
        "layers nn samples across elements",
        "roster repeats neuron_norms",
        "tracing parameters life",
        "holdings",
        "layer_weights",
        "delivery",
        "taps coverage answers weight_taps",
        "parameter_taps notes",
        "statistics",
        "measures",
        "rules black_box counting",
        "alike settings catalogue",
        "measuring",
        "shortcut",
        "intake",
        "diagnosis",
        "memory",
        "packing",
        "record",
        "reporting",
        "report",
        "sinks",
        "restart renewal closing",
        "monitor",
        "interventions evaluator",
        "callback",
        "demo",
        "__main__ __init__",
    )
)

# Some see less than that.
ONLY: dict[str, set[str]] = {
    "delivery": {"signals", "layers", "folding", "hooks", "sharding", "tracing"},
    "taps": {"signals", "layers", "activations", "hooks", "tracing", "delivery"},
    "parameter_taps": {
        "weight_taps",
        "signals",
        "layers",
        "layer_weights",
        "activations",
        "tracing",
        "parameters",
        "samples",
        "delivery",
        "sharding",
    },
    "statistics": {"signals", "layers", "activations", "discovery", "findings", "native"},
    "catalogue": {"signals", "statistics", "measures", "rules"},
    "sinks": {"packing", "report", "reporting", "terminal"},
    "nn": {"activations"},
    "callback": {
        *("hosts", "findings", "report", "rules", "settings", "sinks", "monitor", "interventions", "evaluator"),
    },
    "demo": {"findings", "report", "rules", "sinks", "callback"},
    "__main__": {"catalogue", "findings", "report", "reporting", "terminal", "callback", "demo"},
    "__init__": {"findings", "report", "monitor", "interventions", "callback"},
}

# Against the direction, and only so: inside a function, when all rooms are there, or for the types alone.
LATE = {("interventions", "callback")}
TYPES = {
    ("restart", "monitor"),
    ("renewal", "monitor"),
    ("closing", "monitor"),
    ("interventions", "callback"),
}

LIGHTNING = {"hosts", "callback", "interventions", "demo", "__main__"}
OPTIONAL = {"jsonargparse", "matplotlib", "plotly", "sklearn", "tensorboard", "pandas", "numpy", "wandb", "mlflow"}


@dataclass(frozen=True)
class Import:
    """One import statement: which file and room it is in, what it names, and whether it waits for a call."""

    file: str
    room: str
    target: str
    late: bool
    typing: bool

    @property
    def seen(self) -> str:
        """The room it looks into."""
        return self.target.split(".")[1] if "." in self.target else "__init__"

    def __str__(self) -> str:
        return f"{self.file} imports {self.target}"


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package, those inside functions included."""
    found = []
    for path in sorted(FOLDER.rglob("*.py")):
        file = path.relative_to(FOLDER)
        room = file.parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for target, late, typing in statements(tree):
            found.append(Import(str(file), room, target, late, typing))
    return tuple(found)


def statements(node: ast.AST, late: bool = False, typing: bool = False) -> Iterator[tuple[str, bool, bool]]:
    """Name of each module that is imported below ``node``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, late, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            names = [f"{module}.{alias.name}" for alias in child.names] if module == PACKAGE else [module]
            yield from ((name, late, typing) for name in names)
        else:
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from statements(child, late or function, typing or checking)


def inside() -> list[Import]:
    """Imports of one room by another."""
    return [i for i in imports() if i.target.split(".")[0] == PACKAGE and i.seen != i.room]


def allowed(room: str) -> set[str]:
    before: set[str] = set()
    for stage in STAGES:
        if room in stage:
            break
        before |= stage
    return before & ONLY.get(room, before)


def excepted(i: Import) -> bool:
    return (i.late and (i.room, i.seen) in LATE) or (i.typing and (i.room, i.seen) in TYPES)


def test_every_room_has_its_stage() -> None:
    rooms = {path.stem for path in FOLDER.glob("*.py")} | {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    staged = [room for stage in STAGES for room in stage]
    assert sorted(staged) == sorted(rooms)


def test_imports_run_one_way() -> None:
    wrong = [i for i in inside() if i.seen not in allowed(i.room) and not excepted(i)]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_table_grants_nothing_against_the_direction() -> None:
    place = {room: number for number, stage in enumerate(STAGES) for room in stage}
    assert not [(room, seen) for room, rooms in ONLY.items() for seen in rooms if place[seen] >= place[room]]


def test_exceptions_are_still_needed() -> None:
    assert {(i.room, i.seen) for i in inside() if excepted(i)} == LATE | TYPES


def test_only_what_meets_the_trainer_knows_lightning() -> None:
    wrong = [i for i in imports() if i.target.split(".")[0] in ("lightning", "pytorch_lightning", "lightning_fabric")]
    assert not [str(i) for i in wrong if i.room not in LIGHTNING]
    assert {i.room for i in wrong} >= {"callback"}


def test_optional_packages_are_imported_where_they_are_used() -> None:
    wrong = [i for i in imports() if i.target.split(".")[0] in OPTIONAL and not (i.late or i.typing)]
    assert not wrong, "\n".join(map(str, wrong))


def test_names_are_absolute() -> None:
    assert not [str(i) for i in imports() if i.target.startswith(".")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from lightning_neurohealth import ranks, taps", [f"{PACKAGE}.ranks", f"{PACKAGE}.taps"]),
        ("import lightning_neurohealth.monitor as m", [f"{PACKAGE}.monitor"]),
        ("def f():\n    if True:\n        from lightning import pytorch", ["lightning"]),
        ("class A:\n    from . import ranks", ["."]),
    ],
)
def test_the_walker_sees_every_kind_of_import(source: str, expected: list[str]) -> None:
    assert [target for target, _, _ in statements(ast.parse(source))] == expected
