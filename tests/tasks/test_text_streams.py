"""Streams of texts as tasks: bits per byte, the domains in turn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.language.bytes import byte_lm
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import character_tokenizer
from selfstudy.tasks.text_streams import TextStream, excerpt_bits

TASK = "made-domains?size=3000&excerpt=24&items=4"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_bits_per_byte() -> None:
    """Oracle: one row at a time, in pieces of the context; 257 equal chances are log2 257."""
    model = byte_lm(layers=1, width=16, context=8)
    texts = ["abc", "A longer text: é.", "twelve chars"]
    expected = []
    for text in texts:
        ids, nats = model.encode(text), 0.0
        for begin in range(0, len(ids) - 1, 8):
            row = torch.tensor([ids[begin : begin + 9]])
            with torch.no_grad():
                logs = model.module(row[:, :-1]).logits.log_softmax(-1)
            nats -= float(logs.gather(2, row[:, 1:, None]).sum())
        expected.append(nats / math.log(2) / (len(text.encode()) - 1))
    assert excerpt_bits(model, texts) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.zero_()
    assert excerpt_bits(model, texts) == pytest.approx([math.log2(257)] * 3)


def test_a_model_with_tokens_of_its_own() -> None:
    """Oracle: equal chances for each of its tokens, one a letter here, are the logarithm of how many."""
    model = selfstudy.model("tiny-lm").copy()
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.zero_()
    assert excerpt_bits(model, ["1+2=3:"]) == pytest.approx([math.log2(len(model.tokenizer))])


def test_texts_longer_than_learned_positions() -> None:
    """Oracle: the pieces one by one; a model with a table of positions has none beyond its context."""
    tokenizer = character_tokenizer(context=16)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=16, n_embd=32, n_layer=1, n_head=2)
    torch.manual_seed(0)
    model = LanguageModel("learned positions", GPT2LMHeadModel(config), tokenizer)
    text = "1+2=3:4+5=9:6-1=5:"
    rows = torch.tensor([model.encode(text)])
    nats = 0.0
    for begin in (0, 16):
        piece = rows[:, begin : begin + 17]
        scores = model.module(piece[:, :-1]).logits.log_softmax(-1)
        nats -= scores.gather(-1, piece[:, 1:, None]).sum().item()
    assert excerpt_bits(model, [text]) == pytest.approx([nats / (len(text) - 1) / math.log(2)])


def test_domains_take_turns_and_are_judged_apart() -> None:
    """Oracle: the mean over a domain's excerpts, and over all where each has as many."""
    task, model = selfstudy.task(TASK), byte_lm(layers=1, width=16, context=32)
    assert isinstance(task, TextStream)
    assert [place for place, _ in task.excerpts["test"]] == [0, 1, 2] * 4
    values = np.array(task.evaluate(model, split="validation").values)
    assert task.by_domain(model) == pytest.approx(values.reshape(4, 3).mean(0))
    assert len(task.evaluate(model, limit=5).values) == 5
    assert selfstudy.task(task.name).excerpts == task.excerpts


def test_training_tokens_are_the_documents() -> None:
    """Oracle: the texts, with the end token between; fewer documents are the first ones."""
    task, model = selfstudy.task(TASK), byte_lm(layers=1, width=16, context=32)
    for tokens, one in zip(task.tokens(model), task.domains, strict=True):
        texts = "".join(f"{text}<end>" for text in one.splits["train"])
        assert model.tokenizer.decode(tokens.tolist()) == texts
    fewer = task.limited(2)
    assert [len(one.splits["train"]) for one in fewer.domains] == [2, 2, 2]
    plain = selfstudy.model("tiny-lm")
    with pytest.raises(DataError, match="vocabulary"):
        task.tokens(plain)


def test_what_is_refused(tmp_path: Path) -> None:
    """Oracle: the field, or the kind of model, is named."""
    with pytest.raises(UsageError, match="excerpt=4"):
        selfstudy.task("made-domains?excerpt=4")
    with pytest.raises(UsageError, match="language model"):
        selfstudy.task(TASK).evaluate(object())
    (tmp_path / "a.txt").write_text("\n\n".join(f"Part {i} of a text." for i in range(40)))
    own = selfstudy.task(f"stream:{tmp_path}/a.txt?excerpt=16")
    assert own.names == ("a.txt",) and len(own.evaluate(byte_lm(layers=1, width=8)).values) > 2
