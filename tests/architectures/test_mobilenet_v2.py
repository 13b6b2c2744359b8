"""MobileNetV2: depth-wise convolutions, ReLU6, linear bottlenecks."""

import torch
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

from tests.architectures.watched import gates, outputs, watched


def test_layers() -> None:
    config = MobileNetV2Config(
        image_size=16, depth_multiplier=0.2, min_depth=4, depth_divisible_by=4, num_labels=3, finegrained_output=False
    )
    model = MobileNetV2ForImageClassification(config)
    found = watched(model, pixel_values=torch.randn(2, 3, 16, 16))
    modules = dict(model.named_modules())
    convolutions = [name for name, module in modules.items() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 3 + 3 * 16 + 1  # stem, inverted residuals, last
    bounded = [not name.endswith("reduce_1x1.convolution") for name in convolutions]
    assert found.rows == [
        *(
            (name, modules[name].out_channels, 1, "relu6" if relu6 else "identity")
            for name, relu6 in zip(convolutions, bounded, strict=True)
        ),
        ("classifier", 3, -1, "identity"),
    ]
    expand, depthwise = (f"mobilenet_v2.layer.3.{part}.convolution" for part in ("expand_1x1", "conv_3x3"))
    width = model.get_submodule("mobilenet_v2.layer.2.reduce_1x1.convolution").out_channels
    assert found.layers[expand].neurons == config.expand_ratio * width
    assert (found.layers[depthwise].fan_in, found.layers[depthwise].before) == (3 * 3, expand)
    assert {name for name, layer in found.layers.items() if layer.normalized} == {
        name for name, relu6 in zip(convolutions, bounded, strict=True) if relu6
    }
    assert outputs(found) == ["classifier"]
    assert not gates(found)
    assert found.coverage.unwatched == {}
