"""What can be shown where stdout goes."""

from __future__ import annotations

import shutil
import sys

import rich.console


def rendered(renderable: rich.console.RenderableType) -> str:
    """What stdout can show of it, as it is now: its width, its colours, its encoding."""
    console = rich.console.Console(
        file=sys.stdout,
        width=shutil.get_terminal_size((100, 24)).columns,
        color_system=None if rich.console.detect_legacy_windows() else "auto",
        force_jupyter=False,
    )
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
