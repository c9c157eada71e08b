"""What is particular to ReST-MCTS*: trees to datasets, first value models, bad input, resumed searches."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.data.chains import solve
from selfstudy.learning.fine_tuning import FineTuning
from selfstudy.learning.values import ValueFitting
from selfstudy.methods.reasoning import rest_mcts
from selfstudy.methods.reasoning.rest_mcts import RestMcts, right_solutions, value_samples
from selfstudy.models.language.value import ValueModel
from selfstudy.search.mcts import TreeSearch
from selfstudy.search.tree import Forest
from selfstudy.signals.reference_values import reference_targets
from selfstudy.signals.tree_values import hard_targets

SMALL = {
    "rounds": 1,
    "first_value": "search",
    "temperature": 1.0,
    "search": TreeSearch(iterations=4),
    "batch": 4,
    "policy_tuning": FineTuning(steps=2, batch=8),
    "value_tuning": ValueFitting(epochs=1, batch=16),
}


def method(**fields: Any) -> RestMcts:
    return RestMcts(**{**SMALL, **fields})


def fit(run, task, policy, **fields):
    return method(**fields).fit(task.metered(run.meter), policy, run)


def weights(fitted) -> list[torch.Tensor]:
    return [*fitted.model.module.state_dict().values(), *fitted.parts["value"].net.state_dict().values()]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


# Trees by hand.


def tree(
    parents: list[int], actions: list[str], priors: list[float], right: tuple[int, ...]
) -> dict[str, Any]:
    """A record of one tree of the problem "a": all leaves have ended, those in `right` are right."""
    inner = sorted(set(parents) - {-1})
    record = {
        "branch": 8,
        "end_gate": 0.9,
        "trees": [
            {
                "problem": 0,
                "answer": -1,
                "actions": [None, *actions],
                "parent": parents,
                "visits": [0] * len(parents),
                "prior": priors,
                "value": [0.0] * len(parents),
                "expanded": inner,
                "ended": [node for node in range(len(parents)) if node not in inner],
            }
        ],
    }
    return {"problem": "a", "tree": record, "correct": [node in right for node in range(len(parents))]}


TASK = SimpleNamespace(
    train=(SimpleNamespace(id="a", prompt="1+1:", images=()),),
    prompt=lambda problem, chat, hint=None: problem.prompt,
)
MODEL = SimpleNamespace(chat=False, prompt=lambda text: text)
# The root, three first steps, and below the first two of them five solutions, the last two with one text.
PARENTS = [-1, 0, 0, 0, 1, 1, 1, 2, 2]
ACTIONS = ["s", "t", "u", "a", "b", "c", "d", "d"]
PRIORS = [0.0, 0.5, 0.5, 0.9, 0.19, 0.4, 0.9, 0.3, 0.3]


def completions(right: tuple[int, ...], **fields: Any) -> list[str]:
    record = tree(PARENTS, ACTIONS, PRIORS, right)
    examples = right_solutions(TASK, MODEL, [record], method(**fields))
    assert {example.prompt for example in examples} <= {"1+1:"}
    return [example.completion for example in examples]


def test_right_solutions() -> None:
    """Oracle: by hand: no wrong one, none below least_value, best value first, no text twice, a cap."""
    assert completions((4, 5, 6, 7, 8)) == ["s\nc\n", "s\nb\n", "t\nd\n"]
    assert completions((4, 7)) == ["t\nd\n"]
    assert completions((4, 5), least_value=0.19) == ["s\nb\n", "s\na\n"]
    assert completions((4, 5, 6, 7, 8), per_problem=2) == ["s\nc\n", "s\nb\n"]
    assert completions((5, 6, 7), least_value=0.95) == []
    assert completions((3, 5, 6), least_characters=2) == ["s\nc\n", "s\nb\n"], "u has one character"
    assert completions(()) == []


def test_value_samples() -> None:
    """Oracle: closed forms, K = 2: good steps 1/2 and 1, a wrong last step max(0, 1/2 - (1/2)/2) = 1/4."""
    record = tree(PARENTS, ACTIONS, PRIORS, (4,))
    samples = {sample.steps: sample.values for sample in value_samples(TASK, MODEL, [record], method())}
    assert samples[("s",)] == (0.5,) and samples[("s", "a")][-1] == 1.0
    assert samples[("s", "b")][-1] == 0.25 and samples[("t",)] == (0.0,)
    assert all(len(steps) == len(values) for steps, values in samples.items())
    assert all(math.isnan(value) for values in samples.values() for value in values[:-1])
    assert value_samples(TASK, MODEL, [tree(PARENTS, ACTIONS, PRIORS, ())], method()) == []


# A whole fit.


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, chains, policy, records):
    torch.set_num_threads(1)
    from selfstudy.core.run import Run

    task = chains()
    with Run(tmp_path_factory.mktemp("fit") / "run", {}) as run:
        result = fit(run, task, policy, rounds=2)
        return SimpleNamespace(
            task=task, result=result, stages=records(run), spent=run.meter.snapshot(), log=run.metrics()
        )


def test_the_verdicts_are_true(fitted) -> None:
    """Oracle: the answers worked out from the prompts; every complete leaf is judged, nothing else."""
    prompts = {problem.id: problem.prompt for problem in fitted.task.train}
    judged = 0
    for name in ("search-first", "search-0", "search-1"):
        assert [record["problem"] for record in fitted.stages[name]] == list(prompts)
        for record in fitted.stages[name]:
            forest, answer = Forest.from_json(record["tree"]), solve(prompts[record["problem"]])[-1][-2:]
            for node in range(int(forest.size[0])):
                path = forest.path(0, node)
                judged += len(path) == 2
                right = len(path) == 2 and path[-1].partition("=")[2] == answer
                assert record["correct"][node] == right, path
    assert fitted.spent["verifier_calls"] == judged


def test_the_dump_adds_up(fitted) -> None:
    """Oracle: the texts drawn, counted; a character is a token, a finished line one more."""
    drawn = [
        [text for record in fitted.stages[name] for text in record["drawn"]]
        for name in ("search-first", "search-0", "search-1")
    ]
    assert fitted.spent["generated_tokens"] == sum(n for texts in drawn for _, n in texts)
    assert all(n - len(text) in (0, 1) for texts in drawn for text, n in texts)
    for texts, facts in zip(drawn[1:], fitted.result.metrics["rounds"], strict=True):
        assert facts["generated_tokens"] == sum(n for _, n in texts)


@pytest.mark.parametrize("targets", ["full", "simple", "he"])
def test_the_targets_are_those_of_the_trees(fitted, policy, targets: str) -> None:
    """Oracle: `hard_targets` on each tree as read back."""
    trees, expected = fitted.stages["search-0"], {}
    for record, problem in zip(trees, fitted.task.train, strict=True):
        forest = Forest.from_json(record["tree"])
        for node, value in hard_targets(forest, 0, np.array(record["correct"]), targets).items():
            expected[problem.prompt, forest.path(0, node)] = value
    samples = value_samples(fitted.task, policy, trees, method(targets=targets))
    assert {(sample.prompt, sample.steps): sample.values[-1] for sample in samples} == expected
    if targets == "full":
        assert fitted.result.metrics["rounds"][0]["value_samples"] == len(expected)


def test_each_round_starts_from_the_one_before(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: the models handed to training and search, by identity (Algorithm 1)."""
    seen: dict[str, list[Any]] = {"tune": [], "value": [], "search": []}
    tune, fit_values, domain = rest_mcts.fine_tune, rest_mcts.fit_values, rest_mcts.ReasoningDomain
    monkeypatch.setattr(
        rest_mcts, "fine_tune", lambda model, *rest: seen["tune"].append(model) or tune(model, *rest)
    )
    monkeypatch.setattr(
        rest_mcts, "fit_values", lambda model, *rest: seen["value"].append(model) or fit_values(model, *rest)
    )
    monkeypatch.setattr(
        rest_mcts,
        "ReasoningDomain",
        lambda *args, **more: seen["search"].append(args[2:4]) or domain(*args, **more),
    )
    given = ValueModel.from_policy(policy)
    monkeypatch.setattr(rest_mcts, "shipped_value_model", lambda _: given)
    run = open_run()
    result = fit(run, chains(), policy, rounds=2, first_value="given", batch=99)
    assert seen["tune"][0] is policy and seen["tune"][1] is not policy
    assert seen["value"][0] is given and seen["value"][1] is not given
    assert seen["search"] == [(policy, given), (seen["tune"][1], seen["value"][1])]
    assert result.model is not seen["tune"][1] and result.parts["value"] is not seen["value"][1]
    assert not list(run.directory.glob("stages/*first*")), "a shipped value model needs no first stage"


