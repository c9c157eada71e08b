"""Games on a table: the monotone bound, the average's way to the equilibrium, regression on all pairs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from selfstudy.evaluation.preference_games import (
    ROCK_PAPER_SCISSORS,
    biased_rock_paper_scissors,
    bradley_terry_step,
    equilibrium,
    exploitability,
    iterates,
    monotone_lead,
    nash_step,
    random_game,
    regressed,
)

START = np.array([0.6, 0.3, 0.1])


@pytest.mark.parametrize(("rounds", "left"), [(200, 0.052), (500, 0.024), (2000, 0.0063)])
def test_the_average_goes_to_the_equilibrium_and_the_last_does_not(rounds: int, left: float) -> None:
    """Oracle: exploitability computed once by a plain program; the last iterate spirals outward."""
    policies = iterates(partial(nash_step, ROCK_PAPER_SCISSORS, eta=5.0), START, rounds)
    average = exploitability(ROCK_PAPER_SCISSORS, policies.mean(0))
    assert average == pytest.approx(left, rel=0.02)
    assert exploitability(ROCK_PAPER_SCISSORS, policies[-1]) > 4 * average


def test_monotone_bound() -> None:
    """Oracle: P(pi* > pi) >= 1/2 + eta KL(pi* || pi), on 100 random games of 2 to 7 outputs."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        n = int(rng.integers(2, 8))
        wins, policy = random_game(rng, n), rng.dirichlet(np.ones(n)) + 1e-6
        assert monotone_lead(wins, policy / policy.sum(), float(rng.uniform(0.05, 5))) > -1e-12


def test_regression_reaches_the_target() -> None:
    """Oracle: the minimiser of the soft loss over all pairs is pi_t exp(r_t / eta) / Z."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        wins, policy = random_game(rng, 5), rng.dirichlet(np.ones(5))
        np.testing.assert_allclose(regressed(wins, policy, 0.3), nash_step(wins, policy, 0.3), atol=1e-4)


def test_equilibria() -> None:
    """Oracle: closed form of the biased game; on random games nobody wins more than 1/2."""
    rng = np.random.default_rng(2)
    for _ in range(10):
        wins, nash = biased_rock_paper_scissors(*rng.uniform(0.05, 0.5, 3))
        assert exploitability(wins, nash) == pytest.approx(0, abs=1e-12)
        np.testing.assert_allclose(equilibrium(wins), nash, atol=1e-8)
        wins = random_game(rng, 6)
        np.testing.assert_allclose(wins + wins.T, 1)
        assert exploitability(wins, equilibrium(wins)) == pytest.approx(0, abs=1e-8)


def test_a_reward_cannot_say_what_goes_round() -> None:
    """Oracle: compared evenly, rock, paper and scissors have equal rewards: the policy stays where it was.

    With a transitive preference the reward's policy goes to the best output, as it should.
    """
    even = np.full(3, 1 / 3)
    stays = bradley_terry_step(ROCK_PAPER_SCISSORS, even, START, 0.1)
    np.testing.assert_allclose(stays, START, atol=1e-6)
    ranks = np.arange(3)
    transitive = 1 / (1 + np.exp(-np.subtract.outer(ranks, ranks).astype(float)))
    reached = bradley_terry_step(transitive, even, START, 0.1)
    expected = START * np.exp(ranks / 0.1)
    np.testing.assert_allclose(reached, expected / expected.sum(), atol=1e-4)
