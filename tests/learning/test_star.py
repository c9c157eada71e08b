"""STaR and rejection sampling, on two-step chains."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.files import read_json
from selfstudy.learning import star as star_file
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.rejection import Rejection, rejection_sampling, rejection_weights
from selfstudy.learning.star import Star, round_steps, star
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.solvers import sample_solutions

SMALL = Star(rounds=1, steps=2, batch=4, tuning=FineTuning(batch=8))


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    return selfstudy.model("tiny-lm")


@pytest.fixture
def records() -> Any:
    return lambda run, name: read_json(run.directory / "stages" / name / "stage.json")["value"]


def task_of(run: Any) -> Any:
    return selfstudy.task("chain100?steps=2&train=10&validation=0&test=1").metered(run.meter)


def same(first: LanguageModel, second: LanguageModel) -> bool:
    pairs = zip(first.module.parameters(), second.module.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_one_round_is_fine_tuning_on_right_samples(policy, open_run, monkeypatch) -> None:
    """Oracle: `fine_tune` on the greedy solutions that verify, in the order that they were drawn."""
    run = open_run("star")
    task = task_of(run)
    chosen: list[Example] = []
    tune = fine_tune
    monkeypatch.setattr(
        star_file,
        "fine_tune",
        lambda model, examples, *rest: chosen.extend(examples) or tune(model, examples, *rest),
    )
    settings = Star(rounds=1, steps=2, batch=4, rationalise=False, tuning=FineTuning(batch=8))
    found = star(policy, task, settings, run)
    assert run.meter.snapshot()["oracle_labels"] == 0

    order = [task.train[n] for n in run.rng("star", "order", 0).permutation(10)]
    drawn = sample_solutions(policy, task, order, run.meter, keys=[0] * 10, temperature=0.0)
    right = [
        Example(problem.prompt, "".join(f"{step}\n" for step in steps))
        for problem, (steps, _) in zip(order, drawn, strict=True)
        if task.verify(problem, steps)
    ]
    assert chosen == right and 0 < len(right) < 10
    with open_run("plain") as plain:
        expected = plain.stage(
            "star-policy-0", lambda: tune(policy, right, FineTuning(batch=8, steps=2), plain, "policy")
        )
    assert same(found, expected)


def test_rationalisation_and_where_rounds_start(policy, open_run, monkeypatch, records) -> None:
    """Oracle: a second draw, one label each, for exactly those that failed, learnt under the plain prompt; by
    identity, every round fine-tunes the base."""
    run = open_run()
    starts, tune = [], fine_tune
    monkeypatch.setattr(
        star_file, "fine_tune", lambda model, *rest: starts.append(model) or tune(model, *rest)
    )
    star(policy, task_of(run), Star(rounds=2, steps=4, batch=4, tuning=FineTuning(batch=8)), run)
    assert starts == [policy, policy]
    failed = 0
    for r in range(2):
        rows = records(run, f"star-draws-{r}")
        firsts = {row["prompt"]: row["right"] for row in reversed(rows)}
        assert len(firsts) == 10 and len(rows) == 10 + sum(not right for right in firsts.values())
        failed += len(rows) - 10
        assert all("=" not in row["prompt"] for row in rows)
    assert run.meter.snapshot()["oracle_labels"] == failed > 0


def test_tokens_end_the_drawing(policy, open_run, records) -> None:
    """Oracle: the records of the free run, cut after the batch that reaches the limit."""
    free = open_run("free")
    star(policy, task_of(free), SMALL, free)
    rows = records(free, "star-draws-0")
    capped = open_run("capped")
    star(
        policy,
        task_of(capped),
        Star(rounds=3, steps=3, batch=4, tokens=70, tuning=FineTuning(batch=8)),
        capped,
    )
    cut = records(capped, "star-draws-0")
    assert not (capped.directory / "stages" / "star-draws-1").exists() and cut == rows[: len(cut)]
    assert 70 <= sum(row["tokens"] for row in cut) < sum(row["tokens"] for row in rows)


def test_nothing_right(policy, open_run) -> None:
    """Oracle: a verifier that says no."""
    run = open_run()
    task = task_of(run)
    task._doors = task._doors._replace(grade=lambda problems, *_: [0.0] * len(problems))
    with pytest.raises(DataError, match="round 0 leads to a right answer"):
        star(policy, task, SMALL, run)
    with pytest.raises(UsageError, match="a step for each round"):
        star(policy, task, Star(rounds=3, steps=2), run)


@given(st.integers(1, 9), st.integers(0, 60), st.floats(0.5, 2.0))
def test_steps_of_rounds(rounds: int, more: int, growth: float) -> None:
    """Oracle: they add up, none is without a step, and they grow when growth is above 1."""
    steps = round_steps(Star(rounds=rounds, steps=rounds + more, growth=growth))
    assert sum(steps) == rounds + more and len(steps) == rounds and min(steps) >= 1
    if growth >= 1:
        assert all(b >= a - 1 for a, b in itertools.pairwise(steps))


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
def test_weights_of_rejection_sampling(verdicts: list[list[bool]]) -> None:
    """Oracle: each solved problem's weights sum to 1 / solved problems, all equal, none on wrong ones."""
    right = np.array(verdicts)
    weights = rejection_weights(right)
    solved = right.any(1)
    assert weights.sum(1)[solved] == pytest.approx(1 / max(1, solved.sum())) and not weights[~right].any()


def test_rejection_sampling_learns_and_resumes(policy, open_run, monkeypatch) -> None:
    """Oracle: the run that was not cut off, bit for bit; the likelihood of right answers rises."""
    settings = Rejection(steps=4, problems=5, particles=2)
    whole = open_run("whole")
    found = rejection_sampling(policy, task_of(whole), settings, whole)
    assert not same(found, policy)
    cut = open_run("cut")
    steps = cut.steps
    monkeypatch.setattr(cut, "steps", lambda n, **more: steps(2, **more))  # ends as a kill would end it
    rejection_sampling(policy, task_of(cut), settings, cut)
    again = open_run("cut")
    assert same(rejection_sampling(policy, task_of(again), settings, again), found)
