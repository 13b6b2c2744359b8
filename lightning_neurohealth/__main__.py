"""Command line: ``python -m lightning_neurohealth demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="neurohealth", description="Finds sick neurons while a network trains.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a healthy and a sick network on real images, and see both reports")
    demo.add_argument(
        "--folder", type=Path, default=Path("neurohealth_demo"), help="where runs are written (%(default)s)"
    )
    demo.add_argument("--epochs", type=int, default=5, help="epochs of each training (%(default)s)")
    commands.add_parser("catalogue", help="print every measure and rule: formula, how to read it, thresholds, source")
    given = parser.parse_args(arguments)
    if given.command == "catalogue":
        from lightning_neurohealth.catalogue import catalogue

        sys.stdout.write(catalogue())
        return 0
    if given.epochs < 1:
        parser.error(f"--epochs {given.epochs}: must be at least 1")
    from lightning_neurohealth.demo import run

    return run(given.folder, given.epochs)


if __name__ == "__main__":
    sys.exit(main())
