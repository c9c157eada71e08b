"""What is particular to ASTRO: its stages, its controls, what it refuses, and that it can be resumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run, Stopped
from selfstudy.data.countdown import read_countdown
from selfstudy.data.shown_countdown import VOCABULARY, moves, solved
from selfstudy.learning.advantages import group_advantages
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.policy_gradient import PolicyGradient
from selfstudy.methods.reasoning import astro
from selfstudy.methods.reasoning.astro import Astro, require_solved
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.puct import PlayoutSearch
from selfstudy.search.trace_making import TraceMaking

TASK = "backtracking-countdown-3?train=8&validation=4&test=4&largest=5&length=120"
SMALL: dict[str, Any] = {
    "search": PlayoutSearch(iterations=6),
    "tuning": FineTuning(learning_rate=5e-4, steps=4, batch=8),
    "tries": 3,
    "difficulty": (0.0, 1.0),
    "steps": 2,
    "problems": 4,
    "group": 4,
    "gradient": PolicyGradient(learning_rate=1e-3),
    "runaway": 1.0,
    "watched_samples": 2,
}


@pytest.fixture(scope="module")
def task():
    return selfstudy.task(TASK)


@pytest.fixture(scope="module")
def base(task, tmp_path_factory):
    """A tiny model that has learnt branches of the training problems by heart, half of them right ones."""
    examples = []
    for problem in task.train:
        numbers = read_countdown(problem.prompt)[0]
        paths = [(first, last) for first, hand in moves(numbers) for last, _ in moves(hand)]
        right = [path for path in paths if solved(problem.prompt, path)]
        chosen = paths[:20] + right * (20 // len(right))
        examples += [Example(problem.prompt, "".join(step + "\n" for step in path)) for path in chosen]
    start = random_tiny_model(1, 64, vocabulary=VOCABULARY, end=True, context=256)
    with Run(tmp_path_factory.mktemp("base") / "run", {}) as run:
        return fine_tune(start, examples, FineTuning(learning_rate=1e-2, steps=150, batch=32), run, "base")


def fit(run, task, model, **fields: Any):
    return Astro(**{**SMALL, **fields}).fit(task.metered(run.meter), model, run)


def weights(model) -> np.ndarray:
    return np.concatenate([value.detach().numpy().ravel() for value in model.module.parameters()])


def test_the_stages(task, base, open_run, records) -> None:
    """Oracle: the records: a tree for each problem, traces, figures of three stages; the meter."""
    run = open_run()
    fitted = fit(run, task, base)
    found = records(run)
    assert len(found["search"]) == fitted.metrics["trees"] == 8
    assert fitted.metrics["traces"] == len(found["traces"]["traces"]) >= 8 - fitted.metrics["unsolved"] - 1
    assert list(fitted.metrics["stages"]) == ["base", "tuned", "rewarded"]
    assert set(fitted.parts) == {"tuned"} and len(fitted.pictures) == 3
    steps = [line for line in run.metrics() if line.get("part") == "rewarded"]
    assert [line["step"] for line in steps] == [0, 1]
    assert {"backtracks", "unfinished", "length", "constant"} <= set(steps[0])
    drawn = sum(one["tokens"] for name in ("search", "difficulty") for one in found[name])
    drawn += sum(found[f"measured-{stage}"][0]["tokens"] for stage in ("base", "tuned", "rewarded"))
    drawn += sum(line["generated_tokens"] for line in steps)
    assert drawn == run.meter.snapshot()["generated_tokens"]
    assert not np.array_equal(weights(fitted.model), weights(fitted.parts["tuned"]))


def test_the_cost_bounds_what_is_spent(task, base, open_run) -> None:
    """Oracle: the meter; answers that end early, and groups that are left out, spend less."""
    run, expected = open_run(), Astro(**SMALL).cost(task, base)
    fit(run, task, base)
    spent = run.meter.snapshot()
    for unit in ("generated_tokens", "verifier_calls", "samples", "flops"):
        assert 0.1 * expected[unit] < spent[unit] <= expected[unit], unit


def test_rewards_are_plus_and_minus_one(task, base, open_run, monkeypatch) -> None:
    """Oracle: what the trainer is handed, from a verifier's grades 1 and 0."""
    seen = []
    monkeypatch.setattr(
        astro,
        "learnable",
        lambda groups, rewards, *a, **k: seen.append(rewards) or learnable(groups, rewards, *a, **k),
    )
    fit(open_run(), task, base)
    assert {value for rewards in seen for value in rewards.flat} <= {-1.0, 1.0}
    assert {rewards.shape[1] for rewards in seen} == {4}


learnable = astro.learnable


def test_advantages_that_are_used() -> None:
    """Oracle: by hand: equal rewards give none; two of +-1 are +-0.7071 by the sample deviation."""
    assert group_advantages(np.array([[1.0, 1, 1, 1]])).tolist() == [[0, 0, 0, 0]]
    np.testing.assert_allclose(
        group_advantages(np.array([[1.0, -1.0]])), [[0.5**0.5, -(0.5**0.5)]], rtol=1e-5
    )
    assert Astro().advantages == "grpo"


