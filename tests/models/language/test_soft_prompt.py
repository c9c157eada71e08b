"""Soft prompts as tokens, against embeddings that are put before a text by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import processors

from selfstudy.core.errors import UsageError
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import Trainable
from selfstudy.learning.optimizers import named_optimizer
from selfstudy.learning.weighted_sequences import WeightedText, add_gradient
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.soft_prompt import train_only_soft_prompt, with_soft_prompt

from .random_models import random_model

KINDS = ["llama", "gemma3_text"]  # the second ties and scales its embeddings
COUNT = 3


def pair(kind: str) -> tuple[LanguageModel, LanguageModel]:
    """A model, and itself with a soft prompt."""
    plain = random_model(kind, tie_word_embeddings=kind == "gemma3_text")
    return plain, with_soft_prompt(plain, COUNT, np.random.default_rng(0))


def by_hand(plain: LanguageModel, soft: torch.Tensor, text: list[int]) -> torch.Tensor:
    """The plain model's logits at every place of the text, with embeddings before it."""
    embed = plain.module.get_input_embeddings()
    scale = getattr(embed, "embed_scale", torch.ones(()))
    whole = torch.cat([soft * scale, embed(torch.tensor(text))])[None]
    return plain.module(inputs_embeds=whole).logits[0, COUNT:]


def soft_of(model: LanguageModel) -> torch.Tensor:
    return model.module.get_input_embeddings().weight[model.encode("1")[:COUNT]]


@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_embeddings_before_the_text(kind: str, tmp_path: Path) -> None:
    """Oracle: the same embeddings given to the plain model; the same after saving and loading."""
    plain, made = pair(kind)
    text = plain.encode("47+8:")
    tokens, known = made.encode("47+8:"), len(plain.tokenizer)
    assert tokens[COUNT:] == text and made.encode_all(["47+8:"], begins=False) == [text]
    assert made.decode(tokens) == "47+8:"
    expected = by_hand(plain, soft_of(made), text)
    made.save(tmp_path)
    for model in (made, LanguageModel.load(tmp_path)):
        assert model.encode("47+8:") == tokens
        logits = model.module(torch.tensor([tokens])).logits[0, COUNT:]
        torch.testing.assert_close(logits[:, :known], expected[:, :known], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_new_tokens_are_as_likely_as_the_least_likely(kind: str) -> None:
    """Oracle: the logits after the soft prompt."""
    plain, made = pair(kind)
    soft = made.encode("1")[:COUNT]
    logits = made.module(torch.tensor([soft])).logits[0]
    known = logits[:, : len(plain.tokenizer)]
    least = known[:, int(known.amax(0).argmin())]
    assert len({*soft}) == COUNT
    for token in soft:
        torch.testing.assert_close(logits[:, token], least)


def test_draws_stand_after_it() -> None:
    """Oracle: the likeliest tokens of the plain model with the embeddings before the text."""
    plain, made = pair("llama")
    (drawn,) = TorchSampler(made).sample([Request(prompt="47+8:", key=0, max_tokens=5, temperature=0.0)])
    text = plain.encode("47+8:")
    for token in drawn.tokens:
        assert token == int(by_hand(plain, soft_of(made), text)[-1].argmax())
        text.append(token)
    (without,) = TorchSampler(plain).sample([Request(prompt="47+8:", key=0, max_tokens=5, temperature=0.0)])
    assert drawn.tokens != without.tokens


def test_it_stands_before_the_token_that_begins_texts() -> None:
    """Oracle: by hand."""
    plain = random_model("llama")
    first = processors.TemplateProcessing(single="1 $A", special_tokens=[("1", plain.encode("1")[0])])
    plain.tokenizer.backend_tokenizer.post_processor = first
    assert plain.encode("2") == [1, 2]
    made = with_soft_prompt(plain, 2, np.random.default_rng(0))
    known = len(plain.tokenizer)
    assert made.encode("2") == [known, known + 1, *plain.encode("2")]
    assert plain.encode("2")[0] == plain.tokenizer.convert_tokens_to_ids("1"), "the given one is unchanged"


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient(kind: str) -> None:
    """Oracle: autograd through the embeddings before the text; everything else has none.

    The vocabulary layer has more rows than the tokenizer has tokens.
    """
    plain = random_model(kind, vocab_size=24)
    made = with_soft_prompt(plain, COUNT, np.random.default_rng(0))
    prompt, answer = tuple(made.encode("47+8:")), (4, 7, 10)
    soft = soft_of(made).detach().clone().requires_grad_()
    logits = by_hand(plain, soft, [*prompt[COUNT:], *answer])
    train_only_soft_prompt(made.module, made.tokenizer, COUNT)
    weights = Trainable(made.module).parameters()
    add_gradient(Joint(made.module, named_optimizer("adamw", weights)), [WeightedText(prompt, answer, 1.0)])
    head, known = made.module.get_output_embeddings(), len(plain.tokenizer)
    least = int(torch.nonzero((head.weight[:known] == head.weight[prompt[0]]).all(1))[0])
    new, beyond = logits[:, [least] * COUNT], logits[:, known + COUNT :]
    every = torch.cat([logits[:, :known], new, beyond], 1).log_softmax(-1)
    places = range(len(prompt) - COUNT - 1, len(prompt) - COUNT - 1 + len(answer))
    (-every[list(places), list(answer)].sum()).backward()
    (found,) = (weight.grad for weight in weights)
    torch.testing.assert_close(found[list(prompt[:COUNT])], soft.grad, atol=1e-5, rtol=1e-3)
    assert not found[:known].any()
    assert all(weight.grad is None for weight in made.module.parameters() if weight is not weights[0])


def test_refused() -> None:
    """Oracle: a chat template writes the beginning of texts itself."""
    plain = random_model("llama")
    plain.tokenizer.chat_template = "{{ messages[0]['content'] }}"
    with pytest.raises(UsageError, match="chat template"):
        with_soft_prompt(plain, 2, np.random.default_rng(0))
