"""Judges: what they give, blind orders, both orders, and language models that are asked."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.language.sampling import Completion
from selfstudy.search.reasoning import ConstantValue
from selfstudy.signals import model_judges
from selfstudy.signals.judges import (
    Contest,
    asymmetry,
    blind,
    compared,
    function_judge,
    say_asymmetry,
    symmetric,
    task_judge,
    value_judge,
)
from selfstudy.signals.model_judges import pairwise_judge, rubric_judge
from selfstudy.signals.named_judges import open_judge

PROBLEM = SimpleNamespace(id="a", prompt="Say something.")
CONTEST = Contest(PROBLEM, ("aaa", "b", "cc"))


def by_length(prompt: str, outputs: list[str]) -> list[int]:
    return [len(text) for text in outputs]


def test_the_task_judges_by_its_verifier() -> None:
    """Oracle: the right solution of a chain gets 1, others 0; a verifier call for each output."""
    task = selfstudy.task("chain100?steps=1&train=1&validation=0&test=1")
    problem = task.train[0]
    right = task.written(task.oracle.solution(problem))
    (grades,) = task_judge(task)([Contest(problem, ("10+1=11\n", right))])
    assert grades.tolist() == [0.0, 1.0] and task.meter.snapshot()["verifier_calls"] == 2


def test_a_value_model_scores_each_output() -> None:
    """Oracle: a constant value, for groups of different sizes."""
    task = SimpleNamespace(steps=lambda text: tuple(text.splitlines()))
    judge = value_judge(ConstantValue(0.3), task, lambda problem: problem.prompt, Meter())
    found = judge([CONTEST, Contest(PROBLEM, ("x",))])
    assert [one.tolist() for one in found] == [[0.3] * 3, [0.3]]


def test_a_function_counts_comparisons() -> None:
    """Oracle: three outputs are three comparisons."""
    meter = Meter()
    (found,) = function_judge(by_length, meter)([CONTEST])
    assert found.tolist() == [3, 1, 2] and meter.snapshot()["verifier_calls"] == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1.0, 2.0], r"shape \[2\] for 3 outputs.*3 finite scores"),
        ([1.0, 2.0, float("nan")], r"1 of 3 numbers.*not finite \(the first is nan\).*3 finite scores"),
        ([[0.5, 2.0, 0.5]] * 3, "probability from 0 to 1"),
        ("nonsense", "failed on the prompt"),
        (None, r"shape \[\] for 3 outputs"),
    ],
)
def test_bad_judges_are_named(given, said: str) -> None:
    """Oracle: each kind of wrong answer is refused with its own words."""
    with pytest.raises(DataError, match=said):
        compared(lambda prompt, outputs: given, "p", CONTEST.outputs)


def test_blind_judges_see_another_order_and_answer_in_the_old_one() -> None:
    """Oracle: scores and wins by length come back in the order that was asked."""
    shown = []

    def scores(contests):
        shown.extend(contest.outputs for contest in contests)
        return [np.array([len(text) for text in contest.outputs], dtype=float) for contest in contests]

    def wins(contests):
        return [np.subtract.outer(one, one) > 0 for one in scores(contests)]

    many = [Contest(SimpleNamespace(id=str(i), prompt="p"), CONTEST.outputs) for i in range(8)]
    assert all(one.tolist() == [3, 1, 2] for one in blind(scores, 1)(many))
    assert len(set(shown)) > 1
    expected = [[False, True, True], [False, False, False], [False, True, False]]
    assert all(one.tolist() == expected for one in blind(wins, 1)(many))


def test_symmetric_and_asymmetry() -> None:
    """Oracle: by hand; a symmetrised judge has no asymmetry, and one of both halves stays as it is."""
    wins = np.array([[0.5, 0.9, 0.5], [0.3, 0.5, 1.0], [0.5, 0.0, 0.5]])
    both = symmetric(wins)
    np.testing.assert_allclose(both + both.T, 1)
    assert asymmetry(wins) == pytest.approx(0.2 / 3) and asymmetry(both) == pytest.approx(0)
    np.testing.assert_allclose(symmetric(both), both)


def test_asymmetry_is_told() -> None:
    """Oracle: silence up to 0.05, a warning above, an error if strict."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        say_asymmetry([0.05, 0.05], strict=True)
        say_asymmetry([], strict=True)
    with pytest.warns(UserWarning, match=r"off 1 by 0\.10"):
        say_asymmetry([0.2, 0.0], strict=False)
    with pytest.raises(DataError, match="Repair the judge"):
        say_asymmetry([0.2, 0.0], strict=True)


