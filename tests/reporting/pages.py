"""Pages for tests, and what is in them."""

import base64
import gzip
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from tests.reporting.by_hand import make_finding, make_report

EVIL = "<script>alert(1)</script>\"'&lt;${x}\n🎉"
LONG = "block." + "n" * 194
NAMES = ["fc1", EVIL, LONG, "head"]


def chain(windows=4, names=NAMES):
    """Neuron 1 falls silent in window 1 and fires again in window 3; the second layer is sick from window 1 on."""
    report = None
    for index in range(windows):
        found = [make_finding(names[1], severity=3, neurons=(0,))] if index else []
        found += [make_finding("fc1", "saturation", 1)] if index == 1 else []
        found += [make_finding(None, "plateau", 2, value=math.nan)] if index >= 2 else []
        silent = 0.0 if index in (1, 2) else 0.25
        measures = {
            "on_rate": torch.tensor([0.0, silent, 0.5, 1.0]),
            "slope": torch.full((4,), math.nan),
            "gradient_flow": torch.tensor([math.inf, 1e-9, 1.0, 100.0]),
            "activation_scale": torch.tensor(0.0),
        }
        run = {"train_loss": torch.linspace(2, 1, 40), "validation_loss": torch.tensor([1.5])}
        report = make_report(
            names, found, index=index, previous=report, measures=measures, run=run, missed=[EVIL], last=index == 3
        )
    return report


def learned():
    """A report and the one before; the activation of the first layer has learned its shape."""
    report = None
    for index in range(2):
        report = make_report(["fc1", "head"], index=index, previous=report)
        shape = torch.linspace(-3, 3, 5) * (index + 1)
        layer = replace(report["fc1"], measures={**report["fc1"].measures, "learned_shape": shape})
        report = replace(report, layers={**report.layers, "fc1": layer})
    return report


class Elements(HTMLParser):
    """The tags of a page, and the text outside scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [("", {})], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data if self.tags[-1][0] not in ("script", "style") else ""


def unpacked(page, element):
    packed = re.search(rf'id="{element}">([A-Za-z0-9+/=]*)</script>', page)[1]
    return gzip.decompress(base64.b64decode(packed))


def data_of(page):
    """What the page's script draws, with the numbers of its tables."""
    data = json.loads(unpacked(page, "data"), parse_constant=pytest.fail)
    planes = np.frombuffer(unpacked(page, "planes"), np.uint8).reshape(3, -1)
    numbers = np.vstack([planes, np.zeros_like(planes[:1])]).T.copy().view(">f4").ravel()

    def table(start, rows, columns):
        return numbers[start : start + rows * columns].reshape(rows, columns).tolist()

    for measure in data["measures"].values():
        measure["means"] = table(*measure["means"])
    for layer in data["neurons"].values():
        for entry in layer["measures"].values():
            entry["values"] = table(*entry["values"])
    for shapes in data["shapes"].values():
        for shape in shapes:
            (shape[1],) = table(*shape[1])
    return data
