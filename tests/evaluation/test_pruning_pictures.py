"""Pictures of a pruned set: what they draw is what the table and the rows say."""

from __future__ import annotations

import numpy as np

from selfstudy.data.image_sets import ImageSet
from selfstudy.data.pruned import PrunedTable
from selfstudy.evaluation.pruning_pictures import (
    accuracy_picture,
    classes_picture,
    ends_picture,
    pruning_pictures,
    scores_picture,
)
from selfstudy.evaluation.scores import ACCURACY

TABLE = PrunedTable(
    ("a", "b"),
    np.array([0, 0, 1, 1]),
    np.array([0.0, 1.0, np.inf, 0.5]),
    np.array([False, True, True, False]),
    np.arange(4),
)
PIXELS = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 1, 2, 2), np.uint8) * 51
IMAGES = ImageSet("some", PIXELS, TABLE.labels, TABLE.classes)


def rows() -> dict[str, dict[str, float]]:
    found = {}
    for fraction, right in ((0.1, [1.0, 0.0]), (0.5, [1.0, 1.0])):
        found[f"validation, with the teacher, {fraction:g} kept"] = ACCURACY.row(right)
    found["validation, labels alone, 0.1 kept"] = ACCURACY.row([0.0, 0.0])
    found["validation, teacher"] = ACCURACY.row([1.0, 1.0])
    return found


def test_accuracy_by_fraction() -> None:
    """Oracle: the rows by hand: a line of two points, one of a single point, the teacher's level."""
    taught, alone, teacher = accuracy_picture(rows(), ACCURACY)["traces"]
    assert (taught["x"], taught["y"]) == ([0.1, 0.5], [0.5, 1.0])
    assert (alone["x"], alone["y"]) == ([0.1], [0.0])
    assert (teacher["x"], teacher["y"]) == ([0.1, 1.0], [1.0, 1.0])


def test_counts() -> None:
    """Oracle: counted by hand; the infinite score is said, not drawn."""
    kept, pruned = classes_picture(TABLE)["traces"]
    assert (kept["y"], pruned["y"]) == ([1, 1], [1, 1])
    shown = scores_picture(TABLE)
    assert [sum(trace["y"]) for trace in shown["traces"]] == [1, 2]
    assert "1 images of infinite score" in shown["note"]


def test_the_ends() -> None:
    """Oracle: above the images by falling score, 2, 1, 3, 0, each a square of its own grey."""
    wall = np.array(ends_picture(TABLE, IMAGES)["traces"][0]["z"])[::-1]  # the first row is drawn lowest
    assert wall.shape == (8, 16)
    assert np.allclose(wall[1, 1::4], np.array([2, 1, 3, 0]) * 0.2)
    assert np.allclose(wall[6, 2::4], np.array([2, 1, 3, 0]) * 0.2)  # all four are at either end
    assert (wall[[0, 3, 4, 7]] == 1).all() and (wall[:, [0, 3]] == 1).all()


def test_which_are_drawn() -> None:
    """Oracle: scores of chance have no order to be seen; without rows there is no curve."""
    titles = [
        len(pruning_pictures(TABLE, IMAGES, r, ACCURACY, ranked=k))
        for r in (rows(), {})
        for k in (True, False)
    ]
    assert titles == [4, 2, 3, 1]
