"""Whisper: functional GELU behind 1d convolutions, cross attention, tied embeddings."""

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from tests.architectures.watched import gates, outputs, watched


def test_layers() -> None:
    config = WhisperConfig(
        vocab_size=50,
        num_mel_bins=5,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=12,
        decoder_ffn_dim=14,
        d_model=8,
        max_source_positions=10,
        max_target_positions=12,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    found = watched(
        WhisperForConditionalGeneration(config),
        input_features=torch.randn(2, 5, 20),
        decoder_input_ids=torch.randint(50, (2, 6)),
    )
    width, heads = config.d_model, config.decoder_attention_heads

    def attention(name: str) -> list[tuple[str, int, int, str]]:
        q, k, v, out = ((f"{name}.{part}_proj", width, -1, "identity") for part in ("q", "k", "v", "out"))
        return [q, k, v, (f"{name}.heads", heads, -2, "attention"), out]

    def mlp(name: str, hidden: int) -> list[tuple[str, int, int, str]]:
        return [(f"{name}.fc1", hidden, -1, "gelu"), (f"{name}.fc2", width, -1, "identity")]

    encoder = "model.encoder.layers.0"
    expected = [(f"model.encoder.conv{i}", width, 1, "gelu") for i in (1, 2)]
    expected += [*attention(f"{encoder}.self_attn"), *mlp(encoder, config.encoder_ffn_dim)]
    for i in range(config.decoder_layers):
        decoder = f"model.decoder.layers.{i}"
        expected += [*attention(f"{decoder}.self_attn"), *attention(f"{decoder}.encoder_attn")]
        expected += mlp(decoder, config.decoder_ffn_dim)
    embeddings = ("encoder.embed_positions", "decoder.embed_tokens", "decoder.embed_positions")
    expected += [(f"model.{name}", width, -1, "identity") for name in embeddings]
    assert sorted(found.rows) == sorted([*expected, ("proj_out", config.vocab_size, -1, "identity")])
    order = [name for name, *_ in found.rows]
    # cached keys and values of the encoder may be computed before or after the decoder's queries
    free = ("encoder_attn.q_proj", "encoder_attn.k_proj", "encoder_attn.v_proj", "embed_tokens", "embed_positions")
    fixed = [name for name, *_ in expected if not name.endswith(free)]
    assert [name for name in order if not name.endswith(free)] == [*fixed, "proj_out"]
    assert found.layers["model.encoder.conv1"].activation == "gelu"  # a function, without a name of its own
    assert found.layers["proj_out"].weight == "model.decoder.embed_tokens.weight"
    assert outputs(found) == ["proj_out"]
    assert not gates(found)
    assert found.coverage.unwatched == {}
