"""What is particular to ReST-RL: start states in training, shaping, masks, baselines, value targets."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.fine_tuning import FineTuning
from selfstudy.learning.preferences import Preference
from selfstudy.learning.start_states import Assembly
from selfstudy.learning.values import ValueFitting
from selfstudy.methods.reasoning import rest_rl
from selfstudy.methods.reasoning.rest_rl import RestRl
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.line_trees import LineSearch

SMALL: dict[str, Any] = {
    "iterations": 1,
    "assembly": Assembly(samples=4, temperature=1.5),
    "steps": 2,
    "problems": 6,
    "group": 4,
    "temperature": 1.5,
    "value": False,
    "search": LineSearch(iterations=2, samples=3),
    "value_tuning": ValueFitting(epochs=1),
}


def fit(run, task, policy, **fields: Any):
    return RestRl(**{**SMALL, **fields}).fit(task.metered(run.meter), policy, run)


@pytest.fixture
def collections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what each step is given to learn from, without learning."""
    found: list[Any] = []

    def optimise(policy, collect, settings, run, name, *, steps, **options):
        found.extend(collect(policy, step) for step in range(steps))
        return policy

    monkeypatch.setattr(rest_rl, "optimise_policy", optimise)
    return found


def test_answers_go_on_from_the_beginning_and_the_loss_is_on_them_alone(
    policy, chains, open_run, collections
) -> None:
    """Oracle: prompt, beginning and answer make up a whole solution of two lines, 8 characters each."""
    run, task = open_run(), chains()
    fit(run, task, policy, problems=24, assembly=Assembly(samples=8, temperature=1.5, starts="all"))
    prompts = {len(policy.encode(task.prompt(problem))) for problem in task.train}
    (length,) = prompts
    seen = set()
    for collection in collections:
        for rollout in collection.rollouts:
            assert len(rollout.prompt) + len(rollout.tokens) == length + 16
            seen.add(len(rollout.prompt) - length)
    assert {0, 8} <= seen <= {0, 8, 16}


def test_shaping_adds_a_thousandth_for_the_fence_and_takes_a_millionth_a_character(
    policy, chains, open_run, collections, monkeypatch
) -> None:
    """Oracle: "code + fence + 10 characters" is worth the test + 1e-3 - 1e-5."""
    task = chains()
    task.form = dataclasses.replace(task.form, closing="```")
    draw = rest_rl.draw_groups

    def fenced(*arguments: Any, **options: Any):
        groups = draw(*arguments, **options)
        return [
            dataclasses.replace(
                group,
                answers=tuple(
                    dataclasses.replace(answer, text=f"{answer.text}\n```\nThat is it"[: None if i else -11])
                    for i, answer in enumerate(group.answers)
                ),
            )
            for group in groups
        ]

    monkeypatch.setattr(rest_rl, "draw_groups", fenced)
    fit(open_run(), task, policy, assembly=Assembly(starts="none"))
    rewards = np.concatenate([collection.rewards for collection in collections])
    tests = np.round(rewards)
    np.testing.assert_allclose((rewards - tests)[:, 1:], 1e-3 - 1.1e-5, atol=1e-12)
    np.testing.assert_allclose((rewards - tests)[:, 0], 1e-3, atol=1e-12)


def test_groups_of_equal_tests_are_left_out_unless_ties_decide(
    policy, chains, open_run, collections, monkeypatch
) -> None:
    """Oracle: all tests equal, form rewards differ: nothing to learn, or advantages of full size."""
    monkeypatch.setattr(rest_rl, "verified", lambda task: lambda groups: np.ones((len(groups), 4)))
    monkeypatch.setattr(
        rest_rl, "closed", lambda task: lambda groups: np.tile([1.0, 0.0, 0.0, 0.0], (len(groups), 1))
    )
    fields = {"assembly": Assembly(starts="none"), "steps": 1}
    fit(open_run("a"), chains(), policy, **fields)
    fit(open_run("b"), chains(), policy, ties=True, **fields)
    without, decided = collections
    assert not without.rollouts
    # The shaping differs by 1e-3, 5e-4 of standard deviation in the sample.
    assert max(rollout.advantage for rollout in decided.rollouts) == pytest.approx(1.5, abs=0.01)


