"""ResNet: batch norms between weight and activation, a ReLU behind each residual sum."""

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from tests.architectures.watched import gates, outputs, watched


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_layers(kind: str) -> None:
    config = ResNetConfig(embedding_size=4, hidden_sizes=[8, 12], depths=[1, 2], layer_type=kind, num_labels=3)
    found = watched(ResNetForImageClassification(config), pixel_values=torch.randn(2, 3, 32, 32))
    expected = [("resnet.embedder.embedder.convolution", 4, 1, "relu")]
    before = config.embedding_size
    for stage, (width, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
        for i in range(depth):
            name = f"resnet.encoder.stages.{stage}.layers.{i}"
            widths = [width, width] if kind == "basic" else [width // 4, width // 4, width]
            functions = ["relu"] * (len(widths) - 1) + ["identity"]  # the last is added first
            expected += [
                (f"{name}.layer.{j}.convolution", w, 1, f)
                for j, (w, f) in enumerate(zip(widths, functions, strict=True))
            ]
            if before != width:
                expected.append((f"{name}.shortcut.convolution", width, 1, "identity"))
            expected.append((f"{name}.activation", width, 1, "relu"))
            before = width
    assert found.rows == [*expected, ("classifier.1", 3, -1, "identity")]
    sums = {name for name, layer in found.layers.items() if layer.owner is None}
    assert sums == {name for name, *_ in expected if name.endswith(".activation")}
    relu = {name for name, *_, function in expected if function == "relu"}
    assert {name for name, layer in found.layers.items() if layer.normalized} == relu - sums
    assert outputs(found) == ["classifier.1"]
    assert not gates(found)
    assert found.coverage.unwatched == {}
