"""What watching costs, beside a bare training and beside what people use today. ``make bench`` prints the tables.

All trainings run in one process and take turns (A B C A B C …), so that the machine's moods fall on all of them; what
counts is the ratio of each turn to the bare training's turn of the same round. Two equal trainings differ by a few
percent on a shared machine: ``inside`` is the time that the callback spends in its own code, by its own clock, as a
share of a bare step. ``--write`` puts the tables into benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.arena.clock import clocked
from benchmarks.arena.closing import closing_table
from benchmarks.arena.memory import memory_table
from benchmarks.arena.models import CONTENDERS, Contender
from benchmarks.arena.rivals import CADENCE, players
from benchmarks.arena.turns import Player, race

RESULTS = Path(__file__).with_name("RESULTS.md")
OTHERS = "\n## What recycling does"
"""Where the results of another benchmark begin."""
BARS = {
    "idle": {"mlp": 1.01, "resnet": 1.01, "gpt": 1.01},
    "standard, every step": {"mlp": 1.20, "resnet": 1.10, "gpt": 1.05},
    "full, every step": {"mlp": 1.35, "resnet": 1.25, "gpt": 1.15},
    "standard, 1 in 10": {"mlp": 1.02, "resnet": 1.01, "gpt": 1.01, "tiny": 1.05},
}
"""What we want it to cost at most, as a ratio to the bare training."""


@dataclass(frozen=True)
class Cost:
    """Of one player on one network.

    Attributes:
        ratios: To the bare training, of each round.
        inside: Share of a bare step that is spent in our code, ``None`` for others.
    """

    ratios: list[float]
    inside: float | None

    @property
    def text(self) -> str:
        """Median, and quartiles."""
        low, _, high = quantiles(self.ratios, n=4)
        return f"{median(self.ratios):.2f} ({low:.2f}–{high:.2f})"


def measure(contender: Contender, rounds: int, chosen: Sequence[str]) -> tuple[float, dict[str, Cost]]:
    """Seconds of a bare step, and what each player costs."""
    field = {name: player for name, player in players().items() if not chosen or name in chosen or name == "bare"}
    seconds = race(contender, field, rounds)
    bare = median(seconds["bare"])
    return bare, {
        name: Cost(
            [mine / theirs for mine, theirs in zip(of_one, seconds["bare"], strict=True)],
            inside(contender, player) / bare if _is_ours(name) else None,
        )
        for name, player in field.items()
        for of_one in (seconds[name],)
    }


def inside(contender: Contender, player: Player, turns: int = 7) -> float:
    """Seconds a step in our own code: the median of some turns, each as long as the cadence."""
    with clocked() as clock:
        readings: list[float] = []
        race(contender, {"ours": player}, turns, after=lambda: readings.append(clock.read()))
    steps = max(contender.steps, player.steps)
    return median(readings[-turns:]) / steps


def tables(names: Sequence[str], rounds: int, chosen: Sequence[str]) -> Iterator[Table]:
    """One for each network."""
    for name in names:
        contender = CONTENDERS[name]
        bare, costs = measure(contender, rounds, chosen)
        table = Table(title=f"{contender.text}: bare step {bare * 1e3:.1f} ms, {rounds} rounds", title_justify="left")
        for column in ("", "ratio to bare (quartiles)", "inside", "at most"):
            table.add_column(column, justify="left" if not column else "right")
        for who, cost in costs.items():
            bar = BARS.get(who, {}).get(name)
            share = "" if cost.inside is None else f"{cost.inside:.1%}"
            table.add_row(who, cost.text, share, "" if bar is None else f"{bar:.2f}")
        yield table


def _is_ours(name: str) -> bool:
    return name == "idle" or name.split(",")[0] in ("economy", "standard", "full")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(CONTENDERS), help=f"some of {', '.join(CONTENDERS)}")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each training (30)")
    parser.add_argument("--only", action="append", default=[], help="a row; may be given more than once")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} too")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.networks if name not in CONTENDERS]:
        parser.error(f"no network is called {unknown[0]!r}; known are {', '.join(CONTENDERS)}")
    for name in ("lightning.pytorch", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    console = Console(record=True, width=100)
    for table in tables(chosen.networks, chosen.rounds, chosen.only):
        console.print(table)
    for measures in ("standard", "full"):
        console.print(memory_table([CONTENDERS[name] for name in chosen.networks], measures))
    console.print(closing_table())
    if chosen.write:
        _, heading, others = RESULTS.read_text(encoding="utf-8").partition(OTHERS)
        RESULTS.write_text(_results(console.export_text()) + heading + others, encoding="utf-8")


def _results(text: str) -> str:
    return f"""# What watching costs

Made by `make bench ARGS=--write` on {platform.machine()} with {os.cpu_count()} cores and no GPU, torch
{torch.__version__}, {torch.get_num_threads()} threads. Ratios of whole steps to a bare training that took turns with
them; `inside` is the time in our own code as a share of a bare step, by its own clock; `at most` is what we want. Rows
`1 in {CADENCE}` are the default cadence.

```
{text.rstrip()}
```

Memory is that of live tensors. Beside the states stands, for good, what a step adds to them, which is as much again at
most. Without a C compiler a measured step holds rows that wait to be summed together (0.5 MB) and what is computed of a
block of them (0.5 MB). The update ratio samples
1,024 evenly spaced elements of each parameter; its relative error against all elements is about 1/√1024 ≈ 3 %.
"""


if __name__ == "__main__":
    main()