def test_each_iteration_goes_on_from_the_trained_policy(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: a training that turns one weight to 1, then to 2: who samples, is trained, and gives values."""
    seen: dict[str, list[float]] = {"samples": [], "trained": [], "value": []}

    def mark(model) -> float:
        return float(next(model.module.parameters()).flatten()[0].detach())

    def optimise(model, *rest: Any, **options: Any):
        seen["trained"].append(mark(model))
        trained = model.copy()
        next(trained.module.parameters()).data.view(-1)[0] = float(len(seen["trained"]))
        return trained

    sample, value = RestRl.sample, rest_rl.ValueModel.from_policy
    monkeypatch.setattr(rest_rl, "optimise_policy", optimise)
    monkeypatch.setattr(
        RestRl, "sample", lambda self, *given: seen["samples"].append(mark(given[1])) or sample(self, *given)
    )
    monkeypatch.setattr(
        rest_rl.ValueModel, "from_policy", lambda model: seen["value"].append(mark(model)) or value(model)
    )
    fit(open_run(), chains(), policy, iterations=2, value=True)
    assert seen == {"samples": [mark(policy), 1], "trained": [mark(policy), 1], "value": [2]}


def test_samples_of_each_iteration_are_drawn_anew(policy, chains, open_run, records) -> None:
    """Oracle: the same keys but for the iteration; what is drawn is recorded for each of them."""
    run = open_run()
    facts = fit(run, chains(), policy, iterations=2).metrics["iterations"]
    rows = records(run)
    assert len(facts) == 2
    assert len(rows["samples-0"]) == len(rows["samples-1"]) == len(chains().train)
    assert rows["samples-0"] != rows["samples-1"]
    assert all(len(row["rewards"]) == 4 for row in rows["samples-0"])


def test_plain_grpo_samples_nothing_before(policy, chains, open_run, records) -> None:
    """Oracle: no stage of samples; all problems are start states."""
    run, task = open_run(), chains()
    facts = fit(run, task, policy, assembly=Assembly(starts="none")).metrics["iterations"]
    assert "samples-0" not in records(run)
    assert facts[0]["kept"] == facts[0]["starts"] == len(task.train)


@pytest.mark.parametrize("learn", ["dpo", "sft"])
def test_the_baselines_learn_from_the_samples(learn: str, policy, chains, open_run, monkeypatch) -> None:
    """Oracle: the pairs and examples that reach the trainers, checked against verdicts worked out again."""
    task, given = chains(), []
    monkeypatch.setattr(rest_rl, "prefer", lambda model, pairs, *rest: given.extend(pairs) or model)
    monkeypatch.setattr(rest_rl, "fine_tune", lambda model, examples, *rest: given.extend(examples) or model)
    fit(
        open_run(), task, policy, learn=learn, preference=Preference(), tuning=FineTuning(),
        assembly=Assembly(samples=6, temperature=1.5),
    )  # fmt: skip
    by_prompt = {task.prompt(problem): problem for problem in task.train}

    def right(prompt: str, text: str) -> bool:
        return task.verify(by_prompt[prompt], task.steps(text))

    assert given
    for one in given:
        if learn == "dpo":
            assert right(one.prompt, one.chosen) and not right(one.prompt, one.rejected)
        else:
            assert right(one.prompt, one.completion)


def test_the_value_model_is_fitted_on_solutions_and_expanded_beginnings(
    policy, chains, open_run, records
) -> None:
    """Oracle: the trees as recorded: as many samples as completions and expanded beginnings."""
    run, task = open_run(), chains()
    fitted = fit(run, task, policy, value=True, searched=4)
    trees = records(run)["trees"]
    assert len(trees) == 4
    assert all(len(one["tree"]["completions"]) in (3, 6) for one in trees)
    values = fitted.parts["value"].values([(task.prompt(p), ()) for p in task.train])
    assert ((values >= 0) & (values <= 1)).all()


def test_the_report_shows_spreads_over_all_iterations(policy, chains, open_run) -> None:
    """Oracle: two iterations of two steps, each beside the spread of the samples drawn before it."""
    fitted = fit(open_run(), chains(), policy, iterations=2)
    before = [one["spread"] for one in fitted.metrics["iterations"]]
    assert before[0] != before[1]
    rewards, _, spreads = fitted.pictures
    trained, sampled = spreads["traces"]
    assert rewards["traces"][0]["x"] == trained["x"] == [0, 1, 2, 3]
    np.testing.assert_allclose(sampled["y"], np.repeat(before, 2), rtol=1e-4)


def test_every_tree_has_random_numbers_of_its_own(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: a stream for each problem, by its name."""
    keys: list[int] = []
    real = rest_rl.collect_trees

    def collect(*given: Any, **options: Any):
        keys.extend(options["keys"])
        return real(*given, **options)

    monkeypatch.setattr(rest_rl, "collect_trees", collect)
    run, task = open_run(), chains()
    fit(run, task, policy, value=True, searched=4, batch=3)
    assert keys == [run.key("trees", problem.id) for problem in task.train[:4]]


def test_problems_that_all_fail_are_refused_with_what_to_do(chains, open_run) -> None:
    """Oracle: a random model never solves a chain."""
    with pytest.raises(DataError, match=r"0\.0 to 0\.1.*easier"):
        fit(open_run(), chains(), random_tiny_model(1, 16))


def test_a_budget_that_ends_in_the_sampling_leaves_the_model_as_it_is(policy, chains, open_run) -> None:
    """Oracle: the weights of the given model."""
    run = open_run(budget=Budget(generated_tokens=20))
    fitted = fit(run, chains(), policy, value=True)
    assert fitted.parts == {}
    for ours, theirs in zip(fitted.model.module.parameters(), policy.module.parameters(), strict=True):
        assert (ours == theirs).all()


@pytest.mark.parametrize(
    "field",
    [
        {"iterations": 0},
        {"group": 1},
        {"temperature": 0.0},
        {"closing_reward": -1.0},
        {"searched": 0},
        {"learn": "dpo", "assembly": Assembly(starts="none")},
        {"assembly": Assembly(samples=1)},
        {"search": LineSearch(decisions=0)},
    ],
)
def test_fields_out_of_range_are_refused(field: dict) -> None:
    """Oracle: the class says what is allowed."""
    with pytest.raises(UsageError):
        RestRl(**{**SMALL, **field}).validate()


def test_cost_counts_samples_rollouts_and_searches() -> None:
    """Oracle: by hand: 2 iterations of 5 problems with 4 samples and 2 * 6 * 4 answers, 5 trees of 2 * 3."""
    task = selfstudy.task("chain100?steps=2&train=5&validation=0&test=1")
    cost = RestRl(**{**SMALL, "iterations": 2, "value": True}).cost(task, selfstudy.model("tiny-lm"))
    assert cost["verifier_calls"] == 2 * 5 * 4 + 2 * 48 + 5 * 6
    assert cost["generated_tokens"] == cost["verifier_calls"] * 16
    assert Meter().snapshot()["verifier_calls"] == 0


@pytest.mark.parametrize(("learn", "value"), [("grpo", True), ("dpo", False), ("sft", False)])
def test_the_cost_bounds_what_is_spent(learn: str, value: bool, policy, chains, open_run) -> None:
    """Oracle: the meter, where every answer has all its tokens; beginnings and dropped groups spend less."""
    run, task = open_run(), chains()
    fields = {**SMALL, "learn": learn, "value": value, "tuning": FineTuning(epochs=1)}
    expected = RestRl(**fields).cost(task, policy)
    fit(run, task, policy, **fields)
    spent = run.meter.snapshot()
    for unit in ("generated_tokens", "verifier_calls", "samples", "flops"):
        assert 0.1 * expected[unit] < spent[unit] <= expected[unit], unit
