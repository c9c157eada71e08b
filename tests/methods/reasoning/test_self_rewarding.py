"""What is particular to Self-Rewarding: both judges, and the pairs that they make."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.preferences import Preference
from selfstudy.methods.reasoning import self_rewarding
from selfstudy.methods.reasoning.self_rewarding import SelfRewarding, preference_pairs, rating
from selfstudy.models.language.sampling import Completion

SMALL = {
    "rounds": 1,
    "samples": 3,
    "temperature": 1.0,
    "judge": "likelihood",
    "batch": 4,
    "preference": Preference(steps=2, batch=8, learning_rate=1e-5),
}
TASK = SimpleNamespace(
    train=(SimpleNamespace(id="a", prompt="1:", images=()),),
    prompt=lambda problem, chat, hint=None: problem.prompt,
)
MODEL = SimpleNamespace(chat=False, prompt=lambda text: text)


def fit(run, task, policy, **fields: Any):
    return SelfRewarding(**{**SMALL, **fields}).fit(task.metered(run.meter), policy, run)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("0.8", 0.8),
        (" 1", 1.0),
        ("0", 0.0),
        (".5", 0.5),
        ("I say 0.25, not 0.5", 0.25),
        ("1.5", None),
        ("-0.5", None),
        ("8/10", None),
        ("", None),
        ("certain", None),
    ],
)
def test_rating(text: str, score: float | None) -> None:
    """Oracle: the first number where it is in [0, 1], else nothing."""
    assert rating(text) == score


@pytest.mark.parametrize(
    ("scores", "pair"),
    [
        ([0.2, 0.9, 0.5], ("y\n", "x\n")),
        ([0.9, 0.9, 0.1], ("x\n", "z\nz\n")),
        ([None, 0.3, 0.4], ("z\nz\n", "y\n")),
        ([0.5, 0.5, 0.5], None),
        ([None, None, 0.5], None),
        ([None, None, None], None),
    ],
)
def test_pairs(scores: list[float | None], pair: tuple[str, str] | None) -> None:
    """Oracle: by hand: best over worst, the first of equals, unscored ones left out, no pair of equals."""
    record = {"problem": "a", "solutions": [["x"], ["y"], ["z", "z"]], "scores": scores}
    pairs = [(p.prompt, p.chosen, p.rejected) for p in preference_pairs(TASK, MODEL, [record])]
    assert pairs == ([("1:", *pair)] if pair else [])


def test_one_text_is_not_preferred_over_itself() -> None:
    """Oracle: two scores of one text that differ by rounding make no pair."""
    record = {"problem": "a", "solutions": [["x"], ["x"]], "scores": [0.5, 0.5 + 1e-9]}
    assert preference_pairs(TASK, MODEL, [record]) == []


def test_the_likelihood_judge(policy, chains, open_run, records) -> None:
    """Oracle: a plain forward pass over each solution: the geometric mean of its tokens' probabilities."""
    run, task = open_run(), chains()
    facts = fit(run, task, policy).metrics["rounds"][0]
    rows, prompts = records(run)["samples-0"], {problem.id: problem.prompt for problem in task.train}
    assert [row["problem"] for row in rows] == list(prompts)
    for row in rows:
        start = len(prompts[row["problem"]])
        for steps, score in zip(row["solutions"], row["scores"], strict=True):
            text = "".join(f"{step}\n" for step in steps)
            tokens = torch.tensor([policy.encode(prompts[row["problem"]] + text)])
            with torch.inference_mode():
                logs = policy.module(input_ids=tokens).logits[0].log_softmax(-1)
            picked = logs[start - 1 : -1].gather(1, tokens[0, start:, None])
            assert score == pytest.approx(math.exp(float(picked.mean())), rel=1e-4)
    spent = run.meter.snapshot()
    assert facts["generated_tokens"] == spent["generated_tokens"] == sum(row["tokens"] for row in rows)
    assert spent["verifier_calls"] == spent["oracle_labels"] == 0


