"""What the evidence says about why neurons are dead, since when, and what to do."""

from __future__ import annotations

import math
from statistics import median

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.life import Life
from lightning_neurohealth.measures.loss_spike import ENOUGH, MEMORY
from lightning_neurohealth.rules.base import fed_by
from lightning_neurohealth.window import Window

FAIR = (0.7, 1.4)
"""``init_scale`` between which other weights of the usual kind would do no better."""
LEAP = 10.0
"""Times the usual loss: far beyond its noise, so that the step taken on it threw the weights."""
UNMOVED = 0.01
"""Share of their size by which weights must have moved to have turned a neuron off."""


def why(
    layer: Layer,
    dead: Tensor,
    life: Life,
    lives: dict[str, Life],
    window: Window,
    *,
    trained: bool,
    frozen: bool,
    step: float,
    bias_negativity: Tensor | None,
    positive_weight_sum: Tensor | None,
    init_scale: Tensor | None,
) -> tuple[list[str], str]:
    """Why and since when, and what to do.

    Args:
        trained: True if the run began with trained weights.
        frozen: True if the layer's weight is not trained.
        step: Share of their size by which no step has moved the weights more; infinite where that is not known.
    """
    owner = fed_by(layer)
    if layer.channels:
        died = dead & ~life.born
        since = f"they died {_when(life, died)}" if died.any() else ""
        return [since or "so it has been since the start"], f"prune them, or draw their weights anew in {owner}"
    leaky = f"replace {layer.activation} by a LeakyReLU" if layer.activation else ""
    norm = "" if layer.normalized else f"normalise between {owner} and its activation"
    before = lives.get(layer.before or "")
    if before is not None and bool(before.silent.all()):
        return (
            [f"the layer before, {layer.before}, is dead as a whole, so that they see nothing but their bias"],
            f"cure {layer.before} first",
        )
    causes, number = [], int(dead.sum())
    if bias_negativity is not None and _most(dead, bias_negativity.abs() > 1):
        size = float(bias_negativity[dead].median())
        sign = "negative" if size < 0 else "positive"
        causes.append(f"their bias is {sign} and {abs(size):.3g} times as large as the norm of their weights")
    elif positive_weight_sum is not None and _most(dead, positive_weight_sum < 0):
        causes.append("their weights and bias cannot reach z > 0 on inputs that are never negative")
    died = dead & ~life.born
    began = int(life.died[died].median()) if bool(died.any()) else 0
    since, still = "so it has been since the start", began * step < UNMOVED
    if still and began:
        since = "they fired seldom from the start, and the weights have hardly moved since"
    if frozen:
        causes.append(f"they fell silent {_when(life, died)}" if began else since)
        causes.append(f"{owner} is frozen: what it reads turns them off, or a network from which it is copied")
        return causes, f"look at what {owner} reads and at where its weights come from; prune them if it is meant"
    if int((dead & life.born).sum()) * 2 >= number or still:
        if layer.normalized:
            causes.append(f"{since}: the norm before the activation shifts them there")
            return causes, _choice(f"set the bias of the norm behind {owner} to 0", leaky)
        if trained:
            causes.append("so it has been since before this run, which began with trained weights")
            return causes, _choice(f"re-initialise them in {owner} (recycling), prune them", leaky, norm)
        if not causes and init_scale is not None and FAIR[0] < float(init_scale) < FAIR[1]:
            causes.append(
                f"{since}, by the draw of weights of the right size: what reaches the layer differs less from row "
                "to row than it is large"
            )
            return causes, _choice(norm, leaky, "leave it as it is while the network learns")
        causes.append(f"{since}, which points to initialisation, bias or inputs")
        return causes, _choice(f"initialise {owner} for {layer.function.name} (He) with zero bias", leaky, norm)
    rate = float(life.rate[died].median())
    now = "" if math.isnan(rate) else f" ({rate:.2g} then)"
    died_by, slower = f"they died while training, {_when(life, died)}", "lower the learning rate or warm it up"
    leap = _leap(window, int(life.active[died & (life.died == began)].min()), began)
    if leap is not None:
        causes.append(
            f"{died_by}, behind a loss that leapt to {leap[1]:.3g} at step {int(leap[0])}, which points to its batch "
            f"or to the learning rate{now}"
        )
        return causes, _choice("clip gradients and look at the batch of that step", slower, leaky, norm)
    causes.append(f"{died_by}, which points to the learning rate{now}")
    return causes, _choice(slower, leaky, norm)


def _when(life: Life, died: Tensor) -> str:
    """Between which steps they died, which windows date no better."""
    first, last = int(life.active[died].clamp(min=0).min()), int(life.died[died].max())
    if first >= last:
        return f"by step {last}"
    middle = int(life.died[died].median())
    return f"between steps {first} and {last}" + (f", half of them by step {middle}" if middle < last else "")


def _leap(window: Window, active: int, began: int) -> tuple[float, float] | None:
    """Step and size of the first loss ten times as large as usual, between their last activity and their silence."""
    losses = zip(window.progress.steps, window.progress.losses, strict=True)
    points = [(step, loss) for step, loss in losses if step <= began and math.isfinite(loss)]
    near = [point for point in points if point[0] >= active]
    before = [loss for step, loss in points if step < active][-MEMORY:]
    if not near or len(before) < ENOUGH:
        return None
    return next((point for point in near if point[1] > LEAP * median(before) > 0), None)


def _most(dead: Tensor, mask: Tensor) -> bool:
    return int((dead & mask).sum()) * 2 > int(dead.sum())


def _choice(*ways: str) -> str:
    """``"a, b, or c"``."""
    *first, last = [way for way in ways if way]
    return f"{', '.join(first)}, or {last}" if first else last
