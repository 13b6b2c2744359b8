import csv
import io
import sys
import warnings

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from lightning_neurohealth import NeuronHealth
from lightning_neurohealth.reporting.markdown import markdown
from lightning_neurohealth.sinks import Loggers, Place
from lightning_neurohealth.sinks.boards import board_of, tensorboard
from tests.reporting.by_hand import make_finding, make_report


class Recorder:
    """A logger that keeps what it gets."""

    def __init__(self):
        self.calls = []

    def log_metrics(self, metrics, step=None):
        self.calls.append((metrics, step))

    def keys(self, call=-1):
        return [key.removeprefix("neurohealth/") for key in self.calls[call][0]]

    def values(self, key):
        return [metrics.get(f"neurohealth/{key}") for metrics, _ in self.calls]


class Broken(Recorder):
    def log_metrics(self, metrics, step=None):
        super().log_metrics(metrics, step)
        raise OSError("no space left")


def opened(*loggers, log="summary"):
    sink = Loggers()
    sink.open(Place(loggers=loggers, log=log))
    return sink


def windows(*conditions):
    """A report a window, each with findings of these conditions, the first the worst."""
    reports = []
    for index, names in enumerate(conditions):
        before = reports[-1] if reports else None
        found = [make_finding(condition=name, value=0.5 + i / 100) for i, name in enumerate(names)]
        recovered = [f for f in before.findings if f.condition not in names] if before else []
        reports.append(make_report(findings=found, index=index, previous=before, recovered=recovered))
    return reports


def write(sink, reports):
    for report in reports:
        sink.write(report, report.step - 1)


def test_score_and_conditions():
    logger = Recorder()
    finding = make_finding(severity=3, value=0.75)
    write(opened(logger), [make_report(), make_report(findings=[finding, make_finding("fc2", value=0.9)], index=1)])
    assert logger.calls[0] == ({"neurohealth/score": 1.0}, 39)
    assert logger.calls[1] == ({"neurohealth/score": pytest.approx(1 - 5 / 9), "neurohealth/dead_neurons": 0.75}, 79)


def test_a_recovered_condition_comes_down_and_stays():
    logger = Recorder()
    write(opened(logger), windows(["dead_neurons"], [], [], ["saturation"]))
    assert logger.values("dead_neurons") == [0.5, 0.0, 0.0, 0.0]
    assert logger.values("saturation") == [None, None, None, 0.5]


def test_a_second_run_starts_without_the_conditions_of_the_first():
    logger = Recorder()
    sink = opened(logger)
    write(sink, windows(["dead_neurons"]))
    sink.open(sink.place)
    write(sink, windows([]))
    assert logger.keys() == ["score"]


def test_at_most_ten_scalars_and_the_worst():
    logger = Recorder()
    names = [f"condition{i}" for i in range(15)]
    write(opened(logger), windows(names, names))
    assert logger.keys(0) == logger.keys(1) == ["score", *names[:9]]


def test_a_full_board_still_brings_down_what_has_recovered():
    logger = Recorder()
    first, second = [f"first{i}" for i in range(9)], [f"second{i}" for i in range(9)]
    write(opened(logger), windows(first, second, second))
    assert all(len(metrics) <= 10 for metrics, _ in logger.calls)
    assert all(logger.values(name) == [pytest.approx(0.5, abs=0.1), 0.0, None] for name in first)
    assert all(logger.values(name)[2] for name in second)


def test_layers_come_in_one_call():
    logger = Recorder()
    write(opened(logger, log="layers"), [make_report(["fc1", "head"])])
    assert len(logger.calls) == 1
    metrics = logger.calls[0][0]
    assert len(metrics) == 1 + 2 * 4
    assert metrics["neurohealth/fc1/on_rate"] == 0.4375
    assert metrics["neurohealth/head/gradient_rms"] == pytest.approx(0.031)
    assert metrics["neurohealth/score"] == 1.0


