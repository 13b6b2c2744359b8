"""Hook of mkdocs: trains sick networks; puts their gallery, what each rule says and the benchmarks into the site."""

from __future__ import annotations

import inspect
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.messages import conditions, example, with_examples
from examples.sick_networks import EXHIBITS, Exhibit, visit
from lightning_neurohealth import Report
from lightning_neurohealth.reporting.pictures import windows

ROOT = Path(__file__).parents[1]
HEAD = """# Gallery of sick networks

Each of these networks was trained while this page was made, on scikit-learn's digits, by a function of
`examples/sick_networks.py`; run one yourself with `python examples/sick_networks.py dead_neurons`. Each is shown sick,
with what was found in the last window, and beside it cured.
"""


def on_files(files: Files, config: Any) -> Files:
    """Add what is not in ``docs``."""
    results = ROOT / "benchmarks" / "RESULTS.md"
    text = (
        results.read_text(encoding="utf-8") if results.exists() else "# Results\n\nThe benchmarks were not run here.\n"
    )
    files.append(File.generated(config, "results.md", content=text))
    sections = [HEAD]
    for name, exhibit in EXHIBITS.items():
        sick, cured = visit(name, cured=False), visit(name, cured=True)
        files.append(File.generated(config, f"gallery/{name}.png", content=picture(exhibit, sick, cured)))
        sections.append(section(exhibit, sick, cured))
    files.append(File.generated(config, "gallery.md", content="\n".join(sections)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links to the repository, which work where the page is read there, lead to the copy in the site."""
    if page.file.src_uri == "catalogue.md":
        markdown = with_examples(markdown, {condition: example(condition) for condition in conditions()})
    return markdown.replace("../benchmarks/RESULTS.md", "results.md")


def section(exhibit: Exhibit, sick: Report, cured: Report) -> str:
    """One network: what was done wrong, its code, its picture, and what was found."""
    name, what = exhibit.condition, inspect.cleandoc(exhibit.train.__doc__ or "")
    findings = "\n".join(
        f"- **{f.severity.name} [{f.condition}](catalogue.md#{f.condition})** in {f.where}: {f.message}.  \n"
        f"  *why* {f.cause}.  \n  *do* {f.remedy}."
        for f in sorted(sick.findings, key=lambda f: f.condition != name)[:3]
    )
    others = ", ".join(sorted({f"{f.condition} ({f.severity.name})" for f in cured.findings}))
    where = f" of `{exhibit.layer}`" if exhibit.layer else ""
    return f"""
## {name}

{what}

```python
{code(exhibit.train)}
```

![{exhibit.measure}{where} over the windows, sick and cured](gallery/{name}.png)

{findings}

Cured: {others or "nothing is found"}.
"""


def code(train: Callable[..., Any]) -> str:
    """The function without its decorator and its docstring."""
    signature, _, rest = inspect.getsource(train).partition('"""')
    body = rest.partition('"""')[2].strip("\n")
    return signature.partition("\n")[2].rstrip() + "\n" + body


def picture(exhibit: Exhibit, sick: Report, cured: Report) -> bytes:
    """The measure that shows it best, sick and cured side by side, as PNG."""
    alike = exhibit.measure == "train_loss"
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3), layout="constrained", sharey=alike)
    for ax, title, report in zip(axes, ("sick", "cured"), (sick, cured), strict=True):
        if alike:
            losses(ax, report)
        else:
            report.plot(exhibit.measure, exhibit.layer, ax=ax)
        what = "loss" if alike else exhibit.measure + (f" of {exhibit.layer}" if exhibit.layer else "")
        legend = 22 if ax.get_legend() else 6  # room for it
        ax.set_title(f"{title}: {what}", loc="left", fontsize="medium", pad=legend)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    return buffer.getvalue()


def losses(ax: Axes, report: Report) -> None:
    """What was recorded of the loss, window by window."""
    ax.set_xlabel("step at the end of the window")
    for name in ("train_loss", "validation_loss"):
        points = [(window.step, float(window.run[name].mean())) for window in windows(report) if name in window.run]
        if any(math.isfinite(loss) for _, loss in points):
            ax.semilogy(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    ax.legend()
