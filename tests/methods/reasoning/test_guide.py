"""What is particular to Guide: which groups are drawn again, what is learnt from them, what waits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning import barren
from selfstudy.learning.critic import Critic, CriticFitting
from selfstudy.learning.policy_gradient import PolicyGradient
from selfstudy.learning.ratio_shaping import RatioShaping
from selfstudy.methods.reasoning import guide
from selfstudy.methods.reasoning.guide import Guide, _Drawer, note_useless_hints
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.tasks.chain import chain100

SMALL: dict[str, Any] = {"steps": 2, "problems": 4, "group": 4, "draws": 2}


@pytest.fixture(scope="module")
def random_policy() -> LanguageModel:
    return random_tiny_model(1, 16)


@pytest.fixture
def drawer(open_run, random_policy):
    """Makes a drawer whose plain and hinted answers get given rewards, row by row."""

    def make(
        plain: list[list[float]], *hinted: list[list[float]], without: int = 0, **fields: Any
    ) -> _Drawer:
        task = chain100(steps="4", train=4, validation=0, test=1)
        texts = {
            problem.id: [task.hint(problem, i) or "" for i in range(2)]
            for problem in task.train[: len(task.train) - without]
        }
        method = Guide(**{**SMALL, "problems": len(plain), **fields})
        made = _Drawer(method, random_policy, task, open_run(), texts)
        tables = iter([plain, *hinted])
        made.reward = lambda groups: np.array(next(tables), dtype=float)
        return made

    return make


WRONG, RIGHT, MIXED = [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]


def kinds(groups) -> list[str]:
    """Of each group: "plain", "hinted" or "both"."""
    names = {(False,): "plain", (True,): "hinted", (False, True): "both"}
    return [names[tuple(sorted({bool(one.elsewhere) for one in group}))] for group in groups]


def test_selection(drawer) -> None:
    """Oracle: by hand: all right is dropped, mixed kept, all wrong drawn again, where mixed alone counts."""
    made = drawer([WRONG, RIGHT, MIXED, WRONG], [MIXED, WRONG])
    groups = made.draw(0)
    assert kinds(groups) == ["plain", "hinted"]
    for group in groups:
        assert [one.advantage for one in group] == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)
    assert made.figures() == {
        "raw_accuracy": 5 / 16,
        "failed": 0.5,
        "solved": 0.25,
        "drawn": 4,
        "guided_accuracy": 1 / 8,
        "hinted_answers": 8,
    }
    again = drawer([WRONG, WRONG, WRONG, WRONG], [RIGHT, WRONG, MIXED, RIGHT])
    assert kinds(again.draw(0)) == ["hinted"]


def test_hinted_answers_are_learnt_after_the_question(drawer, random_policy) -> None:
    """Oracle: the prompts of the problems, with and without."""
    made = drawer([WRONG, WRONG, WRONG, WRONG], [MIXED] * 4)
    for group in made.draw(0):
        prompts = {one.prompt for one in group}
        assert len(prompts) == 1
        assert random_policy.tokenizer.decode(list(prompts.pop())) in [p.prompt for p in made.task.train]
        assert all(one.behaviour and len(one.behaviour) == len(one.tokens) for one in group)


def test_problems_without_a_hint_are_not_drawn_again(drawer) -> None:
    """Oracle: one row of rewards for each problem that has one."""
    made = drawer([WRONG, WRONG, WRONG, WRONG], [MIXED] * 3, without=1)
    assert kinds(made.draw(0)) == ["hinted"] * 3
    never = drawer([WRONG, MIXED, WRONG, WRONG], without=4)
    assert kinds(never.draw(0)) == ["plain"]


def test_partial_credit(drawer) -> None:
    """Oracle: thresholds compare with the mean reward; equal rewards are never learnt from."""
    made = drawer([[0.5] * 4, [0.2, 0, 0, 0], [0.9, 1, 1, 1], [0.4, 0.5, 0.6, 0.5]], failed=0.1)
    made.hints = {}
    assert len(made.draw(0)) == 3
    strict = drawer(
        [[0.5] * 4, [0.2, 0, 0, 0], [0.9, 1, 1, 1], [0.4, 0.5, 0.6, 0.5]], lowest=0.1, highest=0.9
    )
    assert len(strict.draw(0)) == 1


def test_mixin(drawer) -> None:
    """Oracle: by hand: wrong hinted answers give way to the problem's own; the right one stays hinted."""
    made = drawer([WRONG, MIXED, MIXED, MIXED], [[0, 1, 0, 0]], mixin=True)
    group = made.draw(0)[-1]
    assert [bool(one.elsewhere) for one in group] == [False, True, False, False]
    assert [one.behaviour is None for one in group] == [True, False, True, True]
    assert np.argmax([one.advantage for one in group]) == 1


