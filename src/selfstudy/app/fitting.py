"""`selfstudy fit`: one method on one task from one model, in a directory, with an evaluation at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.evaluating import evaluation, paired_samples
from selfstudy.app.plans import (
    BUDGET,
    Loaded,
    Plan,
    free_directory,
    loaded_for,
    named,
    read_budget,
    read_config,
)
from selfstudy.app.saving import PICTURES, finished, read_fit, save
from selfstudy.core.budget import Budget, limits
from selfstudy.core.cluster import check_place
from selfstudy.core.config import from_dict
from selfstudy.core.directory import refuse_other
from selfstudy.core.errors import UsageError
from selfstudy.core.fan_out import FanOut, fan_out
from selfstudy.core.files import read_json, write_json
from selfstudy.core.group import joined, require_alone
from selfstudy.core.index import find
from selfstudy.core.machine import set_threads
from selfstudy.core.method import Fit
from selfstudy.core.progress import Progress
from selfstudy.core.run import Passing, Run
from selfstudy.evaluation.summary import write_summary

if TYPE_CHECKING:
    from rich.console import Console


def fit(
    slug: str,
    task: Any,
    model: Any,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    budget: str | dict[str, float] | Budget | None = None,
    fields: dict[str, Any] | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    dry_run: bool = False,
    ray: str | None = None,
    console: Console | None = None,
) -> Fit:
    """Fit `slug` and return what it gives; the arguments are those of `selfstudy.fit`.

    Args:
        slug: the method's name.
        task: a name, or a task; None is the method's own.
        model: a name, or a model; None is the method's own.
        out: the run's directory; None makes a new one under runs/.
        seed: the root of all random draws.
        budget: upper limits.
        fields: hyper-parameters.
        train_limit: training problems used, the first ones; None is all.
        test_limit: test problems of the evaluation; None is all.
        dry_run: only say what it would cost; nothing is written and the result has no model.
        ray: the cluster whose workers take batches of problems, as for `fan_out`; None works in this process.
        console: where to say it; None is silent.
    """
    entry = find(slug)
    task = entry.default_task() if task is None else task
    model = entry.model if model is None else model
    plan = Plan(
        slug=slug,
        method=from_dict(entry.load(), fields or {}),
        task=named(task),
        model=named(model),
        seed=seed,
        train_limit=train_limit,
        test_limit=test_limit,
    )
    loaded = Loaded(
        task=None if isinstance(task, str) else task, model=None if isinstance(model, str) else model
    )
    return fit_plan(plan, out, read_budget(budget), loaded=loaded, dry_run=dry_run, ray=ray, console=console)


def fit_plan(
    plan: Plan,
    out: str | Path | None,
    budget: Budget,
    *,
    loaded: Loaded | None = None,
    before: dict[str, Any] | None = None,
    dry_run: bool = False,
    ray: str | FanOut | None = None,
    console: Console | None = None,
    watch: Callable[[Passing], None] | None = None,
) -> Fit:
    """Do what `plan` says; see `fit`.

    `before` is an evaluation of the untrained model, if there is one; `watch` is the run's.
    """
    plan.method.validate()
    if isinstance(ray, str):
        check_place(ray)
    _require_shareable(plan, ray)
    with joined() as group:
        directory = group.agree(Path(out) if out else free_directory(f"{plan.slug}-{plan.task}"))
        console = console if group.leads else None
        done = _finished(directory, plan)
        if done:
            if console:
                from selfstudy.app.tables import print_summary

                console.print(f"The run in {directory} is finished.", highlight=False)
                print_summary(done, console)
            return read_fit(directory, done)
        # Sums depend on the number of threads in their last digits: also those that the model is prepared by.
        set_threads()
        loaded = loaded_for(plan, loaded)
        if console or dry_run:
            _announce(plan, loaded, directory, budget, console)
        if dry_run:
            return Fit(model=None)
        with fan_out(ray) as workers:
            if console and group.count > 1:
                console.print(f"processes {group.count}", highlight=False)
            if console and workers:
                console.print(f"workers   {workers.count}, at {ray}", highlight=False)
            with Run(
                directory,
                plan.config(),
                seed=plan.seed,
                budget=budget,
                progress=Progress(visible=console is not None),
                fan_out=workers,
                group=group,
                watch=watch,
            ) as run:
                fitted, summary = _work(plan, loaded, run, before)
    if console:
        from selfstudy.app.tables import print_summary

        print_summary(summary, console)
        console.print(f"Report: {directory / 'report.html'}", highlight=False)
    return fitted


def resume(
    directory: Path, *, budget: str | None = None, ray: str | None = None, console: Console | None = None
) -> Fit:
    """Continue the fit in `directory` with the settings it was started with.

    Args:
        directory: a run's directory.
        budget: larger limits than it had; None keeps them.
        ray: as for `fit`; it need not be what the run was started with.
        console: where to say what happens.
    """
    config = read_config(directory)
    if "method" not in config:
        raise UsageError(f"The run in {directory} was not started by `selfstudy fit`: it names no method.")
    given = read_budget(budget)
    if budget is None and (directory / BUDGET).exists():
        given = Budget(**read_json(directory / BUDGET))
    plan = Plan(
        slug=config["method"],
        method=from_dict(find(config["method"]).load(), config["fields"]),
        task=config["task"],
        model=config["model"],
        seed=config["seed"],
        train_limit=config.get("train_limit"),
        test_limit=config.get("test_limit"),
    )
    return fit_plan(plan, directory, given, ray=ray, console=console)


def _require_shareable(plan: Plan, ray: str | FanOut | None) -> None:
    """Refuse several processes where the method, or the way of sharing its work, has no use for them."""
    if not plan.method.across_processes:
        require_alone(f"The method {plan.slug!r}")
    if ray is not None:
        require_alone("A fit whose problems go to Ray workers")


def _work(plan: Plan, loaded: Loaded, run: Run, before: dict[str, Any] | None) -> tuple[Fit, dict[str, Any]]:
    """Fit, evaluate, save: each part once, whatever interrupts."""
    limit, directory = plan.test_limit, run.directory
    if run.group.leads:
        write_json(directory / BUDGET, limits(run.meter.budget))
    before = run.stage("before", lambda: before or evaluation(loaded.model, loaded.task, limit))
    fitted = plan.method.fit(loaded.task.metered(run.meter), loaded.model, run)
    if run.group.leads:
        for name, part in {"model": fitted.model, **fitted.parts}.items():
            save(part, directory / name)
    after = run.stage("after", lambda: evaluation(fitted.model, loaded.task, limit))
    look = run.stage("look", lambda: _look(loaded, fitted))
    fitted = replace(
        fitted,
        metrics={**fitted.metrics, **look["metrics"]},
        pictures=[*fitted.pictures, *look["pictures"]],
    )
    return fitted, run.group.lead(lambda: _written(plan, loaded, run, fitted, before, after))


def _written(
    plan: Plan, loaded: Loaded, run: Run, fitted: Fit, before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    """Write what the report shows and the report; return the summary."""
    from selfstudy.app.report import SAMPLES, write_report
    from selfstudy.app.trees import write_trees

    directory = run.directory
    write_json(directory / SAMPLES, paired_samples(before, after))
    write_json(directory / PICTURES, fitted.pictures)
    write_trees(directory, loaded.task)
    results = {
        "method": plan.slug,
        "task": plan.task,
        "model": plan.model,
        "metric": loaded.task.metric.to_json(),
        "base": before["entry"],
        "trained": after["entry"],
        "gain": loaded.task.metric.gain(after["values"], before["values"]).to_json(),
        "metrics": fitted.metrics,
        "held_to": fitted.held_to,
        "saved": ["model", *fitted.parts],
    }
    summary = write_summary(run, results)
    write_report(directory)
    return summary


def _announce(plan: Plan, loaded: Loaded, directory: Path, budget: Budget, console: Console | None) -> None:
    from selfstudy.app.costs import cost_lines

    given = ", ".join(f"{name}={amount:g}" for name, amount in limits(budget).items()) or "unlimited"
    lines = [
        f"method    {plan.slug}, seed {plan.seed}",
        *cost_lines(plan.method, loaded.task, loaded.model),
        f"budget    {given}",
        f"writes    {directory}/: run.json, metrics.jsonl, stages/, model/, summary.json, report.html",
    ]
    if console:
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _finished(directory: Path, plan: Plan) -> dict[str, Any] | None:
    """Return the summary of this very fit, if it is done; refuse another one before anything is loaded."""
    refuse_other(directory, plan.config())
    return finished(directory)


def _look(loaded: Loaded, fitted: Fit) -> dict[str, Any]:
    """Return what the task has to say and to show of the models before and after, beside its metric."""
    look = getattr(loaded.task, "look", None)
    return look(loaded.model, fitted.model, fitted.parts) if look else {"metrics": {}, "pictures": []}
