"""Records of judged outputs: units of margins, soft targets, equal texts."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.core.errors import UsageError
from selfstudy.learning.judged_outputs import judged, pairs_of, sample_rewards
from selfstudy.learning.preference_pairs import Margins

CYCLE = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])


def record(texts: list[str], samples: int, verdict: np.ndarray | None, unit: str = "wins", **more):
    one = {
        "prompt": "p",
        "texts": texts,
        "ids": [[i] for i in range(len(texts))],
        "samples": samples,
        "gold": samples if samples < len(texts) else None,
        "defective": [False] * len(texts),
        **more,
    }
    return one | judged(one, verdict, unit)


def chosen(found) -> list[tuple[tuple[int, ...], tuple[int, ...], str]]:
    return [(pair.chosen, pair.rejected, kind) for pair, kind in found]


def test_pairs_of_scores() -> None:
    """Oracle: by hand: reference 6, samples 5, 5, 3, 1 by the rules of the paper, with kinds."""
    one = record(list("abcdg"), 4, np.array([5.0, 5.0, 3.0, 1.0, 6.0]), "scores")
    found = pairs_of(one, "all", Margins(5, 2, 1), soft=False)
    students = [((i,), (j,), "student>student") for i in (0, 1) for j in (2, 3)]
    assert chosen(found) == [*students, ((4,), (2,), "gold>student"), ((4,), (3,), "gold>student")]
    assert all(pair.target == 1.0 for pair, _ in found)


def test_equal_texts_make_no_pair() -> None:
    """Oracle: the second sample says what the first says, with other blanks."""
    one = record(["so  it is", "So it is", "no"], 3, np.array([2.0, 0.0, 0.0]))
    assert chosen(pairs_of(one, "all", Margins(0.5, 0.4, 0.4), soft=False)) == [
        ((0,), (2,), "student>student")
    ]


def test_sample_rewards_leave_the_reference_and_the_output_out() -> None:
    """Oracle: by hand: sample 0 beats sample 1; the reference (last) beats 0 and loses to 1."""
    one = record(list("abg"), 2, CYCLE)
    np.testing.assert_allclose(sample_rewards(one), [1.0, 0.0, 0.5])


def test_soft_targets() -> None:
    """Oracle: sigmoid of the difference of the win rates against the samples."""
    one = record(list("ab"), 2, np.array([[0.5, 0.8], [0.2, 0.5]]))
    ((pair, _),) = pairs_of(one, "all", Margins(0.0, 0.4, 0.4), soft=True)
    assert pair.target == pytest.approx(1 / (1 + np.exp(-0.6)))


def test_both_orders_are_averaged() -> None:
    """Oracle: by hand: 0.9 in one order and 1 - 0.3 in the other make 0.8; off by 0.2."""
    one = record(list("ab"), 2, np.array([[0.5, 0.9], [0.3, 0.5]]))
    np.testing.assert_allclose(one["wins"], [[0.5, 0.8], [0.2, 0.5]])
    assert one["asymmetry"] == pytest.approx(0.2)


def test_a_defect_is_worst_in_both_units() -> None:
    """Oracle: by hand: a win rate of 0, or one point below the lowest."""
    bad = {"defective": [True, False, False]}
    scores = np.array([9.0, 5.0, 3.0])
    np.testing.assert_allclose(record(list("abc"), 3, scores, **bad)["scores"], [0, 1, 0.5])
    np.testing.assert_allclose(record(list("abc"), 3, scores, "scores", **bad)["scores"], [2, 5, 3])


def test_scores_cannot_be_had_from_wins() -> None:
    """Oracle: a judge of every two has no points to measure margins in."""
    with pytest.raises(UsageError, match="unit wins"):
        record(list("abc"), 3, CYCLE, "scores")


def test_nobody_was_asked() -> None:
    """Oracle: the reference over every sample, without any verdict."""
    one = record(list("abg"), 2, None)
    assert one["wins"] is None
    found = pairs_of(one, "reference-always", Margins(0.5, 0.4, 0.4), soft=False)
    assert chosen(found) == [((2,), (0,), "gold>student"), ((2,), (1,), "gold>student")]
