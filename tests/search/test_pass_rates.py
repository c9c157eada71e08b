"""How hard problems are: rates by hand-made answers, records that go on, and bounds that are not met."""

from __future__ import annotations

import pytest

from selfstudy.core.budget import Budget
from selfstudy.core.run import Run
from selfstudy.search import pass_rates as module
from selfstudy.search.pass_rates import between, pass_rates

from .scripted import coin_task


@pytest.fixture
def drawn(monkeypatch):
    """Problem i is answered rightly by its first i answers; an answer has two tokens."""
    seen: dict[str, int] = {}

    def sample(policy, task, problems, meter, *, keys, temperature):
        out = []
        for problem in problems:
            place = task.train.index(problem)
            seen[problem.id] = seen.get(problem.id, 0) + 1
            meter.charge(generated_tokens=2)
            out.append((("x-0", f"x-{int(seen[problem.id] <= place)}"), 2))
        return out

    monkeypatch.setattr(module, "sample_solutions", sample)


def test_rates(drawn, tmp_path) -> None:
    """Oracle: i of 4 answers to problem i are right, by construction; batches change nothing."""
    with Run(tmp_path / "run", {}) as run:
        found = pass_rates(None, coin_task(4), run, "rate", samples=4, temperature=1.0, batch=3)
    assert [one["rate"] for one in found] == [0, 0.25, 0.5, 0.75]
    assert sum(one["tokens"] for one in found) == run.meter.snapshot()["generated_tokens"] == 32
    assert between([one["rate"] for one in found], (0.25, 0.75)) == [2]


def test_a_spent_budget_keeps_what_was_rated(drawn, tmp_path) -> None:
    """Oracle: a budget for one batch of two."""
    with Run(tmp_path / "run", {}, budget=Budget(generated_tokens=20)) as run:
        found = pass_rates(None, coin_task(4), run, "rate", samples=4, temperature=1.0, batch=2)
    assert len(found) == 2
