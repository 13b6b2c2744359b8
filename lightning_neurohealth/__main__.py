"""Command line: ``python -m lightning_neurohealth``, installed as ``neurohealth``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FINE, FOUND, FAILED = 0, 1, 2
"""Exit codes: all is well; what was asked about was found; the command could not do its work."""
EXITS = "Exit code: 0 if all is well, 1 if %s, 2 if the command failed."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command == "demo" and given.epochs < 1:
        parser.error(f"--epochs {given.epochs}: must be at least 1")
    try:
        code: int = COMMANDS[given.command](given)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"neurohealth {given.command}: {error}", file=sys.stderr)
        return FAILED
    return code


def demo(given: argparse.Namespace) -> int:
    """Train a healthy and a sick network."""
    from lightning_neurohealth.demo import run

    return run(given.folder, given.epochs)


def report(given: argparse.Namespace) -> int:
    """Print the last report of a run."""
    from lightning_neurohealth.findings import Severity
    from lightning_neurohealth.report import Report

    found = Report.load(given.run)
    _print(found)
    if given.save is not None:
        found.save(given.save)
    limit = Severity[given.fail_on.upper()] if given.fail_on else None
    return FOUND if limit is not None and found.severity >= limit else FINE


def diff(given: argparse.Namespace) -> int:
    """Print which layers got better or worse from one run to another."""
    from lightning_neurohealth.report import Report
    from lightning_neurohealth.reporting.comparison import Comparison

    both = Comparison(Report.load(given.before), Report.load(given.after), (str(given.before), str(given.after)))
    _print(both)
    return FOUND if both.worse else FINE


def catalogue(given: argparse.Namespace) -> int:
    """Print every measure and rule."""
    from lightning_neurohealth.catalogue import catalogue

    sys.stdout.write(catalogue())
    return FINE


COMMANDS = {"demo": demo, "report": report, "diff": diff, "catalogue": catalogue}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="neurohealth", description="Finds sick neurons while a network trains.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, about: str, found: str | None = None) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=about, description=about, epilog=EXITS % found if found else None)

    one = command(
        "demo", "train a healthy and a sick network on real images, and see both reports", "it found too little"
    )
    one.add_argument(
        "--folder", type=Path, default=Path("neurohealth_demo"), help="where runs are written (%(default)s)"
    )
    one.add_argument("--epochs", type=int, default=5, help="epochs of each training (%(default)s)")
    one = command("report", "print the last report of a run", "something as bad as --fail-on was found")
    one.add_argument("run", type=Path, help="the run's log directory, or its report.json")
    one.add_argument("--fail-on", choices=("warning", "serious", "critical"), help="exit with 1 for this or worse")
    one.add_argument("--save", type=Path, metavar="FILE", help="write it as .html, .json or .csv too")
    one = command("diff", "show which layers got better or worse from one run to another", "a layer got worse")
    one.add_argument("before", type=Path, metavar="RUN_A", help="the run to compare with")
    one.add_argument("after", type=Path, metavar="RUN_B", help="the run to judge")
    command("catalogue", "print every measure and rule: formula, how to read it, thresholds, source")
    return parser


def _print(what: Any) -> None:
    from lightning_neurohealth.terminal import rendered

    print(rendered(what))


if __name__ == "__main__":
    sys.exit(main())
