"""What holds for every measure, and what is said of one that is written wrongly."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lightning_neurohealth.measures
from lightning_neurohealth.discovery import snake_case
from lightning_neurohealth.measures import Measure, all_measures
from lightning_neurohealth.signals import Signal
from lightning_neurohealth.statistics import Subject
from lightning_neurohealth.statistics.magnitude import Magnitude
from lightning_neurohealth.statistics.moments import Moments
from tests.measures.harness import Batches, compute, layer, parameters, run

HERE = Path(__file__)
FOLDER = Path(lightning_neurohealth.measures.__path__[0])
FIRST_STEPS = {"nonfinite_step", "nonfinite_loss_step", "nonfinite_gradient_step"}  # infinite where all is well
# tanh has tails, slopes and two ends
LAYER = layer(5, nn.Tanh(), parts=("a", "b", "c", "d", "e"), places=5, fan_in=4, fan_out=3, nonnegative=True)
RELATIVE = {"dormancy", "fitness", "redundancy", "twin_distance"}  # to the other neurons of the layer
OF_A_NEURON = [m for m in all_measures().values() if m.subject == "layer" and m.name not in RELATIVE]
SHAPE = re.compile(r"``\[\w+\]``|scalar|one number a parameter")
READS_AS = re.compile(r"Sources?: \S|\n\n *\S|infinite if none")

every_measure = pytest.mark.parametrize("measure", all_measures().values(), ids=lambda m: m.name)


def test_every_file_holds_the_measure_of_its_name() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base"}
    assert files == set(all_measures())


@every_measure
def test_one_name_leads_to_all_places(measure: Measure) -> None:
    assert measure.name == snake_case(type(measure).__name__) == Path(inspect.getfile(type(measure))).stem
    assert (HERE.parents[1] / "measures" / f"test_{measure.name}.py").exists()


@every_measure
def test_says_its_shape_and_how_to_read_it(measure: Measure) -> None:
    text = vars(type(measure))["__doc__"] or ""
    assert SHAPE.search(text), "no shape"
    assert READS_AS.search(text), "neither a source nor how to read it"


@every_measure
def test_belongs_to_a_set(measure: Measure) -> None:
    assert measure.level in ("economy", "standard", "full")


@every_measure
def test_gives_finite_numbers_on_ordinary_data(measure: Measure) -> None:
    generator = torch.Generator().manual_seed(0)
    subject = {"layer": LAYER, "parameters": parameters(), "run": run()}[measure.subject]
    rows = (7, 1, 13) if measure.subject == "layer" else (1, 1, 1)
    given = {
        signal.value: Batches(tuple(torch.rand((n, width(signal, subject)), generator=generator) + 0.1 for n in rows))
        for signal in measure.needs
    }
    value = compute(measure.name, given, subject)
    assert value.dtype in (np.float32, np.float64)
    assert value.shape in ((), (subject.neurons,)) or measure.subject == "run"
    assert np.isposinf(value) if measure.name in FIRST_STEPS else np.isfinite(value).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("measure", OF_A_NEURON, ids=lambda m: m.name)
def test_what_is_not_finite_stays_in_its_neuron(measure: Measure, bad: float) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = {signal.value: torch.rand((9, LAYER.neurons), generator=generator) for signal in measure.needs}
    spoiled = {name: rows.clone() for name, rows in clean.items()}
    for rows in spoiled.values():
        rows[4, 2] = bad
    before, after = (
        compute(measure.name, {name: Batches(tuple(rows.split([2, 1, 6]))) for name, rows in given.items()}, LAYER)
        for given in (clean, spoiled)
    )
    if before.shape == (LAYER.neurons,):
        np.testing.assert_array_equal(np.delete(after, 2), np.delete(before, 2))
    else:
        assert before.shape == ()


def _entropy(rows: np.ndarray) -> np.ndarray:
    shares = [np.unique(np.floor(x[~np.isnan(x)].clip(-1, 1) * 32), return_counts=True)[1] for x in rows.T]
    return np.array([-sum(n / c.sum() * np.log2(n / c.sum()) for n in c) for c in shares])


# Of a tanh layer; as numpy counts them, rows with NaN and infinity included
NOT_FINITE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "on_rate": lambda a: (a > 0).mean(0),
    "zero_rate": lambda a: (abs(a) <= 1e-8).mean(0),
    "nonfinite_rate": lambda a: (~np.isfinite(a)).mean(0),
    "saturation_rate": lambda a: (abs(a) >= 0.99).mean(0),
    "tail_rate": lambda z: (abs(z) >= 2.5).mean(0),
    "slope": lambda z: (1 - np.tanh(z) ** 2).mean(0),
    "activation_magnitude": lambda a: abs(a).mean(0),
    "activation_mean": lambda a: a.mean(0),
    "activation_std": lambda a: a.std(0),
    "activation_min": lambda a: a.min(0),
    "activation_max": lambda a: a.max(0),
    "activation_entropy": _entropy,
    "dormancy": lambda a: abs(a).mean(0) / abs(a).mean(0).mean(),
    "preactivation_mean": lambda z: z.mean(0),
    "preactivation_std": lambda z: z.std(0),
    "gradient_flow": lambda g: abs(g).mean(0),
    "gradient_pass_rate": lambda g: (g != 0).mean(0),
    "gradient_variance": lambda g: g.var(),
    "taylor": lambda p: abs(p).mean(0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NOT_FINITE)
def test_nan_and_infinity_count_as_what_they_are(name: str, dtype: torch.dtype) -> None:
    rows = torch.rand((9, 5), generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows[2, 1], rows[3, 2], rows[4, 3], rows[5, 4] = np.nan, np.inf, -np.inf, 0.0
    batch = Batches((rows.to(dtype),))
    with np.errstate(invalid="ignore"):
        expected = NOT_FINITE[name](batch.rows)
    np.testing.assert_allclose(compute(name, batch, layer(5, nn.Tanh())), expected, rtol=1e-6)


def width(signal: Signal, subject: Subject) -> int:
    """How many numbers a row of ``signal`` has."""
    return len(parameters().sample_owners) if signal is Signal.GRADIENT_SAMPLE else subject.neurons


# A measure that is written wrongly is refused as soon as its class is defined.


def test_unknown_signal_is_refused_with_what_comes_near() -> None:
    with pytest.raises(TypeError) as error:

        class Wrong(Measure):
            def compute(self, activations: Magnitude) -> Tensor:
                return activations.sums

    said = str(error.value)
    assert str(HERE) in said
    assert "Wrong.compute" in said
    assert "'activations'" in said
    assert "did you mean 'activation'" in said


def test_a_name_like_none_is_refused_with_all_that_are_known() -> None:
    with pytest.raises(TypeError, match=r"'xyz'.*known are activation.*loss.*preactivation"):

        class Wrong(Measure):
            def compute(self, xyz: Magnitude) -> Tensor:
                return xyz.sums


def test_missing_annotation_is_refused() -> None:
    with pytest.raises(TypeError, match=re.escape(str(HERE)) + r".*Wrong\.compute.*'activation' needs a statistic"):

        class Wrong(Measure):
            def compute(self, activation) -> Tensor:  # type: ignore[no-untyped-def]
                return activation.sums


@pytest.mark.parametrize("annotation", [Tensor, int, "Magnitude | None"])
def test_annotation_that_is_no_statistic_is_refused(annotation: object) -> None:
    def compute(self: Measure, activation: object) -> Tensor:
        raise NotImplementedError  # it is refused before anybody computes it

    compute.__annotations__["activation"] = annotation
    with pytest.raises(TypeError, match=r"Wrong\.compute.*'activation' needs a statistic as its annotation, got"):
        type("Wrong", (Measure,), {"compute": compute, "__module__": __name__})


def test_signals_of_different_subjects_are_refused() -> None:
    with pytest.raises(TypeError, match=re.escape(str(HERE)) + r".*Wrong\.compute.*'layer', 'run'"):

        class Wrong(Measure):
            def compute(self, activation: Magnitude, loss: Moments) -> Tensor:
                return activation.sums + loss.sums


def test_no_signal_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.compute: asks for signals of nothing"):

        class Wrong(Measure):
            def compute(self) -> Tensor:
                raise NotImplementedError  # likewise


def test_a_right_one_says_what_it_needs() -> None:
    class WellWritten(Measure):
        def compute(self, activation: Magnitude, preactivation: Moments, subject: object) -> Tensor:
            return activation.sums + preactivation.sums

    assert WellWritten.name == "well_written"
    assert WellWritten.subject == "layer"
    assert {signal.value: kind for signal, kind in WellWritten.needs.items()} == {
        "activation": Magnitude,
        "preactivation": Moments,
    }
