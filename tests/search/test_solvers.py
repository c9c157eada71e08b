"""Ways to answer: votes by hand, searches against a value that knows the truth and one that knows nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.core.random import stream_key
from selfstudy.data.chains import replay, solve
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.value import ValueModel
from selfstudy.search import solvers
from selfstudy.search.beams import TreeOfThought
from selfstudy.search.mcts import TreeSearch, best_answer, best_end_leaf, grow
from selfstudy.search.reasoning import ConstantValue, ReasoningDomain
from selfstudy.search.solvers import greedy_solver, sample_solutions, tree_solver, voting_solver
from selfstudy.signals.reference_values import reference_targets
from selfstudy.tasks.reasoning import ReasoningTask

from .scripted import Policy, Scripted, coin_task, coins


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def policy() -> LanguageModel:
    return selfstudy.model("tiny-lm")


@cache
def chains(steps: int, train: int) -> ReasoningTask:
    return selfstudy.task(f"chain100?steps={steps}&train={train}&validation=0&test=1")


class Known:
    """A value model that knows: `of(prompt, steps)`."""

    def __init__(self, of) -> None:
        self.of = of

    def values(self, prefixes: Sequence[tuple[str, Sequence[str]]], meter: Meter) -> np.ndarray:
        return np.array([self.of(prompt, steps) for prompt, steps in prefixes])

    def remembering(self):
        return self


def exact_value(prompt: str, steps: Sequence[str]) -> float:
    """The paper's targets from the reference solution of a chain."""
    return reference_targets(steps, solve(prompt))[-1] if steps else 0.0


# Votes.

SAMPLES = [("x=1", "y=55"), ("x=2", "y=54"), ("z=54",), ("w",), ("x=3", "y=55")]
TRUST = {"y=55": 0.3, "y=54": 0.2, "z=54": 0.5, "w": 0.9}


@pytest.mark.parametrize(
    ("vote", "chosen"),
    [("majority", 0), ("best", 2), ("weighted", 1)],
)
def test_votes(vote: str, chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: 55 and 54 twice each, the first wins; 0.5 is the best answered; 0.7 beats 0.6."""
    task = coin_task(2)
    task.form = type(task.form)(
        answer=lambda _, steps: steps[-1].partition("=")[2] or None, ended=task.form.ended
    )
    monkeypatch.setattr(
        solvers, "sample_solutions", lambda *_, **__: [(steps, len(steps)) for steps in 2 * SAMPLES]
    )
    value = Known(lambda _, steps: TRUST[steps[-1]])
    solver = voting_solver(Policy(), task, samples=5, vote=vote, seed=0, temperature=1.0, value=value)
    assert solver(task.train, Meter()) == [SAMPLES[chosen]] * 2


def test_votes_without_any_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the first sample, whichever vote."""
    task = coin_task(1)
    task.form = type(task.form)(answer=lambda *_: None, ended=task.form.ended)
    monkeypatch.setattr(solvers, "sample_solutions", lambda *_, **__: [(("a",), 1), (("b",), 1)])
    for vote in solvers.VOTES:
        solver = voting_solver(
            Policy(), task, samples=2, vote=vote, seed=0, temperature=1.0, value=ConstantValue()
        )
        assert solver(task.train, Meter()) == [("a",)]


def test_votes_that_cannot_be() -> None:
    """Oracle: the words of the messages."""
    for vote, words in (("best", "needs a value model"), ("weigthed", "Did you mean 'weighted'")):
        with pytest.raises(UsageError, match=words):
            voting_solver(Policy(), coin_task(1), samples=2, vote=vote, seed=0, temperature=1.0)


def test_one_vote_is_one_sample() -> None:
    """Oracle: `sample_solutions` with the documented keys; tokens on the meter given."""
    task, meter, other = chains(3, 8), Meter(), Meter()
    solver = voting_solver(policy(), task, samples=1, vote="majority", seed=3, temperature=0.8)
    keys = [stream_key(3, "vote", problem.id, 0) for problem in task.train]
    drawn = sample_solutions(policy(), task, task.train, other, keys=keys, temperature=0.8)
    assert solver(task.train, meter) == [steps for steps, _ in drawn]
    assert meter.snapshot()["generated_tokens"] == sum(n for _, n in drawn)
    assert meter.snapshot()["verifier_calls"] == 0


def test_greedy_takes_the_likeliest_tokens() -> None:
    """Oracle: transformers' own generate without sampling."""
    task = chains(3, 4)
    texts = []
    for problem in task.train:
        tokens = torch.tensor([policy().encode(problem.prompt)])
        out = policy().module.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=task.solution_tokens,
            do_sample=False,
        )
        texts.append(task.steps(policy().decode(out[0, tokens.shape[1] :].tolist())))
    assert greedy_solver(policy(), task)(task.train, Meter()) == texts


# Searches.


