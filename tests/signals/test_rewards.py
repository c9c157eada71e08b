"""Rewards of groups of answers: by hand, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.data.chains import solve
from selfstudy.search.rollouts import Answer, Group
from selfstudy.signals.rewards import agreement, formatted, majority, shorter, summed, valued, verified

TASK = selfstudy.task("chain100?steps=2&train=4&validation=0&test=1")


def group(*solutions: tuple[str, ...]) -> Group:
    problem = TASK.train[0]
    answers = [Answer(problem, "\n".join(s), s, tuple(range(8 * len(s))), "length") for s in solutions]
    return Group(problem, (1,), tuple(answers))


RIGHT = solve(TASK.train[0].prompt)
WRONG = (RIGHT[0], RIGHT[1][:-2] + f"{(int(RIGHT[1][-2:]) + 1) % 100:02d}")
OTHER = (RIGHT[0], RIGHT[1][:-2] + f"{(int(RIGHT[1][-2:]) + 2) % 100:02d}")


def test_each_reward_by_hand() -> None:
    """Oracle: right, wrong and unfinished solutions of one problem, judged by reading them."""
    groups = [group(RIGHT, WRONG, RIGHT[:1], ())]
    assert verified(TASK)(groups).tolist() == [[1, 0, 0, 0]]
    assert formatted(TASK)(groups).tolist() == [[1, 1, 0, 0]]
    assert shorter(TASK)(groups).tolist() == [[0, 0, 0.5, 1]]
    assert majority(TASK)([group(WRONG, RIGHT, WRONG, ())]).tolist() == [[1, 0, 1, 0]]
    assert majority(TASK)([group(RIGHT, WRONG)]).tolist() == [[1, 0]]  # of equals the first
    assert majority(TASK, among_none=True)([group((), (), RIGHT)]).tolist() == [[1, 1, 0]]


def test_a_value_model_as_reward() -> None:
    """Oracle: a scorer by hand of (prompt, lines); an answer without a line is not read, and gets 0."""
    asked = []

    class Values:
        def values(self, prefixes, meter):
            asked.extend(prefixes)
            meter.charge(scored_tokens=len(prefixes))
            return np.array([0.2, 0.9, 0.4][: len(prefixes)])

    meter = Meter()
    reward = valued(Values(), lambda problem: f"<{problem.prompt}>", meter)
    assert reward([group(RIGHT, ()), group(WRONG, RIGHT[:1])]).tolist() == [[0.2, 0], [0.9, 0.4]]
    assert asked == [(f"<{TASK.train[0].prompt}>", steps) for steps in (RIGHT, WRONG, RIGHT[:1])]
    assert meter.snapshot()["scored_tokens"] == 3
    assert reward([group((), ())]).tolist() == [[0, 0]]


def test_verifier_calls_are_counted() -> None:
    """Oracle: one for each answer."""
    task = TASK.metered(Meter())
    verified(task)([group(RIGHT, WRONG, OTHER)])
    assert task.meter.snapshot()["verifier_calls"] == 3


@given(st.lists(st.sampled_from(("1", "2", "3", None)), min_size=1, max_size=8))
def test_agreement_laws(answers: list[str | None]) -> None:
    """Oracle: those rewarded gave one answer, no answer was given more often, and None never earns."""
    found = agreement(answers)
    rewarded = {answer for answer, reward in zip(answers, found, strict=True) if reward}
    stated = [answer for answer in answers if answer is not None]
    assert len(rewarded) == bool(stated) and None not in rewarded
    assert all(stated.count(answer) <= sum(found) for answer in stated)


def test_weights_and_names() -> None:
    """Oracle: the sum by hand; the means under their names; a reward that is no number is named."""
    groups = [group(RIGHT, RIGHT[:1])]
    total, means = summed({"verifier": (1.0, verified(TASK)), "length": (0.1, shorter(TASK))}, groups)
    assert total.tolist() == [[1.0, 0.05]] and means == {"reward_verifier": 0.5, "reward_length": 0.25}
    with pytest.raises(DataError, match="'odd' of 1 of 2"):
        summed({"odd": (1.0, lambda groups: np.array([[np.nan, 1.0]]))}, groups)