class Judge:
    """Stands in for the sampler that asks: its replies go round, three tokens each."""

    replies = ("0.1", "0.9", "??")
    asked: list[Any]

    def __init__(self, policy: Any, meter: Any) -> None:
        self.meter = meter

    def sample(self, requests: list[Any]) -> list[Completion]:
        Judge.asked += requests
        self.meter.charge(generated_tokens=3 * len(requests))
        return [Completion(self.replies[i % 3], (0,) * 3, (0.0,) * 3, "length") for i in range(len(requests))]


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> type[Judge]:
    Judge.asked = []
    monkeypatch.setattr(self_rewarding, "open_sampler", Judge)
    monkeypatch.setattr(SelfRewarding, "_require_judge", lambda *_: None)
    return Judge


def test_the_asking_judge(policy, chains, open_run, records, judge) -> None:
    """Oracle: the replies by turns; the question holds problem and solution; its tokens count."""
    run, task = open_run(), chains()
    fit(run, task, policy, judge="prompt")
    rows = records(run)["samples-0"]
    assert all(row["scores"] == [0.1, 0.9, None] for row in rows)
    assert run.meter.snapshot()["generated_tokens"] == sum(row["tokens"] for row in rows)
    request, row = judge.asked[1], rows[0]
    text = "\n".join(row["solutions"][1])
    assert f"Problem: {task.train[0].prompt}\nSolution:\n{text}\nRating: " in request.prompt
    assert request.temperature == 0 and len(judge.asked) == 30


def test_a_judge_without_an_opinion(policy, chains, open_run, judge, monkeypatch) -> None:
    """Oracle: one score for everything, and no score for anything; a budget that ends first is no error."""
    for reply in ("0.5", "none"):
        monkeypatch.setattr(judge, "replies", (reply,) * 3)
        with pytest.raises(DataError, match="--judge likelihood"):
            fit(open_run(reply), chains(), policy, judge="prompt")
    result = fit(open_run("cut", budget=Budget(generated_tokens=30)), chains(), policy, judge="prompt")
    assert result.model is policy and result.metrics == {"rounds": []}


def test_empty_solutions_are_not_judged(policy, chains, open_run, records, judge, monkeypatch) -> None:
    """Oracle: samples by hand, of which one is empty: it has no score and costs no question."""
    drawn = [(("a",), 2), ((), 1), (("b",), 2)]
    monkeypatch.setattr(
        self_rewarding, "sample_solutions", lambda _, __, many, *___, **____: drawn * (len(many) // 3)
    )
    monkeypatch.setattr(self_rewarding, "prefer", lambda model, *_: model)
    run = open_run()
    fit(run, chains(), policy, judge="prompt")
    for row in records(run)["samples-0"]:
        assert row["scores"][1] is None and row["tokens"] == 5 + 2 * 3


def test_solutions_that_fill_the_context_are_left_out(policy, chains, open_run, records) -> None:
    """Oracle: a context of 22, prompts of 5 or 7, and the line break that the sampler had no room for."""
    short, task = policy.copy(), chains("1-2", 16)
    short.context = 22
    run = open_run()
    fit(run, task, short)
    prompts = {problem.id: problem.prompt for problem in task.train}
    rows = [
        (len(prompts[row["problem"]]) + len("\n".join(steps)) + 1, score)
        for row in records(run)["samples-0"]
        for steps, score in zip(row["solutions"], row["scores"], strict=True)
    ]
    assert all((score is not None) == (length <= 22) for length, score in rows)
    assert {score is None for _, score in rows} == {True, False}


def test_a_tokenizer_without_words_cannot_judge(policy, chains, open_run) -> None:
    """Oracle: the embedded model knows no letters; the error comes before anything is drawn."""
    run = open_run()
    with pytest.raises(DataError, match="Use --judge likelihood"):
        fit(run, chains(), policy, judge="prompt")
    assert run.meter.snapshot()["generated_tokens"] == 0 and not (run.directory / "stages").exists()


@pytest.mark.parametrize("fields", [{"rounds": 0}, {"samples": 1}, {"batch": 0}, {"temperature": -1.0}])
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        SelfRewarding(**{**SMALL, **fields}).validate()
    SelfRewarding().validate()
