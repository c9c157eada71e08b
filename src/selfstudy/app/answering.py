"""`selfstudy evaluate`: how well a language model answers the problems of a task, in one of several ways."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.answerers import task_and_model, value_model
from selfstudy.app.plans import BUDGET, free_directory, named, read_budget
from selfstudy.app.report import ANSWERS, write_report
from selfstudy.core.budget import Budget, limits
from selfstudy.core.cluster import check_place
from selfstudy.core.config import from_dict, to_dict
from selfstudy.core.directory import refuse_other
from selfstudy.core.errors import BudgetSpent, UsageError, nearest
from selfstudy.core.fan_out import fan_out
from selfstudy.core.files import read_json, write_json, write_text
from selfstudy.core.group import require_alone
from selfstudy.core.machine import set_threads
from selfstudy.core.progress import Progress
from selfstudy.core.run import Run
from selfstudy.data.splits import SPLITS
from selfstudy.evaluation.summary import read_summary, write_summary
from selfstudy.search.answering import Answering, make_solver

if TYPE_CHECKING:
    from rich.console import Console

    from selfstudy.models.language.backends import Policy
    from selfstudy.models.language.value import ValueModel
    from selfstudy.tasks.reasoning import ReasoningTask

REPLIES = "replies"  # of a server, so that none is asked for twice


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an evaluation is asked to do; everything that makes two of them different."""

    task: str
    model: str
    answering: Answering
    value: str | None = None
    """Folder of a value model; None is the one that comes with the model, if there is one."""
    split: str = "test"
    test_limit: int | None = None
    """Problems answered; None is all."""
    seed: int = 0

    def config(self) -> dict[str, Any]:
        """Return what run.json holds."""
        answering = to_dict(self.answering)
        return {"command": "evaluate", **{name: getattr(self, name) for name in PLAIN}, "fields": answering}

    def count(self, task: ReasoningTask) -> int:
        """Return how many problems are to be answered."""
        return len(getattr(task, self.split)[: self.test_limit])

    def validate(self) -> None:
        """Raise a `UsageError` for a setting that cannot be."""
        self.answering.validate()
        if self.split not in SPLITS:
            raise UsageError(f"Unknown split {self.split!r}. {nearest(self.split, SPLITS)}")
        if self.value and not self.answering.needs_value:
            raise UsageError(
                f"The solver {self.answering.solver!r} asks no value model: leave --value {self.value} out, "
                "or take --solver best, weighted, mcts or tot."
            )


# The fields of `Asked` that are no settings of the answering.
PLAIN = ("task", "model", "value", "split", "test_limit", "seed")


def answers(
    task: Any,
    model: Any,
    *,
    out: str | Path | None,
    budget: str | dict[str, float] | None,
    ray: str | None,
    fields: dict[str, Any],
    **asked: Any,
) -> dict[str, Any]:
    """Return the summary of an evaluation; the arguments are those of `selfstudy.evaluate`."""
    wanted = Asked(task=named(task), model=named(model), answering=from_dict(Answering, fields), **asked)
    return evaluate(
        wanted,
        out,
        task=None if isinstance(task, str) else task,
        model=None if isinstance(model, str) else model,
        budget=budget,
        ray=ray,
    )


