"""Mamba: a convolution and a projection that are applied by functions, gates, a scan over time."""

import torch
from transformers import MambaConfig, MambaForCausalLM

from tests.architectures.watched import gates, outputs, watched


def test_layers() -> None:
    config = MambaConfig(
        vocab_size=50, hidden_size=8, state_size=4, num_hidden_layers=2, intermediate_size=16, time_step_rank=2
    )
    found = watched(MambaForCausalLM(config), input_ids=torch.randint(50, (2, 6)))
    inner, width = config.intermediate_size, config.hidden_size
    block = [
        ("in_proj", 2 * inner, -1, "identity"),
        ("conv1d", inner, 1, "silu"),
        ("x_proj", config.time_step_rank + 2 * config.state_size, -1, "identity"),
        ("dt_proj", inner, 1, "softplus"),
        ("out_proj", width, -1, "identity"),
    ]
    layers = {name: layer for name, layer in found.layers.items() if layer.owner is not None}
    assert [row for row in found.rows if row[0] in layers] == [
        ("backbone.embeddings", width, -1, "identity"),
        *((f"backbone.layers.{i}.mixer.{name}", *rest) for i in range(2) for name, *rest in block),
        ("lm_head", config.vocab_size, -1, "identity"),
    ]
    # half of in_proj is the gate of the output: SiLU on a part of a layer has a place of its own
    halves = [row[1:] for row in found.rows if row[0] not in layers]
    assert halves == [(inner, 1, "silu")] * 2
    assert set(found.layers) - set(layers) <= gates(found)
    assert "backbone.layers.0.mixer.dt_proj" in gates(found)
    assert layers["backbone.layers.0.mixer.conv1d"].fan_in == config.conv_kernel
    assert outputs(found) == ["lm_head"]
    assert set(found.coverage.unwatched) == {f"backbone.layers.{i}.mixer" for i in range(2)}
    assert "A_log" in found.coverage.missed["backbone.layers.0.mixer"]


def test_sequences_of_any_length() -> None:
    """The neurons are the channels, not the time steps."""
    config = MambaConfig(vocab_size=50, hidden_size=8, state_size=4, num_hidden_layers=1, time_step_rank=2)
    model = MambaForCausalLM(config)
    short, long = (watched(model, input_ids=torch.randint(50, (2, n))).rows for n in (5, 9))
    assert short == long
