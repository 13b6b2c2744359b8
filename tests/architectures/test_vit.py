"""ViT: patches by a convolution, then tokens."""

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

from tests.architectures.watched import gates, outputs, watched


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_layers(kind: str) -> None:
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=8,
        patch_size=4,
        num_labels=3,
        attn_implementation=kind,
    )
    model = ViTForImageClassification(config)
    found = watched(model, pixel_values=torch.randn(2, 3, 8, 8))
    width = config.hidden_size
    attention = [(width, -1, "identity")] * 3
    attention += [(config.num_attention_heads, -2, "attention"), (width, -1, "identity")]
    mlp = [(config.intermediate_size, -1, "gelu"), (width, -1, "identity")]
    assert [row[1:] for row in found.rows] == [
        (width, 1, "identity"),  # channels of the patches
        *(attention + mlp) * config.num_hidden_layers,
        (3, -1, "identity"),
    ]
    # in the order of execution, whatever the library calls its modules
    convolution, *tokens, classifier = (name for name, *_ in found.rows)
    assert isinstance(model.get_submodule(convolution), torch.nn.Conv2d)
    assert [int("".join(filter(str.isdigit, name.split("mlp")[0])) or 0) for name in tokens] == [0] * 7 + [1] * 7
    assert outputs(found) == [classifier]
    assert not gates(found)
