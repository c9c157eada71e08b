"""What is particular to ReST-EM: what is kept, where each round starts, when the sampling ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.chains import solve
from selfstudy.learning.fine_tuning import FineTuning
from selfstudy.methods.reasoning import rest_em
from selfstudy.methods.reasoning.rest_em import RestEm, keep_right

SMALL = {"rounds": 1, "samples": 3, "temperature": 1.0, "batch": 4, "tuning": FineTuning(steps=2, batch=8)}


def fit(run, task, policy, **fields: Any):
    return RestEm(**{**SMALL, **fields}).fit(task.metered(run.meter), policy, run)


def test_keep_right() -> None:
    """Oracle: by hand: wrong ones never, equals once, the first `limit`, problem by problem."""
    task = SimpleNamespace(
        train=tuple(SimpleNamespace(id=name, prompt=f"{name}:", images=()) for name in "ab"),
        prompt=lambda problem, chat, hint=None: problem.prompt,
    )
    model = SimpleNamespace(chat=False, prompt=lambda text: text)
    drawn = [
        {"problem": name, "steps": list(steps), "right": right}
        for name, steps, right in (
            ("a", "xy", True),
            ("b", "q", True),
            ("a", "z", False),
            ("a", "xy", True),
            ("a", "v", True),
            ("a", "w", True),
        )
    ]
    kept = [(example.prompt, example.completion) for example in keep_right(task, model, drawn, 2)]
    assert kept == [("a:", "x\ny\n"), ("a:", "v\n"), ("b:", "q\n")]
    assert len(keep_right(task, model, drawn, 9)) == 4


def test_every_problem_before_a_second_sample(policy, chains, open_run, records) -> None:
    """Oracle: the order by hand; verdicts worked out from the prompts; tokens as on the meter."""
    run, task = open_run(), chains()
    facts = fit(run, task, policy).metrics["rounds"][0]
    rows = records(run)["samples-0"]
    assert [row["problem"] for row in rows] == [problem.id for problem in task.train] * 3
    prompts = {problem.id: problem.prompt for problem in task.train}
    for row in rows:
        answer = solve(prompts[row["problem"]])[-1][-2:]
        assert row["right"] == (len(row["steps"]) == 2 and row["steps"][-1].partition("=")[2] == answer)
    assert (
        facts["generated_tokens"]
        == run.meter.snapshot()["generated_tokens"]
        == sum(r["tokens"] for r in rows)
    )
    assert facts["solved"] == len({row["problem"] for row in rows if row["right"]})


def test_the_batch_changes_no_sample(policy, chains, open_run, records) -> None:
    """Oracle: the same run with all problems at once; a larger training set keeps the samples it had."""
    fit(open_run("a"), chains(), policy)
    fit(open_run("b"), chains(), policy, batch=64)
    assert records(open_run("a")) == records(open_run("b"))


@pytest.mark.parametrize("restart", ["base", "previous"])
def test_where_a_round_starts(restart: str, policy, chains, open_run, monkeypatch) -> None:
    """Oracle: the model handed to fine-tuning, by identity; samples always come from the newest policy."""
    starts, sampled, tune, sample = [], [], rest_em.fine_tune, rest_em.sample_solutions
    monkeypatch.setattr(rest_em, "fine_tune", lambda model, *rest: starts.append(model) or tune(model, *rest))
    monkeypatch.setattr(
        rest_em,
        "sample_solutions",
        lambda model, *rest, **more: sampled.append(model) or sample(model, *rest, **more),
    )
    fit(open_run(), chains(), policy, rounds=2, restart=restart, samples=1, batch=99)
    assert starts[0] is policy and (starts[1] is policy) == (restart == "base")
    assert sampled[0] is policy and sampled[1] is not policy
    assert restart == "base" or sampled[1] is starts[1]


def test_a_cap_on_the_tokens(policy, chains, open_run, records) -> None:
    """Oracle: the same samples without a cap, cut after the pass that reaches it."""
    fit(open_run("free"), chains(), policy)
    whole = records(open_run("free"))["samples-0"]
    run = open_run("capped")
    fit(run, chains(), policy, tokens=200)
    rows = records(run)["samples-0"]
    last = 4 if len(rows) % 10 in (4, 8) else 2  # the sizes of the batches of ten problems
    assert rows == whole[: len(rows)] and len(rows) < len(whole)
    assert sum(row["tokens"] for row in rows) >= 200 > sum(row["tokens"] for row in rows[:-last])


def test_nothing_right(policy, chains, open_run) -> None:
    """Oracle: a verifier that says no; with a budget that ended before all was drawn it is no error."""
    task = chains()
    task._doors = task._doors._replace(grade=lambda problems, *_: [0.0] * len(problems))
    with pytest.raises(DataError, match=r"round 0 solves any of 10 problems.*rest-mcts"):
        fit(open_run("a"), task, policy)
    with pytest.raises(DataError):
        fit(open_run("b"), task, policy, tokens=50)
    result = fit(open_run("c", budget=Budget(generated_tokens=100)), task, policy)
    assert result.model is policy and result.metrics == {"rounds": []}


@pytest.mark.parametrize(
    "fields", [{"rounds": 0}, {"samples": 0}, {"per_problem": 0}, {"batch": 0}, {"temperature": 0.0}]
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        RestEm(**{**SMALL, **fields}).validate()
    RestEm().validate()
