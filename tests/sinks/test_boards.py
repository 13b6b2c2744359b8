"""What each remote logger keeps, read back from its own files, offline."""

import csv
import io
import json
import zipfile

import pytest
from PIL import Image

from lightning_neurohealth.sinks import Loggers, Place
from lightning_neurohealth.sinks.boards import tables
from tests.reporting.by_hand import make_finding, make_report

NAME = 'a/b[0] "q"|<i>,ä'


def two_windows():
    first = make_report([NAME, "head"])
    return [first, make_report([NAME, "head"], [make_finding(NAME, value=0.75)], index=1, previous=first)]


def logged(logger):
    """Write two windows, the second one sick."""
    sink = Loggers()
    sink.open(Place(loggers=[logger]))
    for report in two_windows():
        sink.write(report, report.step - 1)
    assert list(sink._boards) == [logger]


def is_findings(columns, rows):
    (finding,) = two_windows()[1].findings
    assert columns == ["severity", "condition", "layer", "since step", "what", "why", "do"]
    assert rows == [["SERIOUS", "dead_neurons", NAME, "40", finding.message, finding.cause, finding.remedy]]


def is_picture(data):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    assert image.size[0] >= 500
    assert len(image.getcolors(10**6)) > 20


def test_tables_hold_findings_and_numbers():
    both = tables(two_windows()[1])
    is_findings(list(both["findings"]), [list(row) for row in zip(*both["findings"].values(), strict=True)])
    assert both["numbers"]["layer"] == [NAME, "head"]
    assert both["numbers"]["on rate"] == ["44%", ""]


@pytest.mark.slow
def test_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="p", settings=wandb.Settings(x_disable_stats=True))
    logged(logger)
    assert logger.experiment.summary["neurohealth/score"] == pytest.approx(2 / 3)
    assert logger.experiment.summary["neurohealth/dead_neurons"] == 0.75
    assert logger.experiment.summary["trainer/global_step"] == 79
    spread = logger.experiment.summary["neurohealth/on_rate"]
    assert (spread["_type"], sum(spread["values"]), len(spread["values"])) == ("histogram", 8, 64)
    assert (spread["bins"][0], spread["bins"][-1]) == (0, 1)
    logger.experiment.finish()
    (_, found) = sorted(tmp_path.glob("wandb/offline-run-*/files/media/table/neurohealth/findings_*"), key=order)
    table = json.loads(found.read_text(encoding="utf-8"))
    is_findings(table["columns"], table["data"])
    pictures = list(tmp_path.glob("wandb/offline-run-*/files/media/images/neurohealth/layers_*.png"))
    assert len(pictures) == 2
    is_picture(pictures[0].read_bytes())


def order(path):
    return int(path.name.split("_")[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of mlflow's own calls of sqlalchemy
def test_mlflow(tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from lightning.pytorch.loggers import MLFlowLogger

    logger = MLFlowLogger(tracking_uri=f"sqlite:///{tmp_path / 'm.db'}", artifact_location=str(tmp_path / "artifacts"))
    logged(logger)
    client = logger.experiment
    points = [(m.step, m.value) for m in client.get_metric_history(logger.run_id, "neurohealth/score")]
    assert points == [(39, 1.0), (79, pytest.approx(2 / 3))]
    kept = {artifact.path for artifact in client.list_artifacts(logger.run_id, "neurohealth")}
    assert kept == {
        f"neurohealth/{name}_{step}.{end}"
        for name, end in (("findings", "json"), ("numbers", "json"), ("layers", "png"), ("distributions", "png"))
        for step in ("00000039", "00000079")
    }
    frame = client.load_table(logger.experiment_id, "neurohealth/findings_00000079.json", run_ids=[logger.run_id])
    is_findings(list(frame), frame.astype(str).values.tolist())  # pandas takes the step for a number
    for name in ("layers", "distributions"):
        (picture,) = tmp_path.glob(f"artifacts/**/{name}_00000079.png")
        is_picture(picture.read_bytes())

    # it takes no more than 1,000 numbers at a time, and few characters
    sink = Loggers()
    sink.open(Place(loggers=[logger], log="layers"))
    sink.write(make_report([f"relu#{i}" for i in range(300)]), 99)
    metrics = client.get_run(logger.run_id).data.metrics
    assert sum(name.endswith("/on_rate") for name in metrics) == 300
    assert metrics["neurohealth/relu_299/on_rate"] == 0.4375


class Archive:
    """The zip file of an offline experiment of Comet."""

    def __init__(self, folder):
        (file,) = folder.glob("*.zip")
        self.files = zipfile.ZipFile(file)
        lines = self.files.read("messages.json").decode().splitlines()
        self.messages = [json.loads(line) for line in lines]

    def points(self, name):
        metrics = [message["payload"]["metric"] for message in self.messages if message["type"] == "metric_msg"]
        return [(metric["step"], metric["metricValue"]) for metric in metrics if metric["metricName"] == name]

    def uploads(self, kind, key):
        """Name, step and content of each."""
        sent = [message["payload"] for message in self.messages if message["type"] == "file_upload"]
        chosen = [upload for upload in sent if upload["upload_type"] == kind]
        return [
            (u["additional_params"][key], u["additional_params"]["step"], self.files.read(u["file_path"]))
            for u in chosen
        ]


@pytest.mark.slow
def test_comet(tmp_path, monkeypatch):
    pytest.importorskip("comet_ml")
    from lightning.pytorch.loggers import CometLogger

    # CometLogger(online=False) of Lightning 2.6 also switches the experiment off
    monkeypatch.setenv("COMET_START_ONLINE", "false")
    monkeypatch.setenv("COMET_DISABLE_AUTO_LOGGING", "1")
    quiet = dict.fromkeys(
        ("auto_output_logging", "log_env_details", "log_code", "log_git_metadata", "parse_args"), False
    )
    logger = CometLogger(project="p", offline_directory=str(tmp_path), display_summary_level=0, **quiet)
    logged(logger)
    logger.experiment.end()

    archive = Archive(tmp_path)
    assert archive.points("neurohealth/score") == [(39, 1.0), (79, pytest.approx(2 / 3))]
    assert archive.points("neurohealth/dead_neurons") == [(79, 0.75)]
    tables = {name: content for name, _, content in archive.uploads("asset", "fileName")}
    assert set(tables) == {
        f"neurohealth/{name}.csv" for name in ("findings_00000079", "numbers_00000039", "numbers_00000079")
    }
    columns, *rows = csv.reader(io.StringIO(tables["neurohealth/findings_00000079.csv"].decode()))
    is_findings(columns, rows)
    pictures = archive.uploads("visualization", "figName")
    assert [(name, step) for name, step, _ in pictures] == [("neurohealth/layers", 39), ("neurohealth/layers", 79)]
    assert all(content.startswith(b"<?xml") for _, _, content in pictures)
    spread = archive.uploads("histogram3d", "fileName")
    assert [(name, step) for name, step, _ in spread] == [("neurohealth/on_rate", 39), ("neurohealth/on_rate", 79)]
