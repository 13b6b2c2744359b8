"""What several rules on the whole run ask: which matrices count, and whether training began here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from torch import Tensor

from lightning_neurohealth.layers import Layer
from lightning_neurohealth.parameters import Parameters
from lightning_neurohealth.progress import Fall, Progress
from lightning_neurohealth.rules.remembering import remembers_the_last
from lightning_neurohealth.window import Past, Window

UNEVEN = 1.5
FAINT = 1e-4
"""Share of the largest gradient under which vanishing_gradients warns."""

SHRUNK = 0.1
"""Share of their size at the start to which only a decay that outweighs the gradient brings weights."""


def middle(numbers: Iterable[float]) -> float:
    """Median of those that are not NaN; NaN if none is."""
    known = [x for x in numbers if not math.isnan(x)]
    return median(known) if known else math.nan


def trained_matrices(layers: Mapping[str, Layer], parameters: Parameters) -> list[str]:
    """Names of the layers' weights that are trained; of all trained matrices where no layer's weight is.

    Embeddings are left out where they can be: a step reaches the rows of a few words only.
    """
    facts = zip(parameters.names, parameters.axes, parameters.trainable(), strict=True)
    optimized = parameters.optimized
    names = [n for n, axes, wanted in facts if wanted and axes > 1 and (optimized is None or n in optimized)]
    weights = {layer.weight for layer in layers.values()}
    return [name for name in names if name in weights] or names


def began_at_zero(name: str, layers: Mapping[str, Layer], initial: Mapping[str, Any]) -> bool:
    """True of a weight that was all 0 at the first step, as in zero-initialised branches and LoRA's B."""
    ratio = initial.get("update_ratio", {}).get(name)
    if ratio is not None and bool(ratio.isnan()):
        return True
    norms = [initial.get("weight_norm", {}).get(layer.name) for layer in layers.values() if layer.weight == name]
    return any(norm is not None and not bool(norm.any()) for norm in norms)


def of_all(measure: Mapping[str, Tensor], names: Iterable[str]) -> float:
    """Median of a parameter's measure over some of them; NaN where it is known of none."""
    return middle(float(measure[name]) for name in names if name in measure)


def growth(layers: Mapping[str, Layer], weight_norm: Mapping[str, Tensor], initial: Mapping[str, Any]) -> float:
    """‖W‖ now / ‖W‖ at the first step, median over layers; NaN where it is not known."""
    first = initial.get("weight_norm", {})
    sizes = [(float(weight_norm[n].norm()), float(first[n].norm())) for n in layers if n in weight_norm and n in first]
    return middle(now / before for now, before in sizes if before > 0)


def has_learned(progress: Progress, fall: Fall | None) -> bool:
    """True if the loss has fallen since the start, beyond doubt, or falls fast."""
    return progress.learning or (fall is not None and fall.learned)


def flat(fall: Fall | None, limit: float) -> bool:
    """True if the loss has not fallen by ``limit`` since the start, nor risen much, and its noise lets that be seen."""
    if fall is None or fall.learned or not -5 * limit < fall.share < limit:
        return False
    falls = fall.drift < 0 and fall.drifts(limit / 2)
    return not falls and fall.share + 2 * fall.error < 2 * limit


def waking(layers: Mapping[str, Layer], gradient_rms: Mapping[str, Tensor] | None, initial: Mapping[str, Any]) -> bool:
    """True where half of the weight matrices or more had next to no gradient at the first step, beside the largest, and
    have ten times as much of it now or more.

    Branches that are scaled down on purpose (layer scale, Touvron et al. 2021) pass on next to nothing at first, and
    the loss stays flat until their scales have grown. One that begins at exactly 0 is on its way with the first update.
    """
    first, now = initial.get("gradient_rms", {}), gradient_rms or {}
    names = {layer.weight for layer in layers.values() if layer.weight in first and layer.weight in now}
    then, late = ({n: float(of[n]) for n in names if n} for of in (first, now))
    most_then, most_now = max(then.values(), default=0.0), max(late.values(), default=0.0)
    if not (0 < most_then < math.inf and 0 < most_now < math.inf):
        return False
    faint = [n for n in then if 0 < then[n] < FAINT * most_then]
    awake = [n for n in faint if late[n] / most_now > 10 * then[n] / most_then]
    return 2 * len(awake) >= len(then)


