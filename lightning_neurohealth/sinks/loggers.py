"""Reports in the dashboards of the trainer's loggers."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from lightning_neurohealth.report import Report
from lightning_neurohealth.sinks.base import Place, Sink
from lightning_neurohealth.sinks.pictures import heatmap, windows
from lightning_neurohealth.table import (
    BRIEF,
    FULL,
    WORDS,
    columns,
    not_watched,
    place_of,
    reasons,
    recovered,
    rest,
    scope,
    shown_layers,
    verdict,
)

CONDITIONS = 9
PICTURES = 10


class Loggers(Sink):
    """Gives every logger of the trainer a few scalars a window: ``neurohealth/score`` and, for each condition found,
    ``neurohealth/<condition>``, its worst value, which falls to 0 when it has recovered.

    ``NeuronHealth(log="layers")`` adds ``neurohealth/<layer>/<measure>``, the mean over neurons. TensorBoard also gets
    a table, ``neurohealth/report``, and a picture, ``neurohealth/layers``, if matplotlib is installed.
    """

    def open(self, place: Place) -> None:
        super().open(place)
        self._loggers = [] if place.log == "none" else list(place.loggers)
        self._boards = [logger for logger in self._loggers if is_tensorboard(logger)]
        self._logged: dict[str, float] = {}

    def write(self, report: Report, step: int) -> None:
        scalars = {f"neurohealth/{name}": value for name, value in self._summary(report).items()}
        if self.place.log == "layers":
            scalars.update(layer_scalars(report))
        for logger in list(self._loggers):
            if not _works(logger, "", logger.log_metrics, dict(scalars), step):
                self._loggers.remove(logger)
        for board in list(self._boards):
            if board not in self._loggers or not _works(board, "'s table and picture", show, board, report, step):
                self._boards.remove(board)

    def _summary(self, report: Report) -> dict[str, float]:
        """The score and the worst conditions. One that was logged before stays, so that its chart comes down and a CSV
        file keeps its columns."""
        scalars = report.scalars()
        active = {finding.condition: scalars[finding.condition] for finding in report.findings}
        over = {name: 0.0 for name in self._logged if name not in active}
        falling = {name: 0.0 for name in over if self._logged[name] != 0}
        chosen = dict(list({**falling, **active, **over}.items())[:CONDITIONS])
        self._logged.update(chosen)
        return {"score": scalars["score"], **chosen}


def layer_scalars(report: Report) -> dict[str, float]:
    """Every measure of every layer, the mean over neurons."""
    return {
        f"neurohealth/{name}/{measure}": float(values.double().mean())
        for name, layer in report.layers.items()
        for measure, values in layer.items()
    }


def is_tensorboard(logger: Any) -> bool:
    """True for Lightning's TensorBoardLogger under each of its names, without an import of any."""
    return any(kind.__name__ == "TensorBoardLogger" for kind in type(logger).__mro__)


def show(board: Any, report: Report, step: int) -> None:
    """One table and one picture; as a picture holds the windows before, a long run draws only some."""
    board.experiment.add_text("neurohealth/report", markdown(report), step)
    if report.index < PICTURES or report.index % PICTURES == 0 or report.last:
        try:
            figure = heatmap(windows(report))
        except ImportError:
            return
        board.experiment.add_figure("neurohealth/layers", figure, step, close=False)


def markdown(report: Report) -> str:
    """The health table for a page that renders Markdown."""
    layers = shown_layers(report)
    table = columns(report, layers)
    lines = [f"**Neuron health** {scope(report)}: **{verdict(report)}**", ""]
    if layers:
        lines += [_row(table), _row("---" if title in WORDS else "---:" for title in table)]
        lines += [_row(map(_escaped, cells)) for cells in zip(*table.values(), strict=True)]
        lines.append("")
    if len(layers) < len(report.layers):
        lines += [f"… and {len(report.layers) - len(layers)} more layers", ""]
    for i, finding in enumerate(report.findings[:BRIEF]):
        lines.append(f"- **{finding.severity.name} {_escaped(finding.condition)}** {_escaped(place_of(finding))}")
        lines += [f"    - *{word}* {_escaped(text)}" for word, text in reasons(finding) if i < FULL]
    if len(report.findings) > BRIEF:
        lines += ["", _escaped(rest(report))]
    if report.recovered:
        lines += ["", _escaped(recovered(report))]
    if report.coverage.missed:
        lines += ["", _escaped(not_watched(report))]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]()#+!|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _works(logger: Any, part: str, call: Callable[..., object], *args: Any) -> bool:
    try:
        call(*args)
    except Exception as error:
        warnings.warn(
            f"NeuronHealth: {type(logger).__name__}{part} failed and is left out from now on: {error!r}",
            RuntimeWarning,
            stacklevel=4,
        )
        return False
    return True