# First value models.


def test_a_first_value_model_from_references(policy, chains, open_run, records) -> None:
    """Oracle: one label a problem; k/K on references; the formula on samples; charged and recorded."""
    run, task = open_run(), chains()
    fit(run, task, policy, first_value="reference", first_samples=3)
    rows, prompts = records(run)["samples-first"], {problem.id: problem.prompt for problem in task.train}
    assert run.meter.snapshot()["oracle_labels"] == 10 and len(rows) == 10 * (3 + 1)
    for row in rows:
        reference = solve(prompts[row["problem"]])
        assert tuple(row["values"]) == reference_targets(row["steps"], reference)
        if row["tokens"] == 0:
            assert tuple(row["steps"]) == reference and row["values"] == [0.5, 1.0]
    assert sum(row["tokens"] == 0 for row in rows) == 10
    drawn = sum(n for record in records(run)["search-0"] for _, n in record["drawn"])
    assert run.meter.snapshot()["generated_tokens"] == drawn + sum(row["tokens"] for row in rows)
    assert "search-first" not in records(run)


@pytest.mark.parametrize("first_value", ["given", "reference"])
def test_without_references_the_first_value_model_comes_from_a_search(
    first_value: str, policy, chains, open_run, records, monkeypatch, tmp_path
) -> None:
    """Oracle: a task without solutions: no labels, and the result of first_value="search"."""
    monkeypatch.setattr(rest_mcts, "shipped_value_model", lambda _: None)
    task = chains(2, 12)
    for name, problems in (("rows", task.train), ("test", task.test)):
        rows = [{"prompt": p.prompt, "answer": solve(p.prompt)[-1][-2:]} for p in problems]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = f"test={tmp_path}/test.jsonl&verifier=chain&max_steps=2&step_tokens=16&solution_tokens=24"
    task = selfstudy.task(f"jsonl:{tmp_path}/rows.jsonl?{fields}")
    run = open_run("a")
    result = fit(run, task, policy, first_value=first_value)
    assert run.meter.snapshot()["oracle_labels"] == 0
    searched = fit(open_run("b"), task, policy, first_value="search")
    assert same(result, searched)


