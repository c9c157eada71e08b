"""Next tokens, drawn and of real text, as tasks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.attention_decoder import AttentionDecoder
from selfstudy.tasks.next_words import next_words

POEM = "the cat sat on the mat and the dog sat on the log , and so on and so on . " * 40


@pytest.fixture
def poem(tmp_path: Path) -> Path:
    path = tmp_path / "poem.txt"
    path.write_text(POEM)
    return path


def test_the_drawn_task() -> None:
    """Oracle: log 34 for a model that says nothing; the fields make the same task again."""
    task = selfstudy.task("cooccurrence")
    assert task.vocabulary == 34 and task.context == 128
    values = task.evaluate(AttentionDecoder()).values
    assert len(values) == 512 and values == pytest.approx([math.log(34)] * 512)
    again = selfstudy.task(task.name)
    assert again.name == task.name
    model = AttentionDecoder(spread=1.0)
    assert again.evaluate(model, limit=7).values == task.evaluate(model, limit=7).values
    assert task.evaluate(model, split="validation").values != task.evaluate(model).values


def test_a_smaller_evaluation_is_the_beginning_of_a_larger() -> None:
    """Oracle: the first figures of the evaluation on all items."""
    task, model = selfstudy.task("cooccurrence?items=40"), AttentionDecoder(spread=1.0)
    assert task.evaluate(model, limit=10).values == pytest.approx(task.evaluate(model).values[:10], rel=1e-5)


def test_training_never_sees_a_test_window(poem: Path) -> None:
    """Oracle: a text whose splits have words of their own."""
    words = [f"w{i}" for i in range(900)] + [f"v{i}" for i in range(100)]
    poem.write_text(" ".join(words))
    task = selfstudy.task(f"next-words?text={poem}&window=5&items=9&words=2000")
    assert task.vocabulary == 801
    tokens, _ = task.batch(5000, np.random.default_rng(0))
    # All of the 800 training words but those that no window can begin with or reach; none is unknown.
    assert set(tokens.unique().tolist()) == set(range(1, 801)) - set(task.splits["train"][-1:].tolist())
    assert (task.windows_of("test", 9).tokens == 0).all()


def test_a_text_as_a_task(poem: Path) -> None:
    """Oracle: by hand: words in their order, "on" the most frequent; log M for a model that says nothing."""
    task = selfstudy.task(f"next-words?text={poem}&window=6&words=5&items=4")
    assert task.vocabulary == 6 and task.words.words[:2] == ("<unk>", "on")
    model = AttentionDecoder(vocabulary=6, width=2)
    assert task.evaluate(model).values == pytest.approx([math.log(6)] * 4)
    ids = task.splits["test"]
    tokens, targets = task.windows_of("test", 4)
    assert tokens.flatten().tolist() == ids[:24].tolist()
    assert targets[1].tolist() == ids[8:13].tolist()
    assert len(task.held_out(10**6).tokens) == (len(task.splits["validation"]) - 1) // 6
    assert set(task.table.word(int(m)) for m in task.table.last) <= set(task.words.words[1:])


def test_a_wordlike_loss(poem: Path) -> None:
    """Oracle: the mean over a window of what the model says of each word, one at a time."""
    task = selfstudy.task(f"next-words?text={poem}&window=4&words=8&items=2")
    model = AttentionDecoder(vocabulary=9, spread=0.5)
    ids = task.splits["test"]
    expected = []
    for start in (0, 4):
        losses = []
        for end in (2, 3, 4):
            row = torch.from_numpy(ids[None, start : start + end])
            with torch.no_grad():
                losses.append(-model(row)[0, 0].log_softmax(0)[ids[start + end]].item())
        expected.append(np.mean(losses))
    assert task.evaluate(model).values == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fields", ["context=1", "items=0", "context=x", "laste=2"])
def test_drawn_tasks_that_cannot_be(fields: str) -> None:
    """Oracle: T = 1 has no context; the names and types of fields."""
    with pytest.raises(UsageError):
        selfstudy.task(f"cooccurrence?{fields}")


def test_texts_that_cannot_be(poem: Path) -> None:
    """Oracle: a window longer than a split, both lengths named; fields below 1; texts that are not there."""
    with pytest.raises(DataError, match=r"validation split.*84 words.*takes 200"):
        next_words(text=str(poem), window=200)
    for bad in ({"window": 1}, {"words": 0}, {"items": 0}, {"queries": 0}, {"nexts": 0}):
        with pytest.raises(UsageError):
            next_words(text=str(poem), **bad)
    with pytest.raises(DataError, match="nowhere"):
        next_words(text="nowhere.txt")


def test_models_of_another_vocabulary(poem: Path) -> None:
    """Oracle: both numbers are in the message, and the model it names is accepted."""
    tasks: dict[str, Any] = {
        "cooccurrence": selfstudy.task("cooccurrence?last=3"),
        "words": selfstudy.task(f"next-words?text={poem}&window=6&words=5&items=2"),
    }
    for task in tasks.values():
        with pytest.raises(UsageError) as caught:
            task.evaluate(AttentionDecoder(vocabulary=50))
        assert " 50 " in str(caught.value) and f" {task.vocabulary}." in str(caught.value)
        named = str(caught.value).rpartition("--model ")[2].strip("'.")
        assert len(task.evaluate(selfstudy.model(named), limit=2).values) == 2
