"""Language models in the search over lines: room, closings, scores, and decoding without the verifier."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.data.list_programs import LINES, RETURN
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search import line_decoding
from selfstudy.search.line_decoding import LineDomain, collect_trees, line_solver
from selfstudy.search.line_trees import LineSearch
from selfstudy.signals.list_programs import share_right
from selfstudy.tasks.list_programs import program_model

CHAINS = selfstudy.task("chain100?steps=2&train=6&validation=0&test=6")
PROGRAMS = selfstudy.task("list-programs?lines=1-2&train=30&validation=10&test=20")
SEARCH = LineSearch(iterations=4, samples=3, decisions=2)


class Oracle:
    """Values whole and partial programs by a given function."""

    def __init__(self, value) -> None:
        self.value = value

    def remembering(self):
        return self

    def values(self, prefixes, meter):
        return np.array([self.value(prompt, tuple(steps)) for prompt, steps in prefixes])


def test_completions_fill_the_room_that_is_left() -> None:
    """Oracle: 8 characters a line: two lines from the root, one after one, none after two."""
    meter = Meter()
    domain = LineDomain(CHAINS, CHAINS.train, random_tiny_model(1, 32), meter, 1.0)
    keys = np.arange(3, dtype=np.uint64)
    drawn = domain.draw([(0, ()), (1, ("47+8=55",)), (2, ("47+8=55", "55-1=54"))], 2, keys)
    assert meter.snapshot()["generated_tokens"] == 2 * (16 + 8 + 0)
    assert drawn[2] == [(), ()]
    assert domain.empty == 0


def test_what_a_state_draws_depends_on_its_key_alone() -> None:
    """Oracle: the same state and key in another batch."""
    model = random_tiny_model(1, 32)
    domain = LineDomain(CHAINS, CHAINS.train, model, Meter(), 1.0)
    keys = np.array([5, 6], dtype=np.uint64)
    both = domain.draw([(0, ()), (1, ())], 3, keys)
    assert LineDomain(CHAINS, CHAINS.train, model, Meter(), 1.0).draw([(1, ())], 3, keys[1:]) == both[1:]


def test_what_follows_the_closing_line_is_not_read() -> None:
    """Oracle: a program, and lines after its return."""
    domain = LineDomain(PROGRAMS, PROGRAMS.train, program_model(1, 16), Meter(), 1.0)
    text = f"x = x[1:]\n{RETURN}\nx = x[:3]\n"
    sampler = SimpleNamespace(
        sample=lambda requests: [SimpleNamespace(text=text, tokens=(1, 2))] * len(requests)
    )
    domain._sampler = sampler
    assert domain.draw([(0, ())], 1, np.zeros(1, np.uint64)) == [[("x = x[1:]", RETURN)]]


def test_a_solution_without_a_line_gets_nothing_and_is_counted() -> None:
    """Oracle: the model ends at once; the verifier is not asked."""
    domain = LineDomain(PROGRAMS, PROGRAMS.train, program_model(1, 16), Meter(), 1.0)
    domain._sampler = SimpleNamespace(
        sample=lambda requests: [SimpleNamespace(text="", tokens=(0,))] * len(requests)
    )
    assert domain.draw([(0, ())], 2, np.zeros(1, np.uint64)) == [[(), ()]]
    assert domain.empty == 2
    assert domain.graded([(0, ()), (0, ())]).tolist() == [0.0, 0.0]


def test_collected_trees_hold_the_grades_of_the_verifier() -> None:
    """Oracle: every completion graded again; one verifier call each."""
    task = PROGRAMS.metered(Meter())
    trees, domain = collect_trees(
        program_model(1, 16), task, task.train[:3], SEARCH, task.meter, keys=[1, 2, 3], temperature=1.0
    )
    calls = task.meter.snapshot()["verifier_calls"]
    assert sum(domain.tokens) == task.meter.snapshot()["generated_tokens"]
    drawn = [(tree, one) for tree in range(3) for one in trees.completions[tree]]
    assert calls == sum(bool(one.lines) for _, one in drawn)
    for tree, one in drawn:
        assert one.score == (PROGRAMS.grades([task.train[tree]], [one.lines])[0] if one.lines else 0.0)


@pytest.mark.parametrize("outcome", [False, True])
def test_with_true_values_decoding_returns_a_solved_program_whenever_one_was_drawn(outcome: bool) -> None:
    """Oracle: the hidden tests of validation problems as the value model; all completions graded."""
    problems = PROGRAMS.validation
    by_prompt = {PROGRAMS.prompt(problem): problem for problem in problems}
    kept = []
    grow = line_decoding.grow_lines

    def draw(self, states, n, keys):
        rng = np.random.default_rng(int(keys.sum() % 2**32))
        return [[(*rng.choice(list(LINES), rng.integers(0, 2)), RETURN) for _ in range(n)] for _ in states]

    def growing(*arguments, **options):
        kept.append(grow(*arguments, **options))
        return kept[-1]

    truth = Oracle(lambda prompt, steps: PROGRAMS.grades([by_prompt[prompt]], [steps])[0])
    search = LineSearch(iterations=30, samples=40, decisions=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_decoding, "grow_lines", growing)
        patch.setattr(LineDomain, "draw", draw)
        model = program_model(1, 16)
        solver = line_solver(model, PROGRAMS, truth, search, seed=0, temperature=1.0, outcome=outcome)
        answers = solver(problems, Meter())
    drawn = [
        max(PROGRAMS.grades([problem] * len(some), [one.lines for one in some]))
        for problem, some in zip(problems, kept[0].completions, strict=True)
    ]
    assert PROGRAMS.grades(problems, answers) == drawn
    assert 1.0 in drawn


def test_decoding_runs_no_test() -> None:
    """Oracle: the task's own count of verifier calls."""
    task = CHAINS.metered(Meter())
    value = Oracle(lambda prompt, steps: len(steps) / 4)
    meter = Meter()
    answers = line_solver(random_tiny_model(1, 32), task, value, SEARCH, seed=0, temperature=1.0)(
        task.test, meter
    )
    assert task.meter.snapshot()["verifier_calls"] == 0
    assert len(answers) == 6
    assert 0 < meter.snapshot()["generated_tokens"] <= 6 * 12 * 16
    assert share_right((RETURN,), [((1,), (1,))]) == 1
