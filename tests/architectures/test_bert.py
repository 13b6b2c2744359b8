"""BERT: an activation module between the halves of a block, a tanh pooler."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from tests.architectures.watched import gates, outputs, watched
from tests.interventions.together import check_together


@pytest.mark.parametrize(
    ("act", "function", "attention"),
    [("gelu", "gelu", "sdpa"), ("gelu_new", "gelu_tanh", "eager"), ("relu", "relu", "sdpa")],
)
def test_layers(act: str, function: str, attention: str) -> None:
    config = BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        num_labels=3,
        hidden_act=act,
        attn_implementation=attention,
    )
    found = watched(BertForSequenceClassification(config), input_ids=torch.randint(50, (2, 6)))
    width = config.hidden_size
    block = [
        ("attention.self.query", width, -1, "identity"),
        ("attention.self.key", width, -1, "identity"),
        ("attention.self.value", width, -1, "identity"),
        ("attention.self.heads", config.num_attention_heads, -2, "attention"),
        ("attention.output.dense", width, -1, "identity"),
        ("intermediate.dense", config.intermediate_size, -1, function),
        ("output.dense", width, -1, "identity"),
    ]
    embeddings = [f"bert.embeddings.{kind}_embeddings" for kind in ("word", "token_type", "position")]
    assert sorted(found.rows[:3]) == sorted((name, width, -1, "identity") for name in embeddings)
    assert found.rows[3:] == [
        *((f"bert.encoder.layer.{i}.{name}", *rest) for i in range(2) for name, *rest in block),
        ("bert.pooler.dense", width, -1, "tanh"),
        ("classifier", 3, -1, "identity"),
    ]
    assert found.layers["bert.pooler.dense"].activation == "bert.pooler.activation"
    assert outputs(found) == ["classifier"]
    assert not gates(found)
    assert found.coverage.unwatched == {}


def test_neurons_are_ablated_together() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    config = BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=3, **sizes)
    ids = torch.randint(50, (4, 6))
    batch = {"input_ids": ids, "attention_mask": (ids > 9).long(), "labels": torch.tensor([0, 1, 2, 0])}
    check_together(BertForSequenceClassification(config), [batch], neurons=8)
