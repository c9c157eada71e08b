"""in-context-regression: fields, streams, held-out problems, and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.models.in_context.predictors import zero
from selfstudy.tasks.regression import BLOCK, require_fit


def test_the_name_makes_the_task_again() -> None:
    """Oracle: the problems of a task made from the first one's name."""
    task = selfstudy.task("in-context-regression?inputs=gaussian&dimensions=3&covariance=2,1,0.5&noise=0.5")
    again = selfstudy.task(task.name)
    assert again.name == task.name
    one, other = task.held_out("test", 50), again.held_out("test", 50)
    assert torch.equal(one.answer, other.answer) and torch.equal(one.context.inputs, other.context.inputs)
    np.testing.assert_array_equal(task.problems.covariance, np.diag([2.0, 1.0, 0.5]))


def test_fewer_problems_are_a_beginning_of_more() -> None:
    """Oracle: the longer draw, across the border of a block."""
    task = selfstudy.task("in-context-regression?dimensions=2&context=2")
    few, many = task.held_out("test", 10), task.held_out("test", BLOCK + 10)
    assert torch.equal(few.answer, many.answer[:10]) and len(many.answer) == BLOCK + 10
    assert len(set(many.answer.tolist())) > BLOCK  # blocks differ


def test_streams_are_apart() -> None:
    """Oracle: validation, tuning, test and training problems have no answer in common."""
    task = selfstudy.task("in-context-regression?dimensions=2&context=2")
    drawn = [
        task.held_out("validation", 100),
        task.held_out("validation", 100, stream="tuning"),
        task.held_out("test", 100),
        task.batch(100, generator(0, "train", "batch", 0)),
    ]
    assert len({answer for batch in drawn for answer in batch.answer.tolist()}) == 400


def test_the_metric_is_the_squared_error() -> None:
    """Oracle: predicting 0 leaves the square of the answer."""
    task = selfstudy.task("in-context-regression?dimensions=2&context=2&items=20")
    values = task.evaluate(zero).values
    np.testing.assert_allclose(values, task.held_out("test", 20).answer ** 2, rtol=1e-6)
    assert task.evaluate(zero, limit=5).values == values[:5]


def test_changes() -> None:
    """Oracle: the same draw scaled."""
    task = selfstudy.task("in-context-regression?dimensions=2&context=2")
    plain, wide = task.held_out("validation", 5), task.held_out("validation", 5, scale=2.0)
    np.testing.assert_allclose(wide.query, 2 * plain.query, rtol=1e-6)


def test_a_table(tmp_path: Path) -> None:
    """Oracle: rows (a, 2a): the target is the feature, and no test row is a training row."""
    path = tmp_path / "line.csv"
    path.write_text("a,b\n" + "\n".join(f"{i},{2 * i}" for i in range(100)) + "\n")
    task = selfstudy.task(f"in-context-regression?table={path}&target=b&context=4")
    test, train = task.held_out("test", 50), task.batch(50, generator("x"))
    np.testing.assert_allclose(test.answer, test.query[:, 0], atol=1e-5)
    assert not set(test.query[:, 0].tolist()) & set(train.query[:, 0].tolist())
    assert task.problems.dimensions == 1 and task.problems.responses == "column"
    random = selfstudy.task(f"in-context-regression?table={path}&target=b&context=4&responses=linear")
    slopes = random.held_out("test", 50)
    assert len({round(float(s), 3) for s in slopes.answer / slopes.query[:, 0]}) > 40


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ("context=0", "context=0"),
        ("covariance=1,2", "inputs=gaussian"),
        ("inputs=gaussian&dimensions=2&covariance=1,x", "covariance=1,x"),
        ("inputs=gaussian&dimensions=2&covariance=1,0", "smallest eigenvalue"),
        ("target=y", "table=FILE"),
        ("items=0", "items=0"),
        ("table=diabetes&covariance=1", "leave covariance away"),
        ("dimensons=3", "dimensions"),
    ],
)
def test_refused(fields: str, word: str) -> None:
    """Oracle: each contradiction; the message names it."""
    with pytest.raises(UsageError, match=word):
        selfstudy.task(f"in-context-regression?{fields}")


def test_what_fits_together() -> None:
    """Oracle: widths that differ, with both numbers; too few positions."""
    task, model = selfstudy.task("in-context-regression"), selfstudy.model("linear-attention")
    require_fit(task, model)
    with pytest.raises(UsageError, match=r"width 5 .*width 11"):
        require_fit(task, selfstudy.model("linear-attention?dimensions=4"))
    with pytest.raises(UsageError, match="positions"):
        require_fit(task, selfstudy.model("paired-tokens?positions=20"))