def test_a_critic_is_given_rewards(drawer) -> None:
    """Oracle: the rewards themselves, of the groups that would have been kept without a critic."""
    groups = drawer([WRONG, RIGHT, MIXED, WRONG], [MIXED, WRONG], advantages="critic").draw(0)
    assert kinds(groups) == ["plain", "hinted"]
    assert all([one.advantage for one in group] == MIXED for group in groups)


def test_a_critic_reads_questions_without_hints(policy, open_run, monkeypatch) -> None:
    """Oracle: the prompts of the problems; every token of what is learnt has an advantage of its own."""
    task, run = chain100(steps="6-9", train=12, validation=0, test=1), open_run()
    read, learnt = [], []
    learn = Critic.learn

    def noted(self, groups, meter):
        read.extend(one for group in groups for one in group)
        judged = learn(self, groups, meter)
        learnt.extend(one for group in judged.groups for one in group)
        return judged

    monkeypatch.setattr(Critic, "learn", noted)
    Guide(**SMALL, advantages="critic", hints="always").fit(task.metered(run.meter), policy, run)
    assert any(one.elsewhere for one in read)
    questions = {tuple(policy.encode(problem.prompt)) for problem in task.train}
    assert {one.prompt for one in read} <= questions
    assert [len(one.advantage) for one in learnt] == [len(one.tokens) for one in learnt]
    assert all({"critic_loss", "explained"} <= set(row) for row in run.metrics() if "raw_accuracy" in row)


def test_fallback(drawer) -> None:
    """Oracle: the second hint is for those that fail with the first, and only where it is asked for."""
    tables = ([WRONG] * 4, [MIXED, WRONG, RIGHT, WRONG], [WRONG, MIXED])
    made, asked = drawer(*tables, fallback=True), []
    rows = made.reward

    def remembering(groups):
        asked.append([group.problem.id for group in groups])
        return rows(groups)

    made.reward = remembering
    assert len(made.draw(0)) == 2
    assert asked[2] == [asked[1][1], asked[1][3]]
    assert len(drawer(*tables).draw(0)) == 1


def test_hints_always(drawer) -> None:
    """Oracle: by hand: half and half for each problem, normalised together; without a hint the plain half."""
    made = drawer([[1, 0], [1, 0], [1, 0], [1, 0]], [[0, 1], [0, 0], [1, 1]], hints="always", without=1)
    groups = made.draw(0)
    assert sorted(kinds(groups)) == ["both", "both", "both", "plain"]
    found = [[round(one.advantage, 3) for one in group] for group in groups]
    assert sorted(map(len, found)) == [2, 4, 4, 4]
    for expected in (
        [0.707, -0.707],
        [0.866, -0.866, -0.866, 0.866],
        [1.5, -0.5, -0.5, -0.5],
        [0.5, -1.5, 0.5, 0.5],
    ):
        assert expected in found


def scripted(monkeypatch, rewards) -> None:
    """Rewards by the number of the call, for all answers of a call."""
    calls = iter(range(10**6))

    def reward(task):
        def judge(groups):
            return np.array([rewards(next(calls), len(group.answers)) for group in groups], dtype=float)

        return judge

    monkeypatch.setattr(guide, "verified", reward)


def test_what_is_beyond_the_batch_waits(open_run, random_policy, monkeypatch) -> None:
    """Oracle: counts by hand: 3 of 4 groups are kept, so a batch of 4 takes two draws and leaves 2."""
    scripted(monkeypatch, lambda call, size: [0] * size if call % 4 == 0 else [1] + [0] * (size - 1))
    task, run = chain100(steps="2", train=8, validation=0, test=1), open_run()
    Guide(**{**SMALL, "steps": 4}, hints="never").fit(task.metered(run.meter), random_policy, run)
    rows = [row for row in run.metrics() if "drawn" in row]
    assert [row["drawn"] for row in rows] == [8, 4, 4, 8]  # 6 kept, 2 + 3, 1 + 3, 0 + 6
    assert run.meter.snapshot()["samples"] == 4 * 4 * 4


def test_draws_end_and_a_smaller_batch_is_learnt_from(open_run, random_policy, monkeypatch) -> None:
    """Oracle: counts: one kept group of four in each of two draws."""
    scripted(monkeypatch, lambda call, size: [call % 4 == 0] + [0] * (size - 1))
    task, run = chain100(steps="2", train=8, validation=0, test=1), open_run()
    Guide(**{**SMALL, "steps": 1}, hints="never").fit(task.metered(run.meter), random_policy, run)
    assert run.meter.snapshot()["samples"] == 2 * 4


