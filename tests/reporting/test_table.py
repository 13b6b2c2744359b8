import io

import pytest
import rich.console
import torch
from rich.cells import cell_len

from lightning_neurohealth.reporting.markdown import markdown
from lightning_neurohealth.reporting.spelling import encodable, shorten
from tests.reporting.by_hand import make_finding, make_report

HEADS = ["layer", "activation", "neurons", "on rate", "zero", "saturated", "spread", "gradient", "health"]
LONG = "a" * 100 + "[bold red]" + "b" * 90


def printed(report, width=100, encoding="utf-8"):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    rich.console.Console(file=file, width=width, color_system=None).print(report)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def heads(text):
    line = next(line for line in text.splitlines() if line.startswith("layer"))
    return [head for head in HEADS if head in line]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_no_line_is_wider_than_asked(width, encoding):
    names = ["fc1", "encoder.layers.11.attention.self.output", LONG, "schicht_äöü", "head"]
    report = make_report(names, [make_finding(LONG, "vanishing_activations"), make_finding(LONG, "saturation", 1)])
    text = printed(report, width, encoding)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "SERIOUS" in text
    assert "vanishing_activations" in text


def test_columns_give_way_to_a_narrow_terminal():
    report = make_report(findings=[make_finding()], measures={"saturation_rate": torch.full((4,), 0.9)})
    assert heads(printed(report, 120)) == HEADS
    assert heads(printed(report, 80)) == [head for head in HEADS if head != "spread"]
    assert heads(printed(report, 60)) == ["layer", "neurons", "on rate", "zero", "saturated", "health"]
    assert heads(printed(report, 40)) == ["layer", "neurons", "health"]


def test_a_second_finding_adds_no_column_and_takes_none_away():
    one, two = make_report(findings=[make_finding()]), make_report(findings=[make_finding(), make_finding("fc2")])
    for width in (60, 80, 120):
        assert heads(printed(one, width)) == heads(printed(two, width))


def test_a_measure_that_no_layer_has_gets_no_column():
    assert "saturated" not in heads(printed(make_report(findings=[make_finding()]), 200))


def test_numbers_of_a_layer():
    lines = printed(make_report(findings=[make_finding(), make_finding("head")])).splitlines()
    assert lines[3].split() == ["fc1", "relu", "4", "44%", "56%", "1.5", "0.031", "dead_neurons"]
    assert lines[4].split() == ["head", "4", "1.5", "0.031", "dead_neurons"]  # no rates without an activation function


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0.0, "0%"), (0.001, "<1%"), (0.5, "50%"), (0.999, ">99%"), (1.0, "100%"), (float("nan"), "NaN")],
)
def test_never_and_always_are_exact(rate, shown):
    report = make_report(findings=[make_finding()], measures={"on_rate": torch.full((4,), rate)})
    assert printed(report).splitlines()[3].split()[3] == shown


def test_infinite_numbers_are_named():
    measures = {"activation_std": torch.tensor([1.0, float("inf")])}
    assert " inf " in printed(make_report(findings=[make_finding()], measures=measures))


def test_wording_of_a_finding():
    text = printed(make_report(findings=[make_finding(since=(3, 92), message="8 of 32 neurons are off")]))
    assert "SERIOUS dead_neurons in fc1, since epoch 3, step 92: 8 of 32 neurons are off\n" in text
    assert "  why their pre-activation lies at -50 ± 1.5, in the flat part of relu" in text
    assert "  do  lower the learning rate or warm it up" in text
    assert "1 finding, worst SERIOUS (score 0.78)" in text


def different(names):
    """A finding on each, each with a cause of its own."""
    return [make_finding(name, cause=f"because of {'x' * i}") for i, name in enumerate(names)]


def test_of_many_findings_the_worst_are_told_and_the_others_counted():
    names = [f"block{i}" for i in range(30)]
    text = printed(make_report(names, [*different(names[:29]), make_finding("block29", severity=3)]))
    assert "CRITICAL dead_neurons in block29" in text
    assert text.count("SERIOUS dead_neurons in block") == 19
    assert text.count("  do  ") == 12
    assert "… and 10 more: 10 dead_neurons\n" in text


@pytest.mark.parametrize("show", [printed, markdown], ids=["table", "markdown"])
def test_what_is_the_same_of_many_layers_is_told_once(show):
    names = [f"block{i}" for i in range(30)]
    same = [make_finding(name, message=f"{i} of 32 neurons are off") for i, name in enumerate(names[:-1])]
    worst = make_finding("block29", severity=3, since=(3, 92), message="32 of 32 neurons are off")
    text = " ".join(show(make_report(names, [*same, worst])).replace("*", "").replace("\\", "").split())
    assert "CRITICAL dead_neurons in 30 layers (1 CRITICAL, 29 SERIOUS): block29, block0, block1," in text
    assert "worst block29, since epoch 3, step 92: 32 of 32 neurons are off" in text
    assert text.count("lower the learning rate") == 1


