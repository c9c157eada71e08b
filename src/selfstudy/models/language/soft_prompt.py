"""Soft prompts: embeddings before every text, learnt while all other weights stay (Lester et al., 2021).

They are the embeddings of new tokens, which the tokenizer writes where a text begins. So a model with a soft
prompt is one like any other: it is drawn from, saved and served in the same way.
"""

from __future__ import annotations

import copy
import tempfile
from typing import Any

import numpy as np
import torch
from tokenizers import processors
from transformers import AutoTokenizer

from selfstudy.core.errors import UsageError
from selfstudy.models.language.model import LanguageModel


def with_soft_prompt(model: LanguageModel, count: int, rng: np.random.Generator) -> LanguageModel:
    """Return a copy of `model` that reads `count` new tokens before every text.

    Their embeddings are at first those of tokens of the vocabulary, drawn at random. A model that writes a
    new token would be told nothing by it: each is as likely as the least likely token after the soft prompt.

    Args:
        model: without a chat template, which writes the beginning of texts itself.
        count: at least 1.
        rng: draws the tokens that the embeddings are copied from.

    Raises:
        UsageError: a model with a chat template or for images, or whose tokenizer cannot keep it.
    """
    if model.chat or model.processor is not None:
        raise UsageError(
            f"A soft prompt stands before the whole text, and {model.name!r} has a chat template or reads "
            "images. Take a base model, or low-rank updates (lora-rank)."
        )
    tokenizer = copy.deepcopy(model.tokenizer)
    known = len(tokenizer)
    names = _names(count)
    tokenizer.add_tokens(names, special_tokens=True)
    places = tokenizer.convert_tokens_to_ids(names)
    assert isinstance(places, list)
    _write_first(tokenizer, names, places)
    module: Any = copy.deepcopy(model.module)
    copied = rng.integers(known, size=count).tolist()
    with torch.no_grad():
        least = int(module(torch.tensor([copied], device=model.device)).logits[0, :, :known].amax(0).argmin())
        module.resize_token_embeddings(max(places[-1] + 1, module.config.vocab_size), mean_resizing=False)
        _untie(module)
        embedding, head = module.get_input_embeddings().weight, module.get_output_embeddings().weight
        embedding[places] = embedding[copied]
        head[places] = head[least].clone()
    return LanguageModel(model.name, module, tokenizer, model.engine)


def train_only_soft_prompt(module: Any, tokenizer: Any, count: int) -> None:
    """Let nothing be trained but the embeddings of a soft prompt of `count` tokens.

    The rest of their matrix has a gradient of 0, by which no optimiser moves it without weight decay.
    """
    for weight in module.parameters():
        weight.requires_grad_(False)
    embedding = module.get_input_embeddings().weight
    embedding.requires_grad_(True)
    soft = torch.zeros(len(embedding), 1, device=embedding.device)
    soft[tokenizer.convert_tokens_to_ids(_names(count))] = 1
    embedding.register_hook(lambda gradient: gradient * soft.to(gradient))


def _names(count: int) -> list[str]:
    return [f"<soft-{i}>" for i in range(count)]


def _write_first(tokenizer: Any, names: list[str], places: list[int]) -> None:
    """Let the tokenizer write these tokens before all that it writes where a text begins.

    Raises:
        UsageError: its kind forgets that when it is saved.
    """
    begin = [token for token in tokenizer("")["input_ids"] if token != tokenizer.eos_token_id]
    special = dict(zip([*names, *tokenizer.convert_ids_to_tokens(begin)], [*places, *begin], strict=True))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[*special, "$A"], special_tokens=list(special.items())
    )
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        if AutoTokenizer.from_pretrained(folder)("")["input_ids"] != [*places, *begin]:
            raise UsageError(
                f"A tokenizer of the kind {type(tokenizer).__name__} does not keep a soft prompt when it is "
                "saved. Take low-rank updates (lora-rank)."
            )


def _untie(module: Any) -> None:
    """Give the vocabulary layer a matrix of its own."""
    head = module.get_output_embeddings()
    if head.weight is module.get_input_embeddings().weight:
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        module.config.tie_word_embeddings = False