def began_elsewhere(
    window: Window,
    past: Sequence[Past],
    layers: Mapping[str, Layer],
    parameters: Parameters,
    initial: Mapping[str, Any],
) -> bool:
    """True where the run goes on with what was learned before, so that a loss that stays flat is no fault.

    Either the trainer's steps began above 0; or the weights look trained: norms of neurons drawn from one distribution
    differ by 1 / √(2 · fan-in) of their mean (if it is normal; if uniform, by less), those of trained ones by more.
    """
    return _looked_trained(window, layers, parameters, initial) or resumed(window, past)


@remembers_the_last  # which weights are trained may be others in another window
def _looked_trained(
    window: Window, layers: Mapping[str, Layer], parameters: Parameters, initial: Mapping[str, Any]
) -> bool:
    weights = set(trained_matrices(layers, parameters))
    spreads = []
    for name, norms in initial.get("weight_norm", {}).items():
        layer = layers.get(name)
        if layer is None or layer.weight not in weights or layer.neurons < 8 or not bool(norms.any()):
            continue
        # the middle half: a few neurons that were set by hand do not count
        quartiles = norms.quantile(norms.new_tensor([0.25, 0.75]))
        spreads.append(float((quartiles[1] - quartiles[0]) / 1.349 / norms.median()) * math.sqrt(2 * layer.fan_in))
    return bool(spreads) and max(spreads) > UNEVEN


def resumed(window: Window, past: Sequence[Past]) -> bool:
    """True if the trainer had taken steps before this run."""
    first = past[0].window if past else window
    pace = (window.step - first.step) / (window.seen - first.seen) if window.seen > first.seen else 1.0
    return first.step - pace * first.seen >= 1


def tells_apart(layers: Mapping[str, Layer], activation_std: Mapping[str, Tensor] | None, progress: Progress) -> bool:
    """True if the outputs vary more over rows than the loss is large: no network does so that has not learned.

    Of squared errors that is a coefficient of determination above a half; logits of a classifier vary by 0.1 at the
    start and by 10 at the end.
    """
    stds = activation_std or {}
    outputs = [float(stds[name].square().mean()) for name, layer in layers.items() if layer.output and name in stds]
    return bool(outputs) and max(outputs) > abs(progress.now)


def median_snr(gradient_snr: Mapping[str, Tensor] | None, names: Iterable[str], past: list[Past]) -> float:
    """Gradient SNR over matrices and the last five windows; NaN if it is not known."""
    windows = [entry.measures.get("gradient_snr", {}) for entry in past[-4:]] + [gradient_snr or {}]
    names = list(names)
    found = [x for x in (of_all(measures, names) for measures in windows) if math.isfinite(x)]
    return fmean(found) if found else math.nan


def blow_up(losses: Sequence[float]) -> list[float]:
    """Losses of the steps before the first NaN or infinity, as far back as each is larger than the one before; empty
    where there is neither, or where they are not above 0."""
    broken = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), 0)
    stretch = list(losses[max(broken - 1, 0) : broken])
    for loss in reversed(losses[: max(broken - 1, 0)]):
        if not 0 < loss < stretch[0]:
            break
        stretch.insert(0, loss)
    return stretch if stretch and stretch[0] > 0 else []


def rate_rises(window: Window, past: list[Past], update_ratio: Mapping[str, Tensor] | None, names: list[str]) -> bool:
    """True during warm-up: the learning rate has grown since the window before, or update ratios grow each window."""
    if not past:
        return False
    before = past[-1].window.learning_rate
    if not math.isnan(before) and not math.isnan(window.learning_rate):
        return window.learning_rate > 1.02 * before
    ratios = [of_all(entry.measures.get("update_ratio", {}), names) for entry in past[-2:]]
    ratios.append(of_all(update_ratio or {}, names))
    return len(ratios) == 3 and ratios[2] > 1.3 * ratios[1] > 1.3 * 1.3 * ratios[0]