def test_plain_traces_on_a_task_that_cannot_go_back(policy, chains, open_run) -> None:
    """Oracle: chains are refused before any work, with what to do; as Direct they are learnt."""
    with pytest.raises(UsageError, match=r"cannot go back.*--traces\.wrong 1"):
        fit(open_run("a"), chains(), policy)
    assert open_run("a").meter.snapshot()["generated_tokens"] == 0
    fitted = fit(open_run("b"), chains(), policy, traces=TraceMaking(wrong=(1.0,)), steps=0)
    assert fitted.metrics["traces"] > 0 and not fitted.parts


def test_a_model_that_cannot_write_returns(task, policy, open_run) -> None:
    """Oracle: tiny-lm has no question mark; the message names the phrase."""
    with pytest.raises(DataError, match=r"cannot encode .*\?<1"):
        fit(open_run(), task, policy)


def test_too_few_trees_are_solved() -> None:
    """Oracle: the limit of 80 percent, from both sides."""
    require_solved(8, 10)
    with pytest.raises(DataError, match=r"9 of 10 trees.*up to 80%.*--search\.iterations"):
        require_solved(9, 10)


def test_traces_that_are_all_dropped(base, open_run) -> None:
    """Oracle: no solution has room for more than 3 tokens: the reason is said in words."""
    narrow = selfstudy.task(TASK)
    narrow.form = replace(narrow.form, room=lambda question: 3)
    with pytest.raises(DataError, match=r"No trace can be learnt: \d+ are longer than a solution may be"):
        fit(open_run(), narrow, base)


def test_no_problem_of_middle_difficulty(task, base, open_run) -> None:
    """Oracle: bounds between which no share of three answers lies."""
    with pytest.raises(DataError, match=r"None of 8 problems.*--difficulty"):
        fit(open_run(), task, base, difficulty=(0.4, 0.6))


def test_constant_groups_say_which_bounds_to_change(task, base, open_run, monkeypatch) -> None:
    """Oracle: a judge that finds everything right while learning from reward."""
    monkeypatch.setattr(astro, "verified", lambda task: lambda groups: np.ones((len(groups), 4)))
    with (
        pytest.warns(UserWarning, match="the same reward"),
        pytest.raises(DataError, match=r"the same reward.*bounds of --difficulty"),
    ):
        fit(open_run(), task, base)


@pytest.mark.parametrize("context", [256, 24])
def test_runaway_lengths_end_the_training(context: int, open_run, monkeypatch) -> None:
    """Oracle: a form that no answer finishes, a model without an end token; room for 32 tokens or less."""
    open_ended = selfstudy.task(TASK.replace("length=120", "length=32"))
    open_ended.form = replace(open_ended.form, ended=lambda prompt, steps: len(steps) == 2)
    monkeypatch.setattr(open_ended, "is_end", lambda problem, steps: False)
    settings = Astro(**{**SMALL, "runaway": 0.01, "steps": 5})
    run = open_run()
    cold = random_tiny_model(1, 32, vocabulary=VOCABULARY, context=context)
    monkeypatch.setattr(astro, "between", lambda rates, bounds: list(range(len(rates))))
    with (
        pytest.warns(UserWarning, match="the same reward"),
        pytest.warns(UserWarning, match=r"ended in step 0: 100% of the answers"),
    ):
        policy = settings.learn_from_reward(open_ended.metered(run.meter), cold, run)
    assert np.array_equal(weights(policy), weights(cold))
    steps = [line for line in run.metrics() if line.get("part") == "rewarded"]
    assert len(steps) == 1 and steps[0]["unfinished"] == 1.0


def test_a_budget_that_ends_in_the_search(task, base, open_run) -> None:
    """Oracle: the model as it was, and no error, where nothing was searched."""
    fitted = fit(open_run(budget=Budget(generated_tokens=50)), task, base, batch=2)
    assert fitted.model is base and fitted.metrics["trees"] < 8


def test_stopped_and_resumed(task, base, open_run) -> None:
    """Oracle: weights and figures of a run that was not stopped."""
    whole = fit(open_run("whole"), task, base)
    run = open_run("cut", checkpoint_steps=1)
    checks = iter([*[None] * 7, True])

    def stop() -> None:
        if next(checks, None):
            raise Stopped("now")

    run.check = stop  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        fit(run, task, base)
    again = fit(open_run("cut", checkpoint_steps=1), task, base)
    assert np.array_equal(weights(again.model), weights(whole.model))
    assert again.metrics == whole.metrics


@pytest.mark.parametrize(
    "fields",
    [
        {"batch": 0},
        {"tries": 0},
        {"group": 1},
        {"steps": -1},
        {"watched": -1},
        {"difficulty": (0.9, 0.1)},
        {"difficulty": (0.5, 1.5)},
        {"runaway": 0.0},
        {"temperature": 0.0},
        {"search": PlayoutSearch(branch=0)},
        {"traces": TraceMaking(wrong=(0.5,))},
        {"gradient": PolicyGradient(clip_low=2.0)},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        Astro(**{**SMALL, **fields}).validate()
    Astro().validate()
