"""Random language models of many kinds, small, with weights large enough that every token matters."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from selfstudy.models.language.engine import Engine
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import character_tokenizer

VOCABULARY = 18  # the tiny tokenizer's 17 tokens and one that ends
END = 17

_ROPE = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
SETTINGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-biased": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1},
    "llama-wide-heads": {"head_dim": 12, "tie_word_embeddings": True},
    "llama-llama3": {
        "rope_parameters": {**_ROPE, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    },
    "llama-yarn": {"rope_parameters": {**_ROPE, "rope_type": "yarn"}},
    "llama-linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "mistral": {"sliding_window": None},
    "mistral-window": {"sliding_window": 5},
    "qwen2": {},
    "qwen2-window": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {"head_dim": 12},
    "gemma3_text": {
        "head_dim": 12,
        "sliding_window": 5,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 24,
    },
    "gpt2": {},
}
DECODED = tuple(kind for kind in SETTINGS if kind != "gpt2")


def random_module(
    kind: str = "llama", *, dtype: torch.dtype = torch.float32, **changes: Any
) -> PreTrainedModel:
    """A model of a kind in SETTINGS: three layers, 32 wide, 4 heads; the same for the same arguments."""
    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": 16,
        "tie_word_embeddings": False,
    }
    if kind == "gpt2":
        del common["num_key_value_heads"], common["intermediate_size"]
    config = AutoConfig.for_model(kind.split("-")[0], **{**common, **SETTINGS[kind], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for name, weight in module.named_parameters():
                if weight.dim() == 2:
                    weight.normal_(std=1 if "embed" in name or "lm_head" in name else 0.25)
                elif "bias" in name:
                    weight.normal_(std=0.3)
                else:
                    weight.add_(0.2 * torch.randn_like(weight))
    return module.eval().to(dtype)


def random_model(kind: str = "llama", engine: Engine | None = None, **changes: Any) -> LanguageModel:
    """The same with the tiny model's tokenizer, one token a character."""
    return LanguageModel(kind, random_module(kind, **changes), character_tokenizer(), engine)
