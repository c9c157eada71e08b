"""A GGUF file written by the library of llama.cpp becomes the model that it was written from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from selfstudy.core.errors import UsageError
from selfstudy.models.language.loading import language_model

gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TOKENS = ["<unk>", "<s>", "</s>", *BYTES, "▁", *"0123456789+-*=:"]
HEADS, WIDTH, LAYERS, CONTEXT = 2, 32, 2, 128
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def write(module: LlamaForCausalLM, path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types([2, 3, 3, *[6] * len(BYTES), *[1] * (len(TOKENS) - len(BYTES) - 3)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    for name, weight in module.state_dict().items():
        values = weight.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp has the halves of a head's rotation interleaved
            halves = values.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH)
            values = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(WIDTH, WIDTH))
        block, _, part = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
        named = f"blk.{block}.{NAMES[part]}" if block.isdigit() else NAMES[name.removesuffix(".weight")]
        writer.add_tensor(f"{named}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_converted_once(tmp_path, monkeypatch):
    """Oracle: the logits of the module that was written, bit for bit; the second time without the package."""
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path / "cache"))
    module, path = small_llama(), tmp_path / "small.gguf"
    write(module, path)
    model = language_model(str(path))
    tokens = model.encode("12+3=")
    assert model.name == "small" and model.context == CONTEXT and not model.chat
    assert tokens[0] == 1 and model.decode(tokens) == "12+3=" and model.end == 2
    with torch.no_grad():
        expected = module(torch.tensor([tokens])).logits
        assert torch.equal(model.module(torch.tensor([tokens])).logits, expected)
    (made,) = (tmp_path / "cache").iterdir()
    monkeypatch.setitem(sys.modules, "gguf", None)
    again = language_model(str(path), dtype="bfloat16")
    assert again.module.dtype == torch.bfloat16 and again.encode("12+3=") == tokens
    for name, weight in again.module.named_parameters():
        assert torch.equal(weight, module.get_parameter(name).bfloat16())
    assert list((tmp_path / "cache").iterdir()) == [made]


def test_a_damaged_gguf_file_leaves_nothing(tmp_path, monkeypatch):
    """Oracle: the message names the folder and asks for another model; no half-made conversion stays."""
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(UsageError, match="could be loaded"):
        language_model(str(path))
    assert list((tmp_path / "cache").glob("*")) == []