def test_the_score_is_one_only_where_nothing_was_found():
    names = [f"block{i}" for i in range(1000)]
    assert "worst CRITICAL (score 0.99)" in printed(make_report(names, [make_finding("block3", severity=3)]))
    all_but_one = [make_finding(name, severity=3 if name != "block3" else 2) for name in names]
    assert "worst CRITICAL (score 0.01)" in printed(make_report(names, all_but_one))


def test_a_run_finding_and_a_recovered_one():
    text = printed(make_report(findings=[make_finding(None, "loss_spike", 1)], recovered=[make_finding("fc2")]))
    assert "WARNING loss_spike in run, since" in text
    assert "recovered: dead_neurons in fc2" in text


@pytest.mark.parametrize(
    ("missed", "line"),
    [
        (["emb"], "not watched: emb (report.coverage says why)"),
        (["", "a[b]", "c", "d", "e"], "not watched: the model itself, a[b], c and 2 more (report.coverage says why)"),
    ],
)
def test_what_is_not_watched_is_named(missed, line):
    assert printed(make_report(missed=missed)).splitlines()[-1] == line
    assert "not watched" not in printed(make_report())


def rows(text):
    return [line.split()[0] for line in text.splitlines() if line.startswith("block")]


def test_sick_layers_come_first_and_the_worst_of_them_before_others():
    names = [f"block{i}" for i in range(40)]
    text = printed(make_report(names, [make_finding("block3"), make_finding("block7", severity=3)]))
    assert rows(text) == ["block7", "block3"]
    assert "38 healthy: block0, block1, block2, block4, " in text


@pytest.mark.parametrize("width", [40, 60, 100])
def test_healthy_layers_take_one_line(width):
    names = [f"block{i}" for i in range(1000)]
    lines = printed(make_report(names), width).splitlines()
    (line,) = [line for line in lines if line.startswith("1000 healthy: block0")]
    assert line.endswith(", …")
    assert width - 12 < cell_len(line) <= width


def test_a_name_too_long_for_the_line_leaves_the_number():
    assert printed(make_report([LONG, LONG + "2"]), 40).splitlines()[-1] == "2 healthy"


def test_of_very_many_sick_layers_the_first_are_shown():
    names = [f"block{i}" for i in range(1000)]
    text = printed(make_report(names, [make_finding(name) for name in names]), 40)
    assert [line.split()[0] for line in text.splitlines() if line.endswith("dead neurons")] == names[:20]
    assert "… and 980 more sick layers\n" in text
    assert "SERIOUS dead_neurons in 1000 layers" in text
    assert len(text.splitlines()) < 60


def test_markup_in_names_is_text(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    name = "a[0][bold red]x[/bold red]:smile:"
    report = make_report([name, "head"], [make_finding(name)], recovered=[make_finding(name, "saturation")])
    for text in (printed(report, 200), str(report)):
        assert text.count(name) == 4  # row, place and message of the finding, recovered
    assert name in report._repr_html_()


def test_html_is_escaped():
    page = make_report(["<script>", "head"])._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_a_name_with_a_line_break_stays_in_its_row():
    lines = printed(make_report(["new\nline", "head"], [make_finding("new\nline")])).splitlines()
    assert lines[3].split()[:2] == ["new\\nline", "relu"]


def test_ascii_output_spells_what_it_lacks():
    text = printed(make_report([LONG, "head"], [make_finding(LONG, message="8 × 4 → Ω")]), encoding="ascii")
    assert text.isascii()
    assert "aaa...bbb" in text
    assert "8 x 4 -> ?" in text
    assert "-50 +/- 1.5" in text
    assert text.splitlines()[2].strip("- ") == ""


def test_a_report_without_layers():
    assert printed(make_report([])) == "Neuron health epoch 0, step 40, 8 of 40 steps measured: healthy\n"


@pytest.mark.parametrize(
    ("name", "width", "short"),
    [
        ("fc1", 10, "fc1"),
        ("a" * 100 + "b" * 100, 10, "aaa…bbbbbb"),
        ("encoder.layers.11.output", 20, "e.layers.11.output"),
        ("encoder.layers.11.output", 14, "e.l.11.output"),
        ("encoder.11.attention.output", 14, "e.11.a.output"),
        ("encoder.layers.11.output", 10, "…11.output"),
        ("encoder.layers.3.block.q.linear", 14, "…3.b.q.linear"),
        ("encoder.layers.3.block.q.linear", 12, "…3…q.linear"),
        ("layers.3.block.q.linear", 9, "…3…linear"),
        ("3.block.linear", 8, "3…linear"),
        ("encoder.layers.11.output", 8, "e.…utput"),
    ],
)
def test_shorten(name, width, short):
    assert shorten(name, width) == short


def test_encodable_keeps_what_fits():
    assert encodable("± Ω …", "utf-8") == "± Ω …"
    assert encodable("± ä …", "cp1252") == "± ä …"
    assert encodable("ä Ω …", "latin-1") == "ä ? ..."
    assert encodable("\ud800", "utf-8") == "?"