def evaluate(
    asked: Asked,
    out: str | Path | None = None,
    *,
    task: ReasoningTask | None = None,
    model: Policy | None = None,
    budget: str | dict[str, float] | Budget | None = None,
    ray: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Answer the problems, write what came out into a directory, and return its summary.

    Args:
        asked: what to do.
        out: the directory; None makes a new one under runs/.
        task: the task itself, where it is no name.
        model: the model itself, where it is no name.
        budget: upper limits; when one is reached, the summary is that of the problems answered until then.
        ray: the cluster whose workers take batches of problems, as for `fan_out`; None works in this process.
        console: where to say it; None is silent.

    Raises:
        UsageError: what is asked for cannot be done, the directory holds another run, or several processes
            of torchrun go through this.
        BudgetSpent: not one batch is covered by the budget.
    """
    asked.validate()
    require_alone("An evaluation")
    limit = read_budget(budget)
    if ray is not None:
        check_place(ray)
    directory = Path(out) if out else free_directory(f"{asked.answering.solver}-{asked.task}")
    done = _finished(directory, asked)
    if done:
        _say(done, directory, console)
        return done
    set_threads()
    task, model = task_and_model(asked.task, asked.model, task, model)
    if not asked.count(task):
        raise UsageError(f"Task {task.name!r} has no {asked.split} problems to evaluate.")
    value = value_model(asked.model, asked.value, model) if asked.answering.needs_value else None
    make_solver(asked.answering, model, task, value, seed=asked.seed)  # refuses before anything is written
    if console:
        _announce(asked, task, directory, limit, console)
    with (
        fan_out(ray) as workers,
        Run(
            directory,
            asked.config(),
            seed=asked.seed,
            budget=limit,
            progress=Progress(visible=console is not None),
            fan_out=workers,
        ) as run,
    ):
        summary = _work(asked, run, task, model, value)
    _say(summary, directory, console)
    return summary


def resume(directory: Path, budget: str | None, ray: str | None, console: Console | None) -> dict[str, Any]:
    """Go on with the evaluation in `directory`; a larger budget continues one that its budget ended."""
    config = read_json(directory / "run.json")
    asked = Asked(answering=from_dict(Answering, config["fields"]), **{name: config[name] for name in PLAIN})
    limit = read_budget(budget)
    if budget is None and (directory / BUDGET).exists():
        limit = Budget(**read_json(directory / BUDGET))
    return evaluate(asked, directory, budget=limit, ray=ray, console=console)


def _work(
    asked: Asked, run: Run, task: ReasoningTask, model: Policy, value: ValueModel | None
) -> dict[str, Any]:
    from selfstudy.models.language.served import ServedModel

    write_json(run.directory / BUDGET, limits(run.meter.budget))
    if isinstance(model, ServedModel):
        model = model.keeping(run.directory / REPLIES)
    count = asked.count(task)
    batch = asked.answering.batch
    records = run.map(
        "answers",
        [(start, min(batch, count - start)) for start in range(0, count, batch)],
        _answering(asked, run, task, model, value),
        weight=lambda item: item[1],
    )
    if not records:
        raise BudgetSpent(
            f"The budget of {_limit(run)} does not cover one batch of {min(batch, count)} problems. "
            f"Go on with a larger one: selfstudy resume {run.directory} --budget ..., or begin anew with a "
            "smaller --batch."
        )
    return _written(asked, run, task, records, count, model)


def _limit(run: Run) -> str:
    unit = run.meter.refused or ""
    return f"{getattr(run.meter.budget, unit):g} {unit.replace('_', ' ')}"


def _answering(
    asked: Asked, run: Run, task: ReasoningTask, model: Policy, value: ValueModel | None
) -> Callable[[Sequence[int]], dict[str, Any]]:
    """Return what answers a batch, (start, count) to a record of it."""
    solver = make_solver(asked.answering, model, task, value, seed=asked.seed)
    split = asked.split

    def answer(item: Sequence[int]) -> dict[str, Any]:
        start, count = item
        solutions: list[tuple[str, ...]] = []

        def noted(problems: Any, meter: Any) -> Any:
            solutions.extend(solver(problems, meter))
            return solutions

        score = task.evaluate(noted, split=split, start=start, limit=count, meter=run.meter)
        return {
            "solutions": ["\n".join(steps) for steps in solutions],
            "right": score.correct,
            "generated_tokens": score.generated_tokens,
            "scored_tokens": score.scored_tokens,
        }

    return answer


def _written(
    asked: Asked, run: Run, task: ReasoningTask, records: list[dict[str, Any]], count: int, model: Policy
) -> dict[str, Any]:
    """Write the answers, the summary and the report; return the summary."""
    solutions = [text for record in records for text in record["solutions"]]
    right = [verdict for record in records for verdict in record["right"]]
    lines = [
        {
            "id": problem.id,
            "prompt": problem.prompt,
            "solution": text,
            "answer": task.answer(task.steps(text), problem),
            "right": verdict,
        }
        for problem, text, verdict in zip(getattr(task, asked.split), solutions, right, strict=False)
    ]
    write_text(run.directory / ANSWERS, "".join(json.dumps(line) + "\n" for line in lines))
    tokens = {unit: sum(record[unit] for record in records) for unit in ("generated_tokens", "scored_tokens")}
    seconds = run.meter.snapshot()["seconds"]
    results = {
        "task": asked.task,
        "model": asked.model,
        "split": asked.split,
        "metric": task.metric.to_json(),
        "evaluated": {"name": asked.answering.title, **task.metric.row(right, **tokens)},
        "unanswered": count - len(right),
        "metrics": {
            "right solutions per second": sum(right) / seconds,
            "generated tokens per second": tokens["generated_tokens"] / seconds,
        },
    }
    if hasattr(model, "sent"):
        results["served"] = model.sent
    summary = write_summary(run, results)
    write_report(run.directory)
    return summary


def _finished(directory: Path, asked: Asked) -> dict[str, Any] | None:
    """Return the summary of this very evaluation, if it is done; refuse another before anything is loaded."""
    refuse_other(directory, asked.config())
    summary = read_summary(directory)
    return summary if summary and not summary["unanswered"] else None


def _announce(asked: Asked, task: ReasoningTask, directory: Path, budget: Budget, console: Console) -> None:
    count = asked.count(task)
    given = ", ".join(f"{name}={amount:g}" for name, amount in limits(budget).items()) or "unlimited"
    lines = [
        f"model     {asked.model}",
        f"task      {asked.task}: {count:,} {asked.split} problems",
        f"solver    {asked.answering.title}, seed {asked.seed}",
        f"budget    {given}",
        f"writes    {directory}/: run.json, {ANSWERS}, summary.json, report.html",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _say(summary: dict[str, Any], directory: Path, console: Console | None) -> None:
    if console is None:
        return
    from selfstudy.app.tables import print_summary

    print_summary(summary, console)
    for name, rate in summary["metrics"].items():
        console.print(f"speed     {rate:,.3g} {name}", highlight=False)
    if summary["unanswered"]:
        console.print(
            f"left      {summary['unanswered']:,} problems: selfstudy resume {directory} --budget ...",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"Report: {directory / 'report.html'}", highlight=False, soft_wrap=True)
