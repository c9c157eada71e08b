"""The evaluation before and after: who is right on which test problem, and what was written."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from selfstudy.evaluation.scores import Metric

SHOWN = 24  # problems whose texts before and after are kept for the report


def evaluation(model: Any, task: Any, limit: int | None = None, split: str = "test") -> dict[str, Any]:
    """Return `entry` (a row of results), `values` by item of a split, and the first texts, as JSON data.

    Not charged to the run's budget, which is for learning; the row says what it took.
    """
    from selfstudy.models.language.model import LanguageModel
    from selfstudy.tasks.sampled import SampledTask

    solver: Any = model
    texts: list[list[str]] = []
    # A sampled task measures a model by itself; others look at what it writes.
    if isinstance(model, LanguageModel) and not isinstance(task, SampledTask):
        from selfstudy.search.solvers import greedy_solver

        greedy = greedy_solver(model, task)

        def solver(problems: Sequence[Any], meter: Any) -> Any:
            solutions = greedy(problems, meter)
            pairs = zip(problems, solutions, strict=True)
            texts.extend(
                [problem.prompt, "\n".join(steps)] for problem, steps in itertools.islice(pairs, SHOWN)
            )
            return solutions

    score = task.evaluate(solver, split=split, limit=limit)
    return scored(task.metric, score, texts[:SHOWN])


def scored(metric: Metric, score: Any, texts: list[list[str]]) -> dict[str, Any]:
    """Return the outcome of one evaluation as JSON data; what it drew is told where it drew anything."""
    tokens = {
        unit: getattr(score, unit) for unit in ("generated_tokens", "scored_tokens") if hasattr(score, unit)
    }
    return {"entry": metric.row(score.values, **tokens), "values": list(score.values), "texts": texts}


def paired_samples(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the kept texts of two evaluations, problem by problem, as the report shows them."""
    rows = zip(before["texts"], after["texts"], before["values"], after["values"], strict=False)
    return [
        {"prompt": old[0], "before": old[1], "after": new[1], "before_right": was, "after_right": now}
        for old, new, was, now in rows
    ]