def test_none_logs_nothing(tmp_path):
    logger, board = Recorder(), TensorBoardLogger(tmp_path)
    write(opened(logger, board, log="none"), windows(["dead_neurons"]))
    assert logger.calls == []
    assert list(tmp_path.iterdir()) == []


def test_without_loggers():
    sink = opened()
    write(sink, windows(["dead_neurons"]))
    sink.close(None)


def test_a_logger_that_fails_is_named_once_and_the_others_go_on():
    first, broken, last = Recorder(), Broken(), Recorder()
    sink = opened(first, broken, last)
    reports = windows([], [], [])
    with pytest.warns(RuntimeWarning, match="Broken failed and is left out from now on: OSError") as caught:
        write(sink, reports)
    assert len(caught) == 1
    assert (len(first.calls), len(broken.calls), len(last.calls)) == (3, 1, 3)


def test_a_logger_cannot_spoil_what_the_next_one_gets():
    class Greedy(Recorder):
        def log_metrics(self, metrics, step=None):
            metrics.clear()

    logger = Recorder()
    write(opened(Greedy(), logger), windows([]))
    assert logger.keys() == ["score"]


class Experiment:
    def add_text(self, tag, text, step):
        raise TypeError("no text today")


class TensorBoardLookalike(Recorder):
    experiment = Experiment()


TensorBoardLookalike.__name__ = "TensorBoardLogger"


def test_a_table_that_fails_does_not_cost_the_charts():
    board = TensorBoardLookalike()
    sink = opened(board)
    with pytest.warns(RuntimeWarning, match="TensorBoardLogger's table and picture failed") as caught:
        write(sink, windows([], [], []))
    assert len(caught) == 1
    assert len(board.calls) == 3


def test_subclasses_are_tensorboards(tmp_path):
    class Mine(TensorBoardLogger):
        pass

    assert board_of(Mine(tmp_path)) is tensorboard
    assert board_of(CSVLogger(tmp_path)) is None


def events(folder):
    return EventAccumulator(
        str(folder), size_guidance={"images": 0, "tensors": 0, "scalars": 0, "histograms": 0}
    ).Reload()


def shown(board, reports):
    """What TensorBoard reads of these windows."""
    sink = opened(board)
    write(sink, reports)
    board.finalize("success")
    return events(board.log_dir)


def test_tensorboard(tmp_path):
    read = shown(TensorBoardLogger(tmp_path), windows([], ["dead_neurons"]))
    assert [(e.step, e.value) for e in read.Scalars("neurohealth/score")] == [(39, 1.0), (79, pytest.approx(7 / 9))]
    assert [(e.step, e.value) for e in read.Scalars("neurohealth/dead_neurons")] == [(79, 0.5)]
    texts = [e.tensor_proto.string_val[0].decode() for e in read.Tensors("neurohealth/report/text_summary")]
    assert "**healthy**" in texts[0]
    assert "SERIOUS dead\\_neurons" in texts[1]
    pictures = read.Images("neurohealth/layers")
    assert [event.step for event in pictures] == [39, 79]
    image = Image.open(io.BytesIO(pictures[1].encoded_image_string)).convert("RGB")
    assert image.size[0] >= 500
    assert len(image.getcolors(10**6)) > 20
    assert set(read.Tags()["histograms"]) == {"neurohealth/on_rate"}
    (last,) = [event for event in read.Histograms("neurohealth/on_rate") if event.step == 79]
    value = last.histogram_value
    assert (value.num, value.min, value.max) == (12, 0, 1)  # three layers of four neurons
    assert value.sum == pytest.approx(3 * 1.75)


def test_a_long_run_draws_only_some_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_neurohealth.sinks.loggers.PICTURES", 3)
    reports = windows(*[[]] * 8)
    read = shown(TensorBoardLogger(tmp_path), reports)
    drawn = [reports[i].step - 1 for i in (0, 1, 2, 3, 6)]
    assert [event.step for event in read.Images("neurohealth/layers")] == drawn
    assert len(read.Tensors("neurohealth/report/text_summary")) == 8