class Replying:
    """Stands in for a sampler: answers each question by a function, four tokens each."""

    def __init__(self, reply, meter) -> None:
        self.reply, self.meter, self.asked = reply, meter, []

    def sample(self, requests):
        self.asked += [request.prompt for request in requests]
        self.meter.charge(generated_tokens=4 * len(requests))
        return [Completion(self.reply(r.prompt), (0,) * 4, (0.0,) * 4, "length") for r in requests]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """Make a language model that answers by a function; the sampler that was opened is returned."""

    def make(reply, meter: Meter) -> Replying:
        sampler = Replying(reply, meter)
        monkeypatch.setattr(model_judges, "open_sampler", lambda policy, meter: sampler)
        return sampler

    return make


POLICY = SimpleNamespace(prompt=lambda text: text)


def test_a_language_model_is_asked_in_both_orders(asked) -> None:
    """Oracle: a model that always says A has no preference once both orders are averaged."""
    meter = Meter()
    sampler = asked(lambda question: "A", meter)
    (wins,) = pairwise_judge(POLICY, meter)([CONTEST])
    assert len(sampler.asked) == 6 and meter.snapshot()["generated_tokens"] == 24
    assert asymmetry(wins) == 1.0
    np.testing.assert_array_equal(symmetric(wins), np.full((3, 3), 0.5))


def test_a_language_model_that_prefers_longer_replies(asked) -> None:
    """Oracle: the order of lengths, the same in both orders."""

    def longer(question: str) -> str:
        first = question.split("Reply A:\n")[1].split("\nReply B:")[0]
        second = question.split("Reply B:\n")[1].split("\nWhich")[0]
        return " A" if len(first) > len(second) else " B"

    meter = Meter()
    asked(longer, meter)
    (wins,) = pairwise_judge(POLICY, meter)([CONTEST])
    assert asymmetry(wins) == 0
    assert wins.tolist() == [[0.5, 1, 1], [0, 0.5, 0], [0, 1, 0.5]]


def test_points_for_all_at_once(asked) -> None:
    """Oracle: the scores that the model writes, in the order of the replies; one question a contest."""
    meter = Meter()
    sampler = asked(lambda question: "5 2 3.5", meter)
    (scores,) = rubric_judge(POLICY, meter)([CONTEST])
    assert scores.tolist() == [5, 2, 3.5] and len(sampler.asked) == 1
    assert all(f"Reply {i + 1}:\n{text}\n" in sampler.asked[0] for i, text in enumerate(CONTEST.outputs))


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("taks", "", "Did you mean 'task'"),
        ("pairwise", "", "cannot be asked to judge"),
        ("value", "nowhere", "no value model in 'nowhere'"),
        ("nowhere:better", "", "cannot be imported"),
    ],
)
def test_judges_that_cannot_be(name: str, source: str, said: str) -> None:
    """Oracle: a usage error that names what is wrong, before any work."""
    model = selfstudy.model("tiny-lm")
    with pytest.raises(UsageError, match=said):
        open_judge(name, source, SimpleNamespace(), model, str, Meter())


def test_the_value_model_that_comes_with_the_model() -> None:
    """Oracle: values in [0, 1], the right solution above a wrong one; a model without one is refused."""
    task, model = selfstudy.task("chain100?steps=2&train=1&validation=0&test=1"), selfstudy.model("tiny-lm")
    problem = task.train[0]
    right = task.written(task.oracle.solution(problem))
    judge = open_judge("value", "", task, model, lambda problem: problem.prompt, Meter())
    (scores,) = judge([Contest(problem, (right, "11+1=13\n13+1=15\n"))])
    assert 1 >= scores[0] > scores[1] >= 0
    other = model.copy()
    other.name = "other"
    with pytest.raises(UsageError, match="No value model comes with 'other'"):
        open_judge("value", "", task, other, str, Meter())
