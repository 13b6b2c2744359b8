"""ConvNeXt: depth-wise convolutions with channels first, then Linear and GELU with channels last."""

import torch
from transformers import ConvNextConfig, ConvNextForImageClassification

from tests.architectures.watched import gates, outputs, watched


def test_layers() -> None:
    config = ConvNextConfig(hidden_sizes=[4, 6], depths=[1, 2], num_stages=2, image_size=16, patch_size=2, num_labels=3)
    found = watched(ConvNextForImageClassification(config), pixel_values=torch.randn(2, 3, 16, 16))
    expected = [("convnext.embeddings.patch_embeddings", 4, 1, "identity")]
    for stage, (width, depth) in enumerate(zip(config.hidden_sizes, config.depths, strict=True)):
        name = f"convnext.encoder.stages.{stage}"
        if stage:
            expected.append((f"{name}.downsampling_layer.1", width, 1, "identity"))
        for block in range(depth):
            expected += [
                (f"{name}.layers.{block}.dwconv", width, 1, "identity"),
                (f"{name}.layers.{block}.pwconv1", 4 * width, -1, "gelu"),
                (f"{name}.layers.{block}.pwconv2", width, -1, "identity"),
            ]
    assert found.rows == [*expected, ("classifier", 3, -1, "identity")]
    depthwise = found.layers["convnext.encoder.stages.1.layers.0.dwconv"]
    assert (depthwise.fan_in, depthwise.weight_axis) == (7 * 7, 0)
    assert outputs(found) == ["classifier"]
    assert not gates(found)
    assert found.coverage.unwatched == {}