def test_hints_that_do_not_help_are_told() -> None:
    """Oracle: by hand: the note needs many answers, and fewer than one of a hundred right."""
    rows = [{"guided_accuracy": right, "hinted_answers": 200} for right in (0.0, 0.01)]
    with pytest.warns(UserWarning, match="Of 400 answers drawn with a hint 2 were right"):
        note_useless_hints(rows)
    note_useless_hints(rows[:1])
    note_useless_hints([{**rows[1], "guided_accuracy": 0.02}, rows[0]])
    note_useless_hints([{}])


@pytest.mark.parametrize("reward", [0, 1])
def test_nothing_to_learn_from_is_an_error(reward, open_run, random_policy, monkeypatch) -> None:
    """Oracle: the error after the steps, with the rewards."""
    scripted(monkeypatch, lambda call, size: [reward] * size)
    monkeypatch.setattr(barren, "BARREN", 3)
    task, run = chain100(steps="2", train=8, validation=0, test=1), open_run()
    with pytest.warns(UserWarning), pytest.raises(DataError, match=f"of {reward}"):
        Guide(**{**SMALL, "steps": 30, "draws": 1}).fit(task.metered(run.meter), random_policy, run)


def test_a_fit_with_everything(policy, open_run, records) -> None:
    """Oracle: counts on the meter and in the log, the split of gains, and pictures for both."""
    task, run = chain100(steps="4-6", train=6, validation=0, test=1), open_run()
    method = Guide(**SMALL, fallback=True, mixin=True, gain_samples=2, shaping=RatioShaping(kind="power"))
    fitted = method.fit(task.metered(run.meter), policy, run)
    assert fitted.metrics["hints"]["hinted"] == 6
    assert fitted.metrics["gains"]["problems"] == 6
    assert np.array(records(run)["samples-before"]).shape == (6, 2)
    titles = [one["title"] for one in fitted.pictures]
    assert titles[0] == "With and without hints" and titles[-1].startswith("pass@k")
    spent = run.meter.snapshot()
    assert spent["oracle_labels"] == 12
    rows = [row for row in run.metrics() if "raw_accuracy" in row]
    assert len(rows) == 2 and all(0 <= row["guided_share"] <= 1 for row in rows)


def weights(model) -> list[float]:
    return [float(one.detach().double().sum()) for one in model.module.parameters()]


@pytest.mark.parametrize("advantages", ["group", "critic"])
def test_cut_and_gone_on_is_the_same(policy, open_run, monkeypatch, advantages) -> None:
    """Oracle: a fit that was not cut: groups that wait, gamma, the count of draws and a critic come back."""
    task = chain100(steps="4-6", train=12, validation=0, test=1)
    gradient = PolicyGradient(learning_rate=1e-3)
    method = Guide(**{**SMALL, "steps": 3}, gradient=gradient, advantages=advantages)
    whole = open_run("whole", checkpoint_steps=1)
    expected = weights(method.fit(task.metered(whole.meter), policy, whole).model)
    figures = [row["raw_accuracy"] for row in whole.metrics() if "raw_accuracy" in row]

    class Cut(Exception):
        pass

    draw, calls = _Drawer.draw, []

    def cutting(self, number):
        calls.append(number)
        if len(calls) == 3:
            raise Cut
        return draw(self, number)

    monkeypatch.setattr(_Drawer, "draw", cutting)
    run = open_run("cut", checkpoint_steps=1)
    with pytest.raises(Cut):
        method.fit(task.metered(run.meter), policy, run)
    run = open_run("cut", checkpoint_steps=1)
    fitted = method.fit(task.metered(run.meter), policy, run)
    assert weights(fitted.model) == expected
    assert [row["raw_accuracy"] for row in run.metrics() if "raw_accuracy" in row] == figures
    assert run.meter.snapshot()["oracle_labels"] == 12


def test_a_budget_ends_it_with_the_weights_so_far(policy, open_run) -> None:
    """Oracle: the meter: within the budget, and something was learnt."""
    task = chain100(steps="4-6", train=12, validation=0, test=1)
    run = open_run(budget=Budget(generated_tokens=4000))
    fitted = Guide(**{**SMALL, "steps": 100}).fit(task.metered(run.meter), policy, run)
    assert run.meter.snapshot()["generated_tokens"] <= 4000
    assert weights(fitted.model) != weights(policy)


@pytest.mark.parametrize(
    "fields",
    [
        {"group": 1},
        {"draws": 0},
        {"temperature": 0.0},
        {"failed": 1.0},
        {"lowest": 0.9, "highest": 0.1},
        {"gain_samples": -1},
        {"shaping": RatioShaping(quantile=2.0)},
        {"critic": CriticFitting(trace=2.0)},
    ],
)
def test_refused(fields: dict[str, Any]) -> None:
    """Oracle: an error before any work."""
    with pytest.raises(UsageError):
        Guide(**fields).validate()
