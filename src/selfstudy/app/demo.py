"""`selfstudy demo`: the embedded tiny LM teaches itself many-step arithmetic by tree search, in minutes.

Two rounds of ReST-MCTS*, ReST-EM at the same number of generated tokens, then ways to answer at test time
at equal tokens; a table, and a report with curves, trees and samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfstudy.app.evaluating import SHOWN, paired_samples, scored
from selfstudy.app.saving import finished, save
from selfstudy.app.trees import write_trees
from selfstudy.core.config import to_dict
from selfstudy.core.files import write_json
from selfstudy.core.machine import set_threads
from selfstudy.core.progress import Progress
from selfstudy.core.run import Run
from selfstudy.evaluation.summary import write_summary
from selfstudy.learning.fine_tuning import FineTuning
from selfstudy.learning.values import ValueFitting
from selfstudy.methods.reasoning.rest_em import RestEm
from selfstudy.methods.reasoning.rest_mcts import RestMcts
from selfstudy.models.language.loading import language_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.value import ValueModel
from selfstudy.search.beams import TreeOfThought
from selfstudy.search.mcts import TreeSearch
from selfstudy.search.solvers import Solver, greedy_solver, tree_solver, voting_solver
from selfstudy.tasks.loading import task as task_of
from selfstudy.tasks.reasoning import ReasoningTask

TUNING = FineTuning(learning_rate=1e-4, steps=50, batch=64)


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the demo runs; the defaults take minutes on two cores, tests take less."""

    task: str = "chain100?steps=12&train=192&validation=0&test=500"
    model: str = "tiny-lm"
    searched: int = 128
    """Test problems that the ways to answer are compared on."""
    method: RestMcts = field(
        default_factory=lambda: RestMcts(
            rounds=2,
            search=TreeSearch(iterations=36, branch=8, exploration=0.1, unvisited=0.0, end_gate=0.95),
            temperature=1.0,
            policy_tuning=TUNING,
            value_tuning=ValueFitting(learning_rate=3e-5, epochs=2, batch=256, micro_batch=32),
        )
    )


def demo(directory: Path, *, seed: int = 0, settings: DemoSettings | None = None) -> dict[str, Any]:
    """Run the demo in `directory`, or go on with it, and return its summary."""
    from selfstudy.app.report import write_report
    from selfstudy.app.tables import Output, print_summary

    settings = settings or DemoSettings()
    set_threads()
    config = {"command": "demo", **to_dict(settings)}
    with Run(directory, config, seed=seed, progress=Progress()) as run:
        summary = finished(directory) or _work(settings, run)
    write_report(directory)
    console = Output()
    print_summary(summary, console)
    console.print(f"Report: {directory / 'report.html'}", highlight=False)
    return summary


def _work(settings: DemoSettings, run: Run) -> dict[str, Any]:
    task, base = task_of(settings.task), language_model(settings.model)
    before = _stage_score(run, "base", task, greedy_solver(base, task))

    fitted = settings.method.fit(task.metered(run.meter), base, run)
    policies: list[LanguageModel] = [run.result(f"policy-{r}") for r in range(settings.method.rounds)]
    rounds = [_stage_score(run, f"round-{r}", task, greedy_solver(p, task)) for r, p in enumerate(policies)]
    spent = [facts["generated_tokens"] for facts in fitted.metrics["rounds"]]

    # The same tokens, the same tuning, no search.
    em = RestEm(
        rounds=settings.method.rounds,
        samples=1000,
        tokens=round(sum(spent) / len(spent)),
        temperature=settings.method.temperature,
        restart="previous",
        tuning=settings.method.policy_tuning,
    )
    em_policy = run.stage("rest-em", lambda: em.fit(task.metered(run.meter), base, run).model)
    em_score = _stage_score(run, "rest-em-score", task, greedy_solver(em_policy, task))

    searchers = _compare_searchers(settings, run, task, base, fitted.parts["value"])
    save(policies[-1], run.directory / "model")
    save(fitted.parts["value"], run.directory / "value")
    write_json(run.directory / "samples.json", paired_samples(before, rounds[-1]))
    write_trees(run.directory, task)
    return write_summary(
        run,
        {
            "title": "A language model teaches itself arithmetic by tree search",
            "task": task.name,
            "model": settings.model,
            "metric": task.metric.to_json(),
            "base": before["entry"],
            "rounds": [
                {**score["entry"], "training_tokens": tokens}
                for score, tokens in zip(rounds, spent, strict=True)
            ],
            "rest_em": {**em_score["entry"], "training_tokens": em.tokens * em.rounds if em.tokens else 0},
            "searchers": searchers,
            "gain": task.metric.gain(rounds[-1]["values"], before["values"]).to_json(),
            "gain_over_rest_em": task.metric.gain(rounds[-1]["values"], em_score["values"]).to_json(),
            "metrics": fitted.metrics,
            "saved": ["model", "value"],
        },
    )


