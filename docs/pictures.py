"""Makes the README's pictures from the demonstration's sick run: ``python -m docs.pictures``. Needs Chromium."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from lightning_neurohealth import Report, demo

FOLDER = Path(__file__).parent / "pictures"
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Without fonts from the network: the reader's own monospaced one will do."""


def table(report: Report, path: Path) -> None:
    """What the console shows."""
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(report)
    console.save_svg(str(path), title="python -m lightning_neurohealth demo", code_format=FORMAT, unique_id="table")


def page(html: Path, path: Path) -> None:
    """The upper part of the page, in a browser 1280 pixels wide."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    flags = ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "window-size=1280,1060")
    wait = ("virtual-time-budget=5000", f"screenshot={path}")
    command = [chromium, *(f"--{flag}" for flag in (*flags, *wait)), html.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    picture = Image.open(path).convert("RGB")
    few = picture.quantize(
        256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )  # rare colours matter: the scale's
    few.save(path, optimize=True)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sick = demo.train(sick=True, folder=Path(folder) / "neurohealth_demo", epochs=5)
        table(sick.report, FOLDER / "table.svg")
        page(sick.folder / "neurohealth" / "report.html", FOLDER / "page.png")


if __name__ == "__main__":
    main()
