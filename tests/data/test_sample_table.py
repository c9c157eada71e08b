"""The table of what was found out about each label."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from selfstudy.data.sample_table import SampleTable


def table() -> SampleTable:
    rng = np.random.default_rng(0)
    guesses = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], dtype=np.float32)
    numbers = {
        name: rng.random(3).astype(np.float32) for name in ("weight", "loss", "pseudo_loss", "ood_score")
    }
    return SampleTable(
        ids=("x", "y, z", 'quo"te'),
        classes=("cat", "dog"),
        given=np.array([0, 0, 1]),
        noisy=np.array([False, True, False]),
        guesses=guesses,
        suspect=np.array([0.1, 0.9, 0.4], dtype=np.float32),
        history={name: rng.random((2, 3)).astype(np.float32) for name in ("loss", "linear")},
        epochs={"loss": [1, 2], "linear": [1, 3]},
        **numbers,
    )


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    """Oracle: the table itself; the suspects are by input."""
    made = table()
    made.save(tmp_path)
    again = SampleTable.load(tmp_path)
    for name in ("given", "noisy", "weight", "guesses", "loss", "pseudo_loss", "ood_score", "suspect"):
        assert np.array_equal(getattr(again, name), getattr(made, name)), name
        assert getattr(again, name).dtype == getattr(made, name).dtype
    assert again.ids == made.ids and again.classes == made.classes and again.epochs == made.epochs
    assert list(again.history) == list(again.epochs) == ["loss", "linear"]
    assert all(np.array_equal(again.history[name], made.history[name]) for name in made.history)
    assert np.array_equal(again.by_input, made.suspect) and len(again) == 3


def test_people_see_the_most_suspect_first(tmp_path: Path) -> None:
    """Oracle: rows by hand, in the order of suspicion."""
    made = table()
    made.save(tmp_path)
    rows = list(csv.DictReader((tmp_path / "samples.csv").read_text().splitlines()))
    assert [row["item"] for row in rows] == ["y, z", 'quo"te', "x"]
    assert rows[0] == {
        "item": "y, z",
        "given": "cat",
        "guess": "dog",
        "guess_probability": "0.8000",
        "is_noisy": "yes",
        "suspect": "0.9000",
        "weight": f"{made.weight[1]:.4f}",
        "loss": f"{made.loss[1]:.4f}",
        "pseudo_loss": f"{made.pseudo_loss[1]:.4f}",
        "ood_score": f"{made.ood_score[1]:.4f}",
    }
