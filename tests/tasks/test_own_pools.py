"""Pools of a user's own images and vectors, and of sets by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import selfstudy
from selfstudy.core.errors import DataError, UsageError, Waiting
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import Texts, Vectors


def vectors_file(path: Path, labels: np.ndarray, width: int = 4) -> str:
    features = np.random.default_rng(0).normal(size=(len(labels), width))
    np.savez(path, features=features, labels=labels)
    return f"pool:vectors:{path}"


def test_texts_without_a_file() -> None:
    """Oracle: how the messages are made: four subjects, as many of each."""
    task = selfstudy.task("pool:messages?labels=8&train=400&test=40")
    assert isinstance(task.pool, Texts) and len(task.pool) == 400 and len(task.test) == 40
    assert np.bincount(task.given[task.labelled]).tolist() == [2, 2, 2, 2]
    whole = selfstudy.task("pool:messages?labels=0")
    assert (whole.given != UNKNOWN).all()


def test_vectors_of_ones_own(tmp_path: Path) -> None:
    """Oracle: which labels the file has; -1 and an empty name are none; only labelled ones are held out."""
    numbers = np.where(np.arange(200) % 2, np.arange(200) % 3, -1)
    task = selfstudy.task(vectors_file(tmp_path / "n.npz", numbers))
    assert isinstance(task.pool, Vectors) and task.classes == ("0", "1", "2")
    held = len(task.validation) + len(task.test)
    assert len(task.pool) + held == 200 and len(task.labelled) + held == 100
    names = np.array(["x", "", "y"])[np.arange(200) % 3]
    named = selfstudy.task(vectors_file(tmp_path / "s.npz", names))
    assert named.classes == ("x", "y")


def test_a_person_is_asked_where_something_has_no_label(tmp_path: Path) -> None:
    """Oracle: the page is waited for; with all labels known, or with oracle=labels, nobody is."""
    some = np.where(np.arange(200) % 2, np.arange(200) % 3, -1)
    spec = vectors_file(tmp_path / "some.npz", some)
    with Run(tmp_path / "run") as run:
        with pytest.raises(Waiting, match="selfstudy label"):
            selfstudy.task(spec).metered(run.meter).ask(run, "q", np.array([0]))
        hidden = selfstudy.task(f"{spec}?oracle=labels").metered(run.meter)
        at = np.flatnonzero(hidden.given == UNKNOWN)[:1]
        assert hidden.ask(run, "hidden", at)[0].tolist() == [UNKNOWN]
        every = selfstudy.task(vectors_file(tmp_path / "all.npz", np.arange(200) % 3) + "?labels=6")
        assert every.metered(run.meter).ask(run, "all", np.array([0]))[0][0] in (0, 1, 2)


def test_a_program_is_handed_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a program that tells the sign of the first number."""
    (tmp_path / "judge_signs.py").write_text(
        "def told(items):\n    return ['0' if item[0] < 0 else '1' for item in items]\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = vectors_file(tmp_path / "v.npz", np.where(np.arange(100) % 2, np.arange(100) % 4 // 2, -1))
    task = selfstudy.task(f"{spec}?oracle=judge_signs:told")
    with Run(tmp_path / "run") as run:
        labels, _ = task.metered(run.meter).ask(run, "q", np.arange(10))
    assert labels.tolist() == (task.pool.values[:10, 0] >= 0).astype(int).tolist()


def test_photos_in_folders(tmp_path: Path) -> None:
    """Oracle: how many files lie where; items are called by their files."""
    random = np.random.default_rng(0)
    for folder, count in (("dark", 40), ("light", 40), ("unlabelled", 30)):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number in range(count):
            shade = random.integers(0, 100, (8, 8, 3)) + (150 if folder == "light" else 0)
            Image.fromarray(shade.astype(np.uint8)).save(tmp_path / "photos" / folder / f"{number}.png")
    task = selfstudy.task(f"pool:images:{tmp_path}/photos?size=8&labels=4")
    held = len(task.validation) + len(task.test)
    assert len(task.pool) + held == 110 and len(task.labelled) == 4
    without = [name for name in task.ids if name.startswith("unlabelled/")]
    assert len(without) == 30
    for place in task.labelled:
        assert task.ids[place].split("/")[0] == task.classes[task.given[place]]
    assert selfstudy.task(task.name).ids == task.ids
    assert [file.relative_to(tmp_path / "photos").as_posix() for file in task.files] == list(task.ids)
    assert task.limited(10).files == tuple(tmp_path / "photos" / name for name in task.limited(10).ids)


def test_what_cannot_be_a_pool(tmp_path: Path) -> None:
    """Oracle: one wrong thing of each kind."""
    np.savez(tmp_path / "torn.npz", features=np.zeros((5, 2)), labels=np.zeros(4, int))
    np.savez(
        tmp_path / "one.npz", features=np.random.default_rng(0).normal(size=(50, 2)), labels=np.zeros(50, int)
    )
    bad = np.random.default_rng(0).normal(size=(50, 2))
    bad[7] = np.nan
    np.savez(tmp_path / "nan.npz", features=bad, labels=np.arange(50) % 2)
    (tmp_path / "text.npz").write_text("no archive")
    for spec, kind, words in (
        ("pool:digitz", UsageError, "There is no pool 'digitz'. Did you mean 'digits'"),
        ("pool:digits?oracle=person", UsageError, "has no field 'oracle'"),
        (f"pool:vectors:{tmp_path}/torn.npz", DataError, "5 features and labels of the shape"),
        (f"pool:vectors:{tmp_path}/one.npz", DataError, "has 1 class: give labels of two or more"),
        (
            f"pool:vectors:{tmp_path}/nan.npz",
            DataError,
            "1 of the 50 features of nan .*rows 7",
        ),
        (f"pool:vectors:{tmp_path}/text.npz", DataError, "cannot be read as vectors"),
        (f"pool:vectors:{tmp_path}/one.npz?train=5", UsageError, "has no field 'train'"),
    ):
        with pytest.raises(kind, match=words):
            selfstudy.task(spec)


def test_an_oracle_that_is_none(tmp_path: Path) -> None:
    """Oracle: a name that is neither person, labels nor module:function."""
    spec = vectors_file(tmp_path / "v.npz", np.arange(100) % 2)
    with pytest.raises(UsageError, match="oracle=nobody must be person, labels or module:function"):
        selfstudy.task(f"{spec}?oracle=nobody")