def test_a_first_search_is_guided_by_a_constant(fitted) -> None:
    """Oracle: 0.5 on every node but the root, which is not assessed."""
    for record in fitted.stages["search-first"]:
        assert set(record["tree"]["trees"][0]["prior"][1:]) == {0.5}


# Bad input.


@pytest.mark.parametrize(
    "fields",
    [
        {"search": TreeSearch(iterations=4, end_gate=0.0)},
        {"search": TreeSearch(iterations=4, end_gate=1.1)},
        {"search": TreeSearch(iterations=4, low=1.0, high=1.0)},
        {"search": TreeSearch(iterations=4, branch=0)},
        {"search": TreeSearch(iterations=4, seconds=3.0)},
        {"search": TreeSearch()},
        {"rounds": 0},
        {"per_problem": 0},
        {"batch": 0},
        {"first_samples": 0},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: the specification's list; the defaults pass."""
    with pytest.raises(UsageError):
        method(**fields).validate()
    RestMcts().validate()


@pytest.mark.parametrize("first_value", ["search", "reference"])
def test_no_right_leaf_anywhere(first_value: str, policy, chains, open_run, monkeypatch, caplog) -> None:
    """Oracle: a verifier that says no; the error advises, and each batch without a right leaf warns."""
    task = chains()
    task._doors = task._doors._replace(grade=lambda problems, *_: [0.0] * len(problems))
    with caplog.at_level(logging.WARNING), pytest.raises(DataError) as error:
        fit(open_run(), task, policy, first_value=first_value)
    assert "easier problems" in str(error.value) and "--search.iterations" in str(error.value)
    warned = [record.args[0] for record in caplog.records if "No right solution" in record.msg]
    assert warned == [4, 4, 2]


def test_a_policy_that_never_ends_a_step(policy, chains, open_run) -> None:
    """Oracle: steps of one token at most, so no line is ever finished; the message shows one."""
    task = chains()
    task.step_tokens = 1
    with pytest.raises(
        DataError, match=r"never ended a step with the separator '\\n'; it wrote for example '\d'"
    ):
        fit(open_run(), task, policy)


def test_solutions_that_nobody_trusts(policy, chains, open_run) -> None:
    """Oracle: a limit that no value reaches; the message names the option and counts the solved."""
    with pytest.raises(DataError, match=r"of 10 problems were solved, but .* --least-value 2"):
        fit(open_run(), chains(), policy, least_value=2.0)


def test_prefixes_longer_than_the_context_end_wrong_and_are_counted(
    policy, chains, open_run, records
) -> None:
    """Oracle: 16 positions hold 5 + 8 tokens of one step, not 7 + 8 + 8 of two: none of those is solved."""
    task = chains("1-2", 16)
    short = policy.copy()
    short.context = 16
    run = open_run()
    result = fit(run, task, short, search=TreeSearch(iterations=6))
    lengths = {problem.id: len(solve(problem.prompt)) for problem in task.train}
    trees = records(run)["search-0"]
    assert set(lengths.values()) == {1, 2}
    for record in trees:
        if lengths[record["problem"]] == 2:
            assert record["no_room"] > 0 and not any(record["correct"])
    assert any(any(record["correct"]) for record in trees)
    assert result.metrics["rounds"][0]["no_room"] == sum(record["no_room"] for record in trees) > 0


# Interruptions.


@pytest.mark.parametrize("question", [0, 1, 4, 7])
def test_killed_at_a_question_and_resumed(
    question: int, policy, chains, open_run, records, monkeypatch
) -> None:
    """Oracle: the uninterrupted run's datasets and weights; what was searched is not searched again."""
    settings = {"batch": 1, "search": TreeSearch(iterations=3)}
    task = chains(2, 4)
    whole = fit(open_run("whole"), task, policy, **settings)
    expected = records(open_run("whole"))
    grow, calls = rest_mcts.grow, []

    def counted(*arguments, **more):
        calls.append(1)
        if len(calls) == question + 1:
            raise ConnectionAbortedError
        return grow(*arguments, **more)

    monkeypatch.setattr(rest_mcts, "grow", counted)
    with pytest.raises(ConnectionAbortedError):
        fit(open_run("cut"), task, policy, **settings)
    resumed = fit(open_run("cut"), task, policy, **settings)
    assert records(open_run("cut")) == expected and same(resumed, whole)
    assert len(calls) == 2 * 4 + 1


def test_a_budget_that_ends_in_the_first_search_can_be_raised(policy, chains, open_run) -> None:
    """Oracle: the run that never had a limit."""
    whole = fit(open_run("whole"), chains(), policy)
    with pytest.raises(BudgetSpent, match="larger --budget"):
        fit(open_run("cut", budget=Budget(generated_tokens=60)), chains(), policy)
    assert same(fit(open_run("cut"), chains(), policy), whole)


def test_a_budget_that_ends_in_a_later_search_keeps_what_is_there(policy, chains, open_run) -> None:
    """Oracle: a limit one token below what one round takes: it learns from the batches that were done."""
    run = open_run("whole")
    fit(run, chains(), policy)
    spent = run.meter.snapshot()["generated_tokens"]
    limited = open_run("cut", budget=Budget(generated_tokens=spent - 1))
    result = fit(limited, chains(), policy, rounds=3)
    (only,) = result.metrics["rounds"]
    assert 0 < only["problems"] < 10 and limited.meter.snapshot()["generated_tokens"] < spent
