"""Llama: gated MLPs, grouped keys and values, RMS norms."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.architectures.watched import gates, outputs, watched


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_layers(attention: str) -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=20,
        max_position_embeddings=16,
        attn_implementation=attention,
    )
    found = watched(LlamaForCausalLM(config), input_ids=torch.randint(50, (2, 6)))
    width, heads = config.hidden_size, config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    block = [
        ("self_attn.q_proj", width, -1, "identity"),
        ("self_attn.k_proj", heads, -1, "identity"),
        ("self_attn.v_proj", heads, -1, "identity"),
        ("self_attn.heads", config.num_attention_heads, -2, "attention"),
        ("self_attn.o_proj", width, -1, "identity"),
        ("mlp.gate_proj", config.intermediate_size, -1, "silu"),
        ("mlp.up_proj", config.intermediate_size, -1, "identity"),
        ("mlp.down_proj", width, -1, "identity"),
    ]
    assert found.rows == [
        ("model.embed_tokens", width, -1, "identity"),
        *((f"model.layers.{i}.{name}", *rest) for i in range(2) for name, *rest in block),
        ("lm_head", config.vocab_size, -1, "identity"),
    ]
    assert gates(found) == {"model.layers.0.mlp.gate_proj", "model.layers.1.mlp.gate_proj"}
    assert found.layers["model.layers.0.mlp.gate_proj"].activation == "model.layers.0.mlp.act_fn"
    assert outputs(found) == ["lm_head"]
    assert found.coverage.unwatched == {}