def _compare_searchers(
    settings: DemoSettings, run: Run, task: ReasoningTask, policy: LanguageModel, value: ValueModel
) -> dict[str, Any]:
    """Answer test problems with the base policy in several ways, at the tokens that MCTS* takes."""
    limit, seed = settings.searched, run.seed
    temperature = settings.method.temperature

    def score(name: str, solver: Solver) -> dict[str, Any]:
        return _stage_score(run, f"search {name}", task, solver, limit)["entry"]

    tree = score(
        "MCTS*", tree_solver(policy, task, value, settings.method.search, seed=seed, temperature=temperature)
    )
    one = score("one sample", _votes(policy, task, 1, "majority", seed, temperature))
    per_problem, per_sample = tree["generated_tokens"] / limit, one["generated_tokens"] / limit
    samples = max(1, round(per_problem / per_sample))
    per_step = per_sample / task.max_steps
    branch = settings.method.search.branch
    keep = max(1, round((per_problem / per_step / branch - 1) / (task.max_steps - 1)))
    thought = TreeOfThought(
        branch=branch, keep=keep, depth=task.max_steps, end_gate=settings.method.search.end_gate
    )
    return {
        "one sample": one,
        f"self-consistency, {samples} samples": score(
            "self-consistency", _votes(policy, task, samples, "majority", seed, temperature)
        ),
        f"best of {samples} by value": score(
            "best-of-n", _votes(policy, task, samples, "best", seed, temperature, value)
        ),
        f"self-consistency weighted by value, {samples} samples": score(
            "weighted", _votes(policy, task, samples, "weighted", seed, temperature, value)
        ),
        f"tree of thought, {keep} kept": score(
            "tree of thought", tree_solver(policy, task, value, thought, seed=seed, temperature=temperature)
        ),
        "MCTS*": tree,
    }


def _votes(
    policy: LanguageModel,
    task: ReasoningTask,
    samples: int,
    vote: str,
    seed: int,
    temperature: float,
    value: ValueModel | None = None,
) -> Solver:
    return voting_solver(
        policy, task, samples=samples, vote=vote, seed=seed, temperature=temperature, value=value
    )


def _stage_score(
    run: Run, name: str, task: ReasoningTask, solver: Solver, limit: int | None = None
) -> dict[str, Any]:
    """Evaluate once, as a stage: the row of the table, right and wrong by problem, and the first texts."""

    def evaluate() -> dict[str, Any]:
        texts: list[list[str]] = []

        def noted(problems: Any, meter: Any) -> Any:
            solutions = solver(problems, meter)
            texts.extend(
                [p.prompt, "\n".join(steps)] for p, steps in zip(problems[:SHOWN], solutions, strict=False)
            )
            return solutions

        score = task.evaluate(noted, limit=limit)
        return scored(task.metric, score, texts)

    return run.stage(f"score-{name}".replace(" ", "-"), evaluate)
