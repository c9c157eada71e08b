"""What is particular to TRICE: chains from step to step, what is learnt, and what it says of bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, Stopped, UsageError
from selfstudy.learning.weighted_sequences import SequenceTuning, WeightedText
from selfstudy.methods.reasoning import trice
from selfstudy.methods.reasoning.trice import Trice
from selfstudy.models.language.tiny import random_tiny_model

SMALL: dict[str, Any] = {"steps": 4, "problems": 5, "terms": 6, "batch": 4}


def fit(run, task, policy, **fields: Any):
    return Trice(**{**SMALL, **fields}).fit(task.metered(run.meter), policy, run)


def learnt(monkeypatch) -> list[list[WeightedText]]:
    """Collects what each step learns from."""
    seen: list[list[WeightedText]] = []
    step = trice.SequenceLearner.step
    monkeypatch.setattr(
        trice.SequenceLearner, "step", lambda self, texts: seen.append(texts) or step(self, texts)
    )
    return seen


def log_of(run) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "acceptance" in line]


def test_chains_live_on(policy, chains, open_run, records) -> None:
    """Oracle: the final memory replayed from what was drawn: the last right rationale, else the first."""
    run, task = open_run(), chains()
    fitted = fit(run, task, policy, steps=6)
    first = {p.prompt: row for p, row in zip(task.train, records(run)["guide"], strict=True)}
    for row in fitted.parts["memory"].rows:
        moved = row.solution != first[row.prompt]["text"]
        assert row.right or not first[row.prompt]["right"]
        assert row.right or not moved  # a wrong chain keeps its first state
        assert row.right == (bool(row.solution) and task.verify(*_solution(task, row)))
    ages = [row.age for row in fitted.parts["memory"].rows]
    assert min(ages) == 0 and max(ages) <= 6
    assert fitted.metrics["right_in_memory"] == sum(row.right for row in fitted.parts["memory"].rows)


def _solution(task, row):
    problem = next(problem for problem in task.train if problem.prompt == row.prompt)
    return problem, task.steps(row.solution)


def test_what_a_step_learns(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: the cases: right proposals (1 - beta)/C, chains 1/C and their wrong proposals -beta/C."""
    seen = learnt(monkeypatch)
    run = open_run()
    fit(run, chains(5), policy, steps=1, problems=10, terms=99)
    (line,) = log_of(run)
    c = round(10 * line["held"])
    right = round(10 * line["acceptance"])
    weights = sorted(text.weight for text in seen[0])
    assert 0 < right < c  # there are cases of each kind
    betas = [(right - 1) / (c - 1), right / (c - 1)]  # of an example with a right proposal, and of others
    expected = right * [(1 - betas[0]) / c] + (c - right) * [1 / c, -betas[1] / c]
    assert weights == pytest.approx(sorted(expected))
    assert line["beta"] == pytest.approx((right * betas[0] + (c - right) * betas[1]) / c)


