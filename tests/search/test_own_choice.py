"""Best of n by the model's own reward: who may be chosen, when enough is drawn, and the solver."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.random import stream_key
from selfstudy.models.language.scoring import sequence_logprobs
from selfstudy.search.own_choice import candidates, covered, own_choice_solver
from selfstudy.search.rollouts import Answer, Group, draw_groups, draw_until

TASK = selfstudy.task("chain100?steps=2&train=6&validation=0&test=1")
PROBLEM = SimpleNamespace(id="1", prompt="1+1:")
FORMS = SimpleNamespace(stop=(), answer=lambda steps, problem: steps[-1], is_end=lambda problem, steps: True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def policy():
    return selfstudy.model("tiny-lm")


def keys(count: int) -> list[list[int]]:
    return [[100 * i + j for j in range(count)] for i in range(len(TASK.train))]


def answer(steps: tuple[str, ...], logprob: float, finish: str = "end") -> Answer:
    return Answer(PROBLEM, "", steps, (0,), finish, (logprob,))


def test_neither_cut_off_nor_empty_answers_are_chosen() -> None:
    """Oracle: by hand: the likeliest is cut off, the next is empty; kept on demand, of equals the first."""
    model = SimpleNamespace(end=9)
    answers = (
        answer(("1",), -0.1, "length"),
        answer((), -0.5),
        answer(("2",), -2.0),
        answer(("3",), -2.0),
    )
    scored = candidates(FORMS, model, Group(PROBLEM, (1,), answers), "likelihood")
    assert (scored.cut, scored.empty, scored.usable.tolist(), scored.best) == (1, 1, [2, 3], 2)
    kept = candidates(FORMS, model, Group(PROBLEM, (1,), answers), "likelihood", keep_empty=True)
    assert kept.best == 1
    assert candidates(FORMS, model, Group(PROBLEM, (1,), answers[:2]), "likelihood").best is None


def test_drawing_ends_where_the_best_is_covered(policy) -> None:
    """Oracle: the rule worked out on the answers of one call with all keys, of which they are the first."""
    least = math.log(1 / 0.001)
    whole = draw_groups(policy, TASK, TASK.train, Meter(), keys=keys(32), temperature=1.0)
    enough = covered(TASK, policy, least)
    meter = Meter()
    groups = draw_until(policy, TASK, TASK.train, meter, keys=keys(32), temperature=1.0, enough=enough)
    counts = []
    for group, all_of_it in zip(groups, whole, strict=True):
        n = 4
        while n < 32 and n * max(math.exp(sum(a.logprobs)) for a in all_of_it.answers[:n]) < least:
            n *= 2
        counts.append(n)
        assert [a.tokens for a in group.answers] == [a.tokens for a in all_of_it.answers[:n]]
    assert min(counts) < max(counts) <= 32
    assert meter.snapshot()["generated_tokens"] == sum(len(a.tokens) for g in groups for a in g.answers)


def test_the_solver_gives_the_likeliest_of_what_was_drawn(policy) -> None:
    """Oracle: the same answers scored by the module; fewer samples choose among the first of them."""
    drawn = draw_groups(
        policy,
        TASK,
        TASK.train,
        Meter(),
        keys=[[stream_key(3, "own choice", p.id, i) for i in range(6)] for p in TASK.train],
        temperature=1.0,
    )
    for samples in (1, 6):
        solve = own_choice_solver(policy, TASK, samples=samples, seed=3)
        for group, steps in zip(drawn, solve(TASK.train, Meter()), strict=True):
            prompt = TASK.prompt(group.problem)
            sums = sequence_logprobs(policy, [(prompt, a.tokens) for a in group.answers[:samples]])
            assert steps == group.answers[max(range(samples), key=lambda i: round(sums[i], 3))].steps