def test_without_matplotlib_there_is_no_picture_and_no_word(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = shown(TensorBoardLogger(tmp_path), windows([], []))
    assert read.Tags()["images"] == []
    assert len(read.Tensors("neurohealth/report/text_summary")) == 2


def as_html(text):
    """What TensorBoard's text page makes of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of the parts that it brings along calls itself deprecated
        from tensorboard.plugin_util import markdown_to_safe_html
    return markdown_to_safe_html(text)


@pytest.mark.parametrize(
    ("name", "html"),
    [
        ("fc1", "fc1"),
        ("a|b", "a|b"),
        ("a[0](x)", "a[0](x)"),
        ("__call__*2*", "__call__*2*"),
        ("`x`", "`x`"),
        ("<em>x</em>", "&lt;em&gt;x&lt;/em&gt;"),
        ("new\nline", "new\\nline"),
        ("x/y, z", "x/y, z"),
        ("n" * 200, "n" * 200),
    ],
)
def test_markdown_shows_any_name(name, html):
    page = as_html(markdown(make_report([name, "head"], [make_finding(name)])))
    assert f"<td>{html}</td>" in page
    assert f"SERIOUS dead_neurons</strong> in {html}, since epoch 0" in page
    assert page.count("<tr>") == 3


def test_markdown_is_bounded():
    names = [f"block{i}" for i in range(40)]
    report = make_report(names, [make_finding(names[30])], recovered=[make_finding("block2")], missed=["embed[0]"])
    text = markdown(report)
    assert text.count("\n| ") == 2 + 12
    assert "… and 28 more layers" in text
    assert "recovered: dead\\_neurons in block2" in text
    assert "not watched: embed\\[0\\] \\(report.coverage says why\\)" in text


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        with torch.no_grad():
            self.body[2].bias[:5] = -50

    def training_step(self, batch, index):
        loss = (self.body(batch) - 1).square().mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(logger, health, folder, epochs=2):
    trainer = Trainer(
        max_epochs=epochs,
        logger=logger,
        callbacks=[health],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        accelerator="cpu",
    )
    trainer.fit(Net(), torch.utils.data.DataLoader(torch.randn(1280, 4), batch_size=128))
    return health


def test_a_whole_run(tmp_path):
    loggers = [TensorBoardLogger(tmp_path / "board"), CSVLogger(tmp_path / "csv")]
    health = fit(loggers, NeuronHealth(every_n_steps=1), tmp_path)
    scalars = health.report.scalars()
    assert "dead_neurons" in scalars

    read = events(loggers[0].log_dir)
    with open(f"{loggers[1].log_dir}/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for name, value in scalars.items():
        key = f"neurohealth/{name}"
        assert read.Scalars(key)[-1].value == pytest.approx(value)
        assert float([row[key] for row in rows if row[key]][-1]) == pytest.approx(value)
    assert len(read.Scalars("neurohealth/score")) == len(health.reports) == 2
    assert len(read.Images("neurohealth/layers")) == 2
    assert len(read.Tensors("neurohealth/report/text_summary")) == 2
    folder = tmp_path / "board" / "lightning_logs" / "version_0" / "neurohealth"
    assert (folder / "health.txt").read_text(encoding="utf-8") == f"{health.report}\n"


def test_scalars_stand_where_the_loss_of_the_same_epoch_does(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    fit(logger, NeuronHealth(every_n_steps=1, sinks=[Loggers()]), tmp_path)
    read = events(logger.log_dir)
    assert [e.step for e in read.Scalars("neurohealth/score")] == [e.step for e in read.Scalars("loss")]


def test_a_run_without_loggers(tmp_path):
    health = fit(False, NeuronHealth(every_n_steps=1, sinks=[Loggers()]), tmp_path, epochs=1)
    assert len(health.reports) == 1
    assert list(tmp_path.iterdir()) == []