def test_without_control_variate(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: C terms of weight 1/C, or 1/M; the noise is that of the basic estimate."""
    seen = learnt(monkeypatch)
    for name, normalise, count in (("c", "C", None), ("m", "M", 10)):
        run = open_run(name)
        fit(run, chains(), policy, steps=1, problems=10, terms=99, estimate="basic", normalise=normalise)
        (line,) = log_of(run)
        c = round(10 * line["held"])
        assert [text.weight for text in seen[-1]] == pytest.approx([1 / (count or c)] * c)
        assert line["noise"] == pytest.approx(1) and line["beta"] == 0


def test_subsampling(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: at most L texts, sizes that are multiples of W / L."""
    seen = learnt(monkeypatch)
    fit(open_run(), chains(), policy, steps=3, problems=10, terms=3)
    for texts in seen:
        assert len(texts) <= 3
        least = min(abs(text.weight) for text in texts)
        assert all(
            abs(text.weight) / least == pytest.approx(round(abs(text.weight) / least)) for text in texts
        )


@pytest.mark.parametrize(
    "fields", [{"refresh": 1}, {"refresh": 3}, {"tuning": SequenceTuning(soft_prompt=2)}]
)
def test_resumed_at_any_step(fields: dict[str, Any], policy, chains, open_run, monkeypatch) -> None:
    """Oracle: the uninterrupted run: the same hash of the memory, the same weights, the same log."""
    whole = fit(open_run("whole"), chains(), policy, **fields)
    log = [{**line, "seconds": 0} for line in log_of(open_run("whole"))]
    charge = trice.SequenceLearner.charge
    for stop in (1, 3):
        left = iter([True] * stop)

        def charging(self, *rest, left=left):
            if not next(left, False):
                raise Stopped("now")
            charge(self, *rest)

        with monkeypatch.context() as patched, pytest.raises(Stopped):
            patched.setattr(trice.SequenceLearner, "charge", charging)
            fit(open_run(f"cut-{stop}", checkpoint_steps=1), chains(), policy, **fields)
        again = fit(open_run(f"cut-{stop}", checkpoint_steps=1), chains(), policy, **fields)
        assert again.metrics == whole.metrics and again.parts == whole.parts
        pairs = zip(again.model.module.parameters(), whole.model.module.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert [{**line, "seconds": 0} for line in log_of(open_run(f"cut-{stop}"))] == log


def test_draws_ahead(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: the policies that draw, by call: one call for three steps; lags by hand; tokens add up."""
    calls, draw = [], trice.draw_rationales
    monkeypatch.setattr(
        trice,
        "draw_rationales",
        lambda model, task, problems, *rest, **more: (
            calls.append(len(problems)) or draw(model, task, problems, *rest, **more)
        ),
    )
    run = open_run()
    fit(run, chains(), policy, steps=5, refresh=3, batch=99)
    assert calls == [10, 15, 10]
    assert [line["lag"] for line in log_of(run)] == [0, 1, 2, 0, 1]
    first = 16 * 10  # two lines of eight characters for each of ten problems
    assert run.meter.snapshot()["generated_tokens"] == first + sum(x["generated_tokens"] for x in log_of(run))


def test_a_guide_that_sees_answers(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: the prompts of the first draws by hand, one label each; it is learnt under the plain prompt."""
    seen, draw = learnt(monkeypatch), trice.draw_rationales
    shown = []
    monkeypatch.setattr(
        trice,
        "draw_rationales",
        lambda *rest, **more: shown.append(more.get("shown", False)) or draw(*rest, **more),
    )
    run, task = open_run(), chains()
    fit(run, task, policy, guide="answer", batch=99)
    assert shown == [True, False, False, False, False]
    assert run.meter.snapshot()["oracle_labels"] == 10
    plain = {tuple(policy.encode(problem.prompt)) for problem in task.train}
    assert {text.prompt for texts in seen for text in texts} <= plain
    lines = task.oracle.solution(task.train[0])
    assert task.guided_prompt(task.train[0]) == f"{task.train[0].prompt[:-1]}={lines[-1][-2:]}:"


def test_a_soft_prompt(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: what is drawn and learnt stands after the soft prompt; only its embeddings have changed."""
    run, task, seen = open_run(), chains(), learnt(monkeypatch)
    tuning = SequenceTuning(learning_rate=0.03, soft_prompt=3)
    fitted = fit(run, task, policy, steps=6, tuning=tuning, guide="base")
    known = len(policy.tokenizer)
    soft = tuple(range(known, known + 3))
    assert all(text.prompt[:3] == soft for step in seen for text in step)
    assert fitted.model.encode("47+8:") == [*soft, *policy.encode("47+8:")]
    start, end = policy.module.state_dict(), fitted.model.module.state_dict()
    assert all(torch.equal(end[name][: len(start[name])], start[name]) for name in start)
    embedding = fitted.model.module.get_input_embeddings().weight
    assert all(not torch.isin(row, start["model.embed_tokens.weight"]).all() for row in embedding[known:])
    again = fit(open_run("again"), task, policy, steps=6, tuning=tuning, guide="base")
    assert torch.equal(again.model.module.get_input_embeddings().weight, embedding)


def test_nothing_right(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: a verifier that says no: a warning at the start, an error when patience or the steps end; none
    where the budget ended before."""
    assert trice.BARREN == 50
    monkeypatch.setattr(trice, "BARREN", 2)
    task = chains()
    task._doors = task._doors._replace(grade=lambda problems, *_: [0.0] * len(problems))
    with (
        pytest.warns(UserWarning, match="None of 10 first"),
        pytest.raises(DataError, match="1 steps in a row"),
    ):
        fit(open_run("a"), task, policy, steps=1)
    with (
        pytest.warns(UserWarning, match="None of 10 first"),
        pytest.raises(DataError, match="2 steps in a row"),
    ):
        fit(open_run("b"), task, policy)
    budget = Budget(generated_tokens=300)
    with pytest.warns(UserWarning, match="None of 10 first"):
        fitted = fit(open_run("c", budget=budget), task, policy)
    assert fitted.metrics["right_in_memory"] == 0


def test_answers_that_cannot_be_read(chains, open_run) -> None:
    """Oracle: an untrained model writes no lines of arithmetic."""
    with (
        pytest.warns(UserWarning, match=r"of 10 first rationales .* state no answer"),
        pytest.warns(UserWarning, match="None of 10 first"),
        pytest.raises(DataError),
    ):
        fit(open_run(), chains(), random_tiny_model(1, 16))


def test_answers_in_the_questions(policy, open_run, tmp_path) -> None:
    """Oracle: questions that all hold their answer; with a verifier of choices that is as it should be."""
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n}+{n}={n + n}:", "answer": str(n + n)} for n in range(10, 40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = "verifier=exact&solution_tokens=4"
    with pytest.warns(UserWarning, match="stands in 100% of the training questions"):
        Trice()._require_sense(selfstudy.task(f"jsonl:{path}?{fields}"))
    path.write_text(
        "".join(json.dumps({**row, "answer": "B", "prompt": row["prompt"] + "B"}) + "\n" for row in rows)
    )
    Trice()._require_sense(selfstudy.task(f"jsonl:{path}?{fields.replace('exact', 'choice')}"))


def test_a_task_that_cannot_show_answers(policy, chains, open_run) -> None:
    """Oracle: a form without such prompts; nothing is drawn."""
    run, task = open_run(), chains()
    task.form = replace(task.form, guided=None)
    with pytest.raises(UsageError, match="guide answer needs prompts"):
        fit(run, task, policy, guide="answer")
    assert not run.meter.snapshot()["generated_tokens"]


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"problems": 0},
        {"terms": 0},
        {"batch": 0},
        {"refresh": 0},
        {"tuning": SequenceTuning(clip=-1)},
        {"tuning": SequenceTuning(soft_prompt=0)},
        {"tuning": SequenceTuning(soft_prompt=2, lora_rank=2)},
        {"tuning": SequenceTuning(soft_prompt=2, weight_decay=0.1)},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        Trice(**{**SMALL, **fields}).validate()
    Trice().validate()