def settings_of_searches():
    return (
        (TreeSearch(iterations=6), False),
        (TreeOfThought(branch=3, keep=2, depth=3), False),
        (TreeOfThought(branch=2, keep=2, depth=3), True),
    )


@pytest.mark.parametrize(("settings", "depth_first"), settings_of_searches(), ids=["mcts", "bfs", "dfs"])
def test_searches_never_verify_and_do_not_depend_on_the_batch(
    settings, depth_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: no check on any meter; the same answers in chunks of three as in one."""
    task, value = chains(3, 8), ValueModel.from_policy(policy())
    meters = Meter(), Meter()
    task = task.metered(meters[0])
    solver = tree_solver(policy(), task, value, settings, seed=1, temperature=1.0, depth_first=depth_first)
    whole = solver(task.train, meters[0])
    monkeypatch.setattr(solvers, "LOCKSTEP", 3)
    assert solver(task.train, meters[1]) == whole
    spent, again = (meter.snapshot() for meter in meters)
    assert spent["verifier_calls"] == spent["oracle_labels"] == 0
    assert spent["generated_tokens"] == again["generated_tokens"] > 0
    assert all(task.is_end(problem, steps) or steps for problem, steps in zip(task.train, whole, strict=True))


@pytest.mark.parametrize(("steps", "gate"), [(4, 0.9), (6, 1.0)])
def test_with_exact_values_no_right_leaf_is_missed(
    steps: int, gate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: replay of every leaf: where one is right in every line, the answer is right.

    With gate 0.9 a look-ahead lifts a prefix of K - 1 steps to at most (1 + 3/4) / 2, below the gate.
    """
    seen = []

    def noting(forest, tree):
        seen.append((forest, tree))
        return best_answer(forest, tree)

    monkeypatch.setattr(solvers, "best_answer", noting)
    task = chains(steps, 40)
    settings = TreeSearch(iterations=3 * steps, end_gate=gate)
    solver = tree_solver(policy(), task, Known(exact_value), settings, seed=0, temperature=1.0)
    solutions = solver(task.train, Meter())
    reached = 0
    for problem, solution, (forest, tree) in zip(task.train, solutions, seen, strict=True):
        paths = [forest.path(tree, node) for node in range(forest.size[tree])]
        if any(len(path) == steps and replay(problem.prompt, path) is None for path in paths):
            reached += 1
            assert replay(problem.prompt, solution) is None and task.verify(problem, solution)
    assert 5 <= reached < 40, "cases of both kinds"


def test_in_collect_mode_the_best_end_leaf_is_right_where_one_is() -> None:
    """Oracle: the verdicts on all end leaves, with exact values."""
    task = chains(3, 24)
    domain = ReasoningDomain(task, task.train, policy(), Known(exact_value), Meter(), temperature=1.0)
    keys = np.array([stream_key("t", problem.id) for problem in task.train], dtype=np.uint64)
    forest = grow(domain, range(24), TreeSearch(iterations=9), keys, collect=True)
    some = 0
    for t, problem in enumerate(task.train):
        exact = [replay(problem.prompt, forest.path(t, leaf)) is None for leaf in forest.end_leaves(t)]
        if any(exact):
            some += 1
            assert replay(problem.prompt, forest.path(t, best_end_leaf(forest, t))) is None
    assert some > 12


def coin_accuracy(value, problems: int = 1000, chance: float = 0.5) -> float:
    """Share of coin problems that MCTS* answers right when a step is right with probability `chance`."""
    task, meter = coin_task(problems), Meter()
    domain = ReasoningDomain(
        task, task.train, Policy(), value, meter, temperature=1.0, sampler=Scripted(coins(chance))
    )
    keys = np.array([stream_key("coin", problem.id) for problem in task.train], dtype=np.uint64)
    forest = grow(domain, range(problems), TreeSearch(iterations=5), keys, collect=False)
    solutions = domain.finish([forest.state(t, best_answer(forest, t)) for t in range(problems)])
    assert meter.snapshot()["verifier_calls"] == 0
    return float(np.mean([task.verify(p, steps) for p, steps in zip(task.train, solutions, strict=True)]))


@pytest.mark.parametrize("chance", [0.2, 0.5])
def test_a_constant_value_chooses_a_random_leaf(chance: float) -> None:
    """Oracle: a leaf is right with `chance`, whatever the tree; within 4 deviations (false alarm 6e-5)."""
    deviation = math.sqrt(chance * (1 - chance) / 1000)
    assert abs(coin_accuracy(ConstantValue(), chance=chance) - chance) < 4 * deviation


def test_the_sign_of_the_value_matters() -> None:
    """Oracle: the order of knowing and knowing the wrong way round, a mutation of the method."""
    right = Known(lambda _, steps: 0.8 * float(steps[-1].endswith("1")) if steps else 0.0)
    wrong = Known(lambda _, steps: 0.8 * float(steps[-1].endswith("0")) if steps else 0.0)
    assert coin_accuracy(right, 200) > 0.9 and coin_accuracy(wrong, 200) < 0.1
