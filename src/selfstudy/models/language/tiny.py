"""The embedded tiny language model: a small Llama over 16 characters, enough for arithmetic in chains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selfstudy.models.language.model import LanguageModel

VOCABULARY = "0123456789+-*=:\n"
CONTEXT = 512

# The embedded weights, made by `python -m selfstudy.tasks.build_tiny`.
WEIGHTS = Path(__file__).parent / "weights"
POLICY, VALUE = "tiny-lm", "tiny-lm-value"


def tiny_config(
    layers: int = 4,
    width: int = 128,
    *,
    vocabulary: str = VOCABULARY,
    context: int = CONTEXT,
    end: bool = False,
) -> LlamaConfig:
    """Return the configuration of a tiny model; 0.83 million weights at the default size.

    Args:
        layers: of the decoder.
        width: of a hidden state; a multiple of 8.
        vocabulary: one token a character; then one for padding.
        context: most tokens.
        end: whether the token for padding also ends a text.
    """
    pad = len(vocabulary)
    return LlamaConfig(
        vocab_size=pad + 1,
        hidden_size=width,
        intermediate_size=344 * width // 128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=pad if end else None,  # a chain ends with its last line; see tasks.chain
        pad_token_id=pad,
    )


def character_tokenizer(
    vocabulary: str = VOCABULARY, *, context: int = CONTEXT, end: bool = False
) -> PreTrainedTokenizerFast:
    """Return the tokenizer of one token a character: ids in the order of `vocabulary`, then <pad>.

    >>> character_tokenizer()("47+8:")["input_ids"]
    [4, 7, 10, 8, 14]
    """
    ids = {character: i for i, character in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel({**ids, "<pad>": len(ids)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return _fast_tokenizer(tokenizer, context, end=end)


def random_tiny_model(
    layers: int = 4,
    width: int = 128,
    seed: int = 0,
    *,
    vocabulary: str = VOCABULARY,
    context: int = CONTEXT,
    end: bool = False,
) -> LanguageModel:
    """Return an untrained tiny model: for tests, benchmarks, and as the start of training.

    See `tiny_config` for the arguments.
    """
    config = tiny_config(layers, width, vocabulary=vocabulary, context=context, end=end)
    tokenizer = character_tokenizer(vocabulary, context=context, end=end)
    return LanguageModel(f"tiny-{layers}x{width}", _random_module(config, seed), tokenizer)


def random_number_model(
    symbols: str,
    largest: int,
    *,
    layers: int = 4,
    width: int = 128,
    seed: int = 0,
    context: int = CONTEXT,
) -> LanguageModel:
    """Return an untrained tiny model for which a number is one token, as in the vocabularies of large models.

    Args:
        symbols: the other characters, one token each; then one for padding that also ends a text.
        largest: it knows the numbers from 0 to this one.
        layers: of the decoder.
        width: of a hidden state.
        seed: of the weights.
        context: most tokens.
    """
    tokenizer = number_tokenizer(symbols, largest, context=context)
    config = tiny_config(layers, width, vocabulary="?" * (len(tokenizer) - 1), context=context, end=True)
    return LanguageModel(f"numbers-{layers}x{width}", _random_module(config, seed), tokenizer)


def number_tokenizer(symbols: str, largest: int, *, context: int = CONTEXT) -> PreTrainedTokenizerFast:
    """Return the tokenizer of `random_number_model`: ids of numbers first, then those of `symbols`, <pad>.

    >>> number_tokenizer("+= ", 99)("7+12=19")["input_ids"]
    [7, 100, 12, 101, 19]
    """
    words = [*map(str, range(largest + 1)), *symbols, "<pad>"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d+|[\s\S]"), "isolated")
    return _fast_tokenizer(tokenizer, context)


def random_line_model(
    lines: Sequence[str],
    largest: int,
    *,
    layers: int = 4,
    width: int = 128,
    seed: int = 0,
    context: int = CONTEXT,
) -> LanguageModel:
    """Return an untrained tiny model that writes whole lines: one token each, its line break included.

    Args:
        lines: what it writes.
        largest: it also reads the numbers from 0 to this one, with "->" and line breaks between.
        layers: of the decoder.
        width: of a hidden state.
        seed: of the weights.
        context: most tokens.
    """
    tokenizer = line_tokenizer(lines, largest, context=context)
    config = tiny_config(layers, width, vocabulary="?" * (len(tokenizer) - 1), context=context, end=True)
    return LanguageModel(f"lines-{layers}x{width}", _random_module(config, seed), tokenizer)


def line_tokenizer(lines: Sequence[str], largest: int, *, context: int = CONTEXT) -> PreTrainedTokenizerFast:
    r"""Return the tokenizer of `random_line_model`; blanks between numbers and arrows are no tokens.

    >>> line_tokenizer(["x = sorted(x)"], 9)("3 1 -> 1\nx = sorted(x)\n")["input_ids"]
    [3, 1, 10, 1, 11, 12]
    """
    words = [*map(str, range(largest + 1)), "->", "\n", *(f"{line}\n" for line in lines), "<pad>"]
    whole = "|".join(re.escape(f"{line}\n") for line in lines)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"{whole}|\d{{1,2}}|->|\n"), "isolated"),
            pre_tokenizers.Split(Regex(r"\A \z"), "removed"),
        ]
    )
    return _fast_tokenizer(tokenizer, context)


def _random_module(config: LlamaConfig, seed: int) -> LlamaForCausalLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _fast_tokenizer(tokenizer: Tokenizer, context: int, *, end: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer for transformers, with <pad> for padding and, where `end`, for the end of a text."""
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<pad>" if end else None,
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
