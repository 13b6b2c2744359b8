"""Reports in the dashboards of the trainer's loggers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from lightning_neurohealth.report import Report
from lightning_neurohealth.sinks.base import Place, Sink
from lightning_neurohealth.sinks.boards import board_of, log_scalars

CONDITIONS = 9
PICTURES = 10


class Loggers(Sink):
    """Gives every logger of the trainer a few scalars a window: ``neurohealth/score`` and, for each condition found,
    ``neurohealth/<condition>``, its worst value, which falls to 0 when it has recovered.

    ``NeuronHealth(log="layers")`` adds ``neurohealth/<layer>/<measure>``, the mean over neurons. TensorBoard, W&B,
    MLflow and Comet also get tables and, if matplotlib is installed, a picture of layers and windows: in the first ten
    windows, each tenth, and the last. TensorBoard has its table in all windows; it, W&B and Comet get distributions of
    ``on_rate`` and ``gradient_flow`` over neurons, which MLflow gets as another picture.
    """

    def open(self, place: Place) -> None:
        super().open(place)
        self._loggers = [] if place.log == "none" else list(place.loggers)
        self._boards = {logger: show for logger in self._loggers if (show := board_of(logger))}
        self._logged: dict[str, float] = {}

    def write(self, report: Report, step: int) -> None:
        scalars = {f"neurohealth/{name}": value for name, value in self._summary(report).items()}
        if self.place.log == "layers":
            scalars.update(layer_scalars(report))
        for logger in list(self._loggers):
            if not _works(logger, "", log_scalars, logger, dict(scalars), step):
                self._loggers.remove(logger)
        # as a picture holds the windows before, a long run draws only some
        draw = report.index < PICTURES or report.index % PICTURES == 0 or report.last
        for logger, show in list(self._boards.items()):
            if logger not in self._loggers or not _works(
                logger, "'s table and picture", show, logger, report, step, draw
            ):
                del self._boards[logger]

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
        f"neurohealth/{name}/{measure}": mean
        for name, layer in report.layers.items()
        for measure, mean in layer.means.items()
    }


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
