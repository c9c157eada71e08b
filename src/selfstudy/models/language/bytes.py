"""A small language model over bytes, to be trained from scratch: it reads any language and any code."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selfstudy.core.errors import UsageError
from selfstudy.core.random import stream_key
from selfstudy.models.language.model import LanguageModel, home

END = "<end>"
HEAD = 24  # width of an attention head, at most


def byte_lm(*, layers: int = 2, width: int = 96, context: int = 128, seed: int = 0) -> LanguageModel:
    """Return an untrained Llama whose tokens are the 256 bytes, and one that ends a text.

    Args:
        layers: of the decoder.
        width: of a hidden state; a multiple of 8.
        context: most tokens.
        seed: of the weights.

    Raises:
        UsageError: a size below its least.
    """
    if min(layers, context) < 1 or width < 8 or width % 8:
        raise UsageError(
            f"byte-lm has layers={layers}, width={width} and context={context}: at least 1, a multiple of 8, "
            "and at least 1."
        )
    tokenizer = byte_tokenizer()
    heads = max(count for count in (1, 2, 4, 8) if width // count >= HEAD or count == 1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=8 * (width // 3),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_key("weights", "byte-lm", seed) >> 1)
        module: Any = LlamaForCausalLM(config)
    name = f"byte-lm?layers={layers}&width={width}&context={context}&seed={seed}"
    return LanguageModel(name, module.to(home()), tokenizer)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of one token a byte, and `END`; a text may be of any length.

    >>> tokenizer = byte_tokenizer()
    >>> len(tokenizer), len(tokenizer("né")["input_ids"]), tokenizer.decode(tokenizer("né")["input_ids"])
    (257, 3, 'né')
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
