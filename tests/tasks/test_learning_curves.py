"""Learning curves of any method, and tasks with a part of their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.learning.supervised import Supervised
from selfstudy.methods.representation.sla import Sla
from selfstudy.tasks.learning_curves import learning_curve
from selfstudy.tasks.nested import item_sizes, with_labelled

DIGITS = "digits?labels=80&train=100&test=40"


def test_a_part_of_the_labels() -> None:
    """Oracle: the items at the places, of every kind of task; nothing else changes."""
    places = np.array([7, 2, 11])
    images = selfstudy.task(DIGITS)
    part = with_labelled(images, places)
    assert (part.labelled.labels == images.labelled.labels[places]).all() and len(part.train) == 100
    assert len(images.labelled) == 80 and item_sizes(images).tolist() == [1] * 80
    pool = selfstudy.task("pool:digits?labels=30&train=100&test=40")
    known = with_labelled(pool, places)
    assert set(known.labelled) == set(pool.labelled[places])
    assert (known.given[known.labelled] == pool.given[known.labelled]).all()
    assert (pool.given != UNKNOWN).sum() == len(item_sizes(pool)) == 30
    table = selfstudy.task("wine?labels=20")
    rows = with_labelled(table, places).labelled
    assert rows is not None and (rows.answers.values == table.labelled.answers.values[places]).all()
    words = selfstudy.task("made-tags?train=300&validation=20&test=20")
    assert with_labelled(words, places).train.sentences == tuple(words.train.sentences[at] for at in places)
    assert item_sizes(words).tolist() == list(map(len, words.train.sentences))
    with pytest.raises(UsageError, match="no labelled items"):
        item_sizes(selfstudy.task("wine?label="))


def test_the_curve_of_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: fits by hand on the first items of the seed's order; a second call reads everything back."""
    task = selfstudy.task(DIGITS)
    model = task.prepared(selfstudy.model("conv?first=4&stages=2"))
    plan = Supervised(steps=4, batch=8)
    method = Sla(objective="base", training=plan)
    curve = learning_curve(task, method, model, [20, 40], [3, 4], out=tmp_path / "curve")
    assert curve.units.tolist() == [[20, 40]] * 2 and curve.seeds == (3, 4)
    order = generator("learning curve", 4).permutation(80)
    part = with_labelled(task, order[:40])
    with Run(tmp_path / "hand", {}, seed=4) as run:
        by_hand = run.stage("classifier", lambda: method.trained(part, model, run))
    assert curve.figures[1, 1] == np.mean(task.evaluate(by_hand, split="validation").values)
    monkeypatch.setattr(Sla, "fit", lambda *_: pytest.fail("fitted again"))
    again = learning_curve(task, method, model, [20, 40], [3, 4], out=tmp_path / "curve")
    assert (again.figures == curve.figures).all()
    with pytest.raises(UsageError, match="nother"):
        learning_curve(task, Sla(training=plan), model, [20, 40], [3], out=tmp_path / "curve")


def test_the_curve_of_features(tmp_path: Path) -> None:
    """Oracle: a probe on the features by hand, for texts; words count as one item each."""
    task = selfstudy.task("pool:messages?labels=60")
    model = task.prepared(selfstudy.model("words?width=16&buckets=512"))
    curve = learning_curve(task, None, model, [20, 60], [0], out=tmp_path)
    order = generator("learning curve", 0).permutation(60)
    by_hand = task.evaluate(model, split="validation").values
    assert curve.figures[0, 1] == pytest.approx(np.mean(by_hand))
    part = with_labelled(task, order[:20])
    assert curve.figures[0, 0] == np.mean(part.evaluate(model, split="validation").values)


@pytest.mark.parametrize("sizes", [[], [0, 5], [5, 5], [9, 5], [5, 81]])
def test_bad_sizes(sizes: list[int], tmp_path: Path) -> None:
    """Oracle: refused before any run."""
    task = selfstudy.task(DIGITS)
    with pytest.raises(UsageError, match="must rise from 1 or more to 80"):
        learning_curve(task, None, selfstudy.model("conv"), sizes, [0], out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
