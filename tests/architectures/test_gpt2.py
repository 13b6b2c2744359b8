"""GPT-2: Conv1D modules with turned weights, its own tanh GELU, tied embeddings."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.architectures.watched import gates, outputs, watched
from tests.interventions.together import check_together


@pytest.mark.parametrize(("inner", "attention"), [(None, "sdpa"), (20, "eager")])
def test_layers(inner: int | None, attention: str) -> None:
    config = GPT2Config(
        vocab_size=50,
        n_positions=16,
        n_embd=8,
        n_layer=2,
        n_head=2,
        n_inner=inner,
        bos_token_id=0,
        eos_token_id=1,
        attn_implementation=attention,
    )
    found = watched(GPT2LMHeadModel(config), input_ids=torch.randint(50, (2, 6)))
    block = [
        ("attn.c_attn", 3 * config.n_embd, -1, "identity"),
        ("attn.heads", config.n_head, -2, "attention"),
        ("attn.c_proj", config.n_embd, -1, "identity"),
        ("mlp.c_fc", inner or 4 * config.n_embd, -1, "gelu_tanh"),
        ("mlp.c_proj", config.n_embd, -1, "identity"),
    ]
    assert found.rows == [
        ("transformer.wte", config.n_embd, -1, "identity"),
        ("transformer.wpe", config.n_embd, -1, "identity"),
        *((f"transformer.h.{i}.{name}", *rest) for i in range(config.n_layer) for name, *rest in block),
        ("lm_head", config.vocab_size, -1, "identity"),
    ]
    assert found.layers["transformer.h.0.mlp.c_fc"].activation == "transformer.h.0.mlp.act"
    assert {layer.weight_axis for name, layer in found.layers.items() if ".h." in name and layer.owner} == {1}
    assert found.layers["transformer.h.1.attn.heads"].channels == config.n_embd // config.n_head
    assert found.layers["lm_head"].weight == "transformer.wte.weight"
    assert found.layers["transformer.h.1.mlp.c_proj"].before == "transformer.h.1.mlp.c_fc"
    assert outputs(found) == ["lm_head"]
    assert not gates(found)


def test_coverage() -> None:
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1)
    model = GPT2LMHeadModel(config)
    coverage = watched(model, input_ids=torch.randint(50, (2, 6))).coverage
    assert coverage.unwatched == {}
    missed = sum(p.numel() for name, p in model.named_parameters() if "ln_" in name)
    assert coverage.parameters == pytest.approx(1 - missed / sum(p.numel() for p in model.parameters()))


@pytest.mark.parametrize("rows", [1, 3])
def test_neurons_are_ablated_together(rows: int) -> None:
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1)
    ids = torch.randint(50, (rows, 6))
    check_together(GPT2LMHeadModel(config), [{"input_ids": ids, "labels": ids}], neurons=8)
