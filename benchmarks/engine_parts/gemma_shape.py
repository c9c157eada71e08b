"""A model of Gemma-3-270M's shape with random weights, for machines that its weights are not on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gemma_works import questions
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

TOKENS = 262144
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]


def gemma_shape(folder: str) -> dict[str, Any]:
    """Write model and tokenizer to `folder`, which must not exist."""
    Path(folder).mkdir(parents=True)
    config = Gemma3TextConfig(
        vocab_size=TOKENS,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
        query_pre_attn_scalar=256,
        max_position_embeddings=32768,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):  # normal numbers, fast
        module = Gemma3ForCausalLM(config)
    module.cpu().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return {}


def tokenizer() -> PreTrainedTokenizerFast:
    """Return one with a token for each word of the questions, each digit and sign, and others."""
    split = pre_tokenizers.Split(Regex(r"[A-Za-z]+|[^A-Za-z\s]"), "removed", invert=True)
    words = [word for question in questions(8) for word, _ in split.pre_tokenize_str(question)]
    known = dict.fromkeys([*SPECIAL, *words, *"0123456789+-*=:"])
    known |= dict.fromkeys(f"word{i}" for i in range(TOKENS - len(known)))
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    inner.pre_tokenizer = split
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",
    )
