"""Pairs from comparisons: margins, who wins against whom, defects, replay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.run import Run
from selfstudy.learning.preference_pairs import (
    PAIRINGS,
    Margins,
    different,
    kind_of,
    repeats,
    replayed,
    win_rates,
    wins_of_scores,
    with_defects,
)

SIX_POINTS = Margins(least=5, gap=2, student_gap=1)
SCORES = np.array([5.0, 5.0, 3.0, 1.0, 6.0])  # four samples, then the reference
GOLD = 4


def test_pairs_of_six_points() -> None:
    """Oracle: by hand from the paper's rules: 5 points win, by 2, a sample by 1."""
    assert PAIRINGS["all"](SCORES, GOLD, SIX_POINTS) == [(0, 2), (0, 3), (1, 2), (1, 3), (4, 2), (4, 3)]
    assert PAIRINGS["reference-over-students"](SCORES, GOLD, SIX_POINTS) == [(4, 2), (4, 3)]
    assert PAIRINGS["reference-always"](SCORES, GOLD, SIX_POINTS) == [(4, 0), (4, 1), (4, 2), (4, 3)]


def test_a_sample_beats_the_reference_by_its_own_margin() -> None:
    """Oracle: by hand: 6 over 5 is enough for a sample, not for the reference."""
    assert PAIRINGS["all"](np.array([6.0, 5.0]), 1, SIX_POINTS) == [(0, 1)]
    assert PAIRINGS["all"](np.array([5.0, 6.0]), 1, SIX_POINTS) == []


def test_margins_are_met_in_spite_of_rounding() -> None:
    """Oracle: 0.7 - 0.3 is below 0.4 in floating point, and counts as 0.4."""
    assert 0.7 - 0.3 < 0.4
    assert PAIRINGS["all"](np.array([0.7, 0.3]), None, Margins(0.7, 0.4, 0.4)) == [(0, 1)]


def test_without_a_reference() -> None:
    """Oracle: nothing is won by a reference that is not there."""
    assert PAIRINGS["reference-over-students"](SCORES, None, SIX_POINTS) == []
    assert PAIRINGS["reference-always"](SCORES, None, SIX_POINTS) == []


@pytest.mark.parametrize(
    ("pair", "kind"), [((4, 0), "gold>student"), ((0, 4), "student>gold"), ((0, 1), "student>student")]
)
def test_kinds(pair: tuple[int, int], kind: str) -> None:
    """Oracle: who stands first."""
    assert kind_of(pair, GOLD) == kind
    assert kind_of(pair, None) == "student>student"


@given(st.lists(st.floats(0, 6), min_size=2, max_size=6))
def test_wins_of_scores(scores: list[float]) -> None:
    """Oracle: a win and its counterpart make 1; rates average to 1/2; the order of the scores stays."""
    wins = wins_of_scores(np.array(scores))
    np.testing.assert_array_equal(wins + wins.T, 1)
    rates = win_rates(wins)
    assert rates.mean() == pytest.approx(0.5)
    assert ((np.subtract.outer(rates, rates) > 1e-12) == (np.subtract.outer(scores, scores) > 0)).all()


def test_defects_lose_to_all() -> None:
    """Oracle: by hand: the best by the judge, if defective, loses to sound ones and shares with defects."""
    wins = with_defects(wins_of_scores(np.array([3.0, 2.0, 1.0, 0.0])), [True, False, True, False])
    np.testing.assert_array_equal(wins, [[0.5, 0, 0.5, 0], [1, 0.5, 1, 1], [0.5, 0, 0.5, 0], [1, 0, 1, 0.5]])


def test_repeats() -> None:
    """Oracle: by hand: of four runs of three words one is new."""
    assert repeats("a a a a a a") == 0.75
    assert repeats("a b c d e f") == repeats("a b") == repeats("") == 0


def test_different_up_to_blanks_and_case() -> None:
    """Oracle: by hand."""
    assert not different("The  end.\n", "the end.")
    assert different("The end", "The end.")


def test_replay_fractions(tmp_path) -> None:
    """Oracle: round 3 with 1,000 new pairs takes 300 of round 2 and 150 of round 1, each once."""
    rounds = [[(r, i) for i in range(n)] for r, n in enumerate((900, 800, 1000))]
    with Run(tmp_path / "a", seed=3) as run:
        mixed = replayed(rounds, 0.3, run)
        again = replayed(rounds, 0.3, run)
    assert mixed == again and mixed[:1000] == rounds[2]
    counts = [sum(r == one for r, _ in mixed) for one in range(3)]
    assert counts == [150, 300, 1000] and len(set(mixed)) == len(mixed)


def test_replay_takes_no_more_than_there_is(tmp_path) -> None:
    """Oracle: all 4 old pairs where 30 of 100 may come; none with a share of 0."""
    with Run(tmp_path / "a", seed=3) as run:
        assert len(replayed([range(4), range(100)], 0.3, run)) == 104
        assert len(replayed([range(4), range(100)], 0.0, run)) == 100
        assert replayed([range(4)], 0.3, run) == [0, 1, 2, 3]
