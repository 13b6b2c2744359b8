"""What each kind of logger shows: scalars, a table of findings, one of layers, a picture, distributions.

A kind is known by the name of its class, so that none is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from lightning_neurohealth.report import Report
from lightning_neurohealth.reporting.columns import columns, shown_layers
from lightning_neurohealth.reporting.markdown import markdown
from lightning_neurohealth.reporting.pictures import heatmap, histograms, windows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DISTRIBUTIONS = ("on_rate", "gradient_flow")
BINS = 64
Show = Callable[[Any, Report, int, bool], None]
"""Takes the logger, the report, the step, and whether this window is one of those that are drawn."""
MLFLOW_BATCH = 1000
MLFLOW_FORBIDS = re.compile(r"[^\w/. -]", re.ASCII)
FINDINGS = ("severity", "condition", "layer", "since step", "what", "why", "do")


def board_of(logger: Any) -> Show | None:
    """What shows a report on this kind of logger, subclasses included; nothing for one that takes scalars alone."""
    return next((BOARDS[kind.__name__] for kind in type(logger).__mro__ if kind.__name__ in BOARDS), None)


def log_scalars(logger: Any, scalars: dict[str, float], step: int) -> None:
    """The logger's own ``log_metrics``, in names and portions that it takes."""
    if board_of(logger) is mlflow:
        spelled = [(MLFLOW_FORBIDS.sub("_", name), value) for name, value in scalars.items()]
        for start in range(0, len(spelled), MLFLOW_BATCH):
            logger.log_metrics(dict(spelled[start : start + MLFLOW_BATCH]), step)
    else:
        logger.log_metrics(scalars, step)


def tensorboard(logger: Any, report: Report, step: int, draw: bool) -> None:
    """Markdown under Text, a figure under Images, and distributions over neurons."""
    board = logger.experiment
    board.add_text("neurohealth/report", markdown(report), step)
    for measure, values in distributions(report).items():
        board.add_histogram(f"neurohealth/{measure}", values, step)
    figure = _picture(report) if draw else None
    if figure is not None:
        board.add_figure("neurohealth/layers", figure, step, close=False)


def wandb(logger: Any, report: Report, step: int, draw: bool) -> None:
    """Distributions over neurons each window; tables and a picture in media."""
    from wandb import Histogram

    spread = {
        f"neurohealth/{m}": Histogram(values.tolist(), num_bins=BINS) for m, values in distributions(report).items()
    }
    if spread:
        logger.log_metrics(spread, step)
    if not draw:
        return
    for name, table in tables(report).items():
        rows = [list(row) for row in zip(*table.values(), strict=True)]
        logger.log_table(f"neurohealth/{name}", columns=list(table), data=rows, step=step)
    figure = _picture(report)
    if figure is not None:
        logger.log_image("neurohealth/layers", [figure], step=step)


def mlflow(logger: Any, report: Report, step: int, draw: bool) -> None:
    """Artifacts under ``neurohealth``, named after the step; distributions are drawn, as it has none of its own."""
    if not draw:
        return
    for name, table in tables(report).items():
        logger.experiment.log_table(logger.run_id, table, f"neurohealth/{name}_{step:08}.json")
    for name, figure in (("layers", _picture(report)), ("distributions", _histograms(report))):
        if figure is not None:
            logger.experiment.log_figure(logger.run_id, figure, f"neurohealth/{name}_{step:08}.png")


def comet(logger: Any, report: Report, step: int, draw: bool) -> None:
    """Tables under Assets, named after the step, a figure under Graphics, and distributions over neurons."""
    experiment = logger.experiment
    for measure, values in distributions(report).items():
        experiment.log_histogram_3d(values.tolist(), f"neurohealth/{measure}", step)
    if not draw:
        return
    for name, table in tables(report).items():
        rows = [list(row) for row in zip(*table.values(), strict=True)]
        if rows:  # it takes no table without any
            experiment.log_table(f"neurohealth/{name}_{step:08}.csv", rows, list(table))
    figure = _picture(report)
    if figure is not None:
        experiment.log_figure("neurohealth/layers", figure, overwrite=False, step=step)


BOARDS = {"TensorBoardLogger": tensorboard, "WandbLogger": wandb, "MLFlowLogger": mlflow, "CometLogger": comet}


def tables(report: Report) -> dict[str, dict[str, list[str]]]:
    """Name to columns to cells: the findings, and the numbers of some layers."""
    rows = [
        (f.severity.name, f.condition, f.where, str(f.since[1]), f.message, f.cause, f.remedy) for f in report.findings
    ]
    layers = shown_layers(report)
    return {
        "findings": {title: [row[i] for row in rows] for i, title in enumerate(FINDINGS)},
        **({"numbers": columns(report, layers)} if layers else {}),
    }


def distributions(report: Report) -> dict[str, torch.Tensor]:
    """Measure to the finite numbers of all neurons of all layers, where there are any."""
    pooled = {}
    for measure in DISTRIBUTIONS:
        values = [layer[measure].flatten().double().cpu() for layer in report.layers.values() if measure in layer]
        finite = torch.cat([value[value.isfinite()] for value in values]) if values else torch.zeros(0)
        if finite.numel():
            pooled[measure] = finite
    return pooled


def _picture(report: Report) -> Figure | None:
    try:
        return heatmap(windows(report))
    except ImportError:
        return None


def _histograms(report: Report) -> Figure | None:
    found = distributions(report)
    try:
        return histograms(found, BINS) if found else None
    except ImportError:
        return None
