"""GPT-2: Conv1D modules with turned weights, its own tanh GELU, tied embeddings."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lightning_neurohealth import Monitor
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


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable", "ignore:.*torch.utils.checkpoint")
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing(use_reentrant: bool) -> None:
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    plain, again = (GPT2LMHeadModel(config).double().train() for _ in range(2))
    again.load_state_dict(plain.state_dict())
    again.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    ids = torch.randint(50, (2, 6))
    reports = []
    for model in (plain, again):
        monitor = Monitor(model, every_n_steps=1, measures="full")
        for _ in range(2):
            with monitor:
                model(ids, use_cache=False).logits.square().mean().backward()
        reports.append(monitor.close())
        monitor.remove()
    expected, report = reports
    assert list(report) == list(expected)
    for name, layer in expected.items():
        for measure, value in layer.items():
            torch.testing.assert_close(
                report[name][measure], value, rtol=1e-9, atol=1e-14, equal_nan=True, msg=f"{name} {measure}"
            )
    assert report.coverage == expected.coverage


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
