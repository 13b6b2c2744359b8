"""A run's reports as one page that works offline."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from importlib.resources import files
from string import Template

from lightning_neurohealth.packing import plain
from lightning_neurohealth.record import Record
from lightning_neurohealth.reporting.history import History
from lightning_neurohealth.reporting.page_data import page_data, shown_windows
from lightning_neurohealth.reporting.page_findings import SIGNS, findings, gone, joined, text
from lightning_neurohealth.reporting.planes import Planes
from lightning_neurohealth.reporting.wording import other_cutoff, score

MISSED = 200


def html_page(report: Record, run: str = "") -> str:
    """The page of a report and of those before it; under 5 MB for 200 layers × 100 windows.

    Args:
        report: The last window.
        run: What tells this run from others, for the title.

    Raises:
        ModuleNotFoundError: plotly is not installed.
    """
    history, planes = shown_windows(report), Planes()
    data = json.dumps(plain(page_data(history, planes)), allow_nan=False, separators=(",", ":"))
    return Template(_web("page.html")).substitute(
        style=_web("page.css"),
        script=_web("page.js"),
        run=f"of {text(run)}" if run else "",
        library=_library(),
        planes=_packed(planes.to_bytes()),
        data=_packed(data.encode("utf-8", "backslashreplace")),
        severity=report.severity.name.lower(),
        verdict=_verdict(report),
        findings=findings(report, list(history.layers)),
        gone=gone(History.of(report)),
        coverage=_coverage(report),
    )


def _verdict(report: Record) -> str:
    number = len(report.findings)
    found = f"{number} finding{'s' if number != 1 else ''}, the worst {report.severity.name}" if number else "healthy"
    windows = f"{report.index + 1} window{'s' if report.index else ''}"
    last = f"epoch {report.epoch}, step {report.step}, {report.measured} of {report.steps} steps measured"
    return (
        f'<p class="verdict"><span class="sign" aria-hidden="true">{SIGNS[report.severity]}</span> {found}</p>'
        f'<p class="score"><b>{score(report)}</b> score, from 0 (every layer critical) to 1 (nothing found)</p>'
        f'<p class="dim">{len(report.layers)} layers, {windows}; the last one: {last}{other_cutoff(report)}</p>'
    )


def _coverage(report: Record) -> str:
    seen = report.coverage
    lines = [f"<p>{len(seen.watched)} layers are watched; they hold {seen.parameters:.0%} of the parameters.</p>"]
    for title, reasons_ in (("not seen", seen.missed), ("rules that could not judge", report.not_judged)):
        rows = joined(
            f"<dt>{text(name or 'the model itself')}</dt><dd>{text(why)}</dd>"
            for name, why in list(reasons_.items())[:MISSED]
        )
        if rows:
            lines.append(f"<details><summary>{len(reasons_)} {title}</summary><dl>{rows}</dl></details>")
    return "".join(lines)


def _web(name: str) -> str:
    return files("lightning_neurohealth.reporting").joinpath("web", name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    from plotly.offline import get_plotlyjs

    return _packed(get_plotlyjs().encode())


def _packed(data: bytes) -> str:
    """As base64, in which nothing can end the element that holds it."""
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")
