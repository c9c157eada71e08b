"""`selfstudy compare`: several methods, one budget each, paired by seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.comparison import comparison_result, print_comparison
from selfstudy.app.comparison_jobs import do_all
from selfstudy.app.comparison_workers import require_importable
from selfstudy.app.contestants import Job, base
from selfstudy.app.plans import Loaded, Plan, free_directory, prepared, read_budget
from selfstudy.app.report import write_report
from selfstudy.core.budget import Budget, limits
from selfstudy.core.cluster import check_place
from selfstudy.core.config import difference, from_dict, to_dict
from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.files import read_json, write_json
from selfstudy.core.index import find
from selfstudy.core.machine import cores, set_threads
from selfstudy.core.method import Method
from selfstudy.evaluation.scores import Metric

if TYPE_CHECKING:
    from rich.console import Console

ASKED, RESULT = "compare.json", "result.json"


def compare(
    methods: Sequence[str],
    task: str,
    model: str | None = None,
    *,
    budget: str | dict[str, float] | None = None,
    seeds: int = 5,
    out: str | Path | None = None,
    fields: dict[str, dict[str, Any]] | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    stop_hopeless: float | None = None,
    target: float | None = None,
    workers: int | None = None,
    ray: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Fit each method with each seed and return the comparison as JSON data; see `selfstudy.compare`."""
    chosen = _methods(methods, fields or {})
    count = _workers(workers, len(chosen) * seeds, ray)
    if count > 1:
        require_importable([find(slug) for slug in chosen])
    _check_seeds(seeds, stop_hopeless)
    model = _model(chosen) if model is None else model
    directory = Path(out) if out else free_directory(f"compare-{task}")
    loaded = _loaded(task, model, held_out=stop_hopeless is not None)
    _check_target(target, loaded.task.metric)
    asked = {
        "methods": list(chosen),
        "task": task,
        "model": model,
        "budget": _limits(budget, chosen, loaded),
        "seeds": seeds,
        "fields": {slug: to_dict(method) for slug, method in chosen.items()},
        "train_limit": train_limit,
        "test_limit": test_limit,
        "stop_hopeless": stop_hopeless,
        "target": target,
    }
    _refuse_another(directory, asked)
    write_json(directory / ASKED, asked)
    jobs = _jobs(chosen, asked, directory)
    base(directory, loaded, test_limit)
    do_all(jobs, loaded, count, ray, stop_hopeless, console)
    result = comparison_result(asked, [job.folder for job in jobs], loaded.task.metric)
    write_json(directory / RESULT, result)
    page = write_report(directory)
    if console:
        print_comparison(result, console)
        console.print(f"Report: {page}", highlight=False)
    return result


def _check_seeds(seeds: int, margin: float | None) -> None:
    """Refuse to do nothing, and a margin of hopeless runs that can end none."""
    if seeds < 1:
        raise UsageError(f"seeds is {seeds}; a comparison needs 1 or more.")
    if margin is not None and (margin < 0 or seeds < 2):
        raise UsageError(
            f"--stop-hopeless {margin:g} with {seeds} seeds: give a margin of 0 points or more, and "
            "two seeds or more, since the first one runs to its end."
        )


def _check_target(target: float | None, metric: Metric) -> None:
    """Refuse a target in percent, which no run would reach."""
    if target is not None and metric.share and not 0 <= target <= 1:
        raise UsageError(
            f"--target {target:g}: {metric.name} is a share, from 0 to 1; a target of 80 % is 0.8."
        )


def _loaded(task: str, model: str, *, held_out: bool) -> Loaded:
    """Load task and model; the task must have validation items where they are needed."""
    from selfstudy import model as load_model
    from selfstudy import task as load_task

    set_threads()
    loaded = Loaded(task=load_task(task), model=load_model(model))
    if held_out and not len(loaded.task.validation):
        raise DataError(
            f"Hopeless runs are told by validation items, and {task!r} holds none out. Give it some, or "
            "leave --stop-hopeless away."
        )
    return loaded


def _limits(
    budget: str | dict[str, float] | None, methods: dict[str, Method], loaded: Loaded
) -> dict[str, float]:
    """Return what each fit may spend, by unit."""
    found = limits(read_budget(budget) if budget is not None else _most_asked(methods, loaded))
    if not found:
        raise UsageError("A comparison needs a budget, the same for every method, such as tokens=2e6.")
    return found


def _jobs(methods: dict[str, Method], asked: dict[str, Any], directory: Path) -> list[Job]:
    """Return the fits, seed after seed."""
    shared = {name: asked[name] for name in ("task", "model", "train_limit", "test_limit")}
    return [
        Job(
            entry=find(slug),
            plan=Plan(slug=slug, method=method, seed=seed, **shared),
            directory=directory,
            budget=asked["budget"],
        )
        for seed, (slug, method) in itertools.product(range(asked["seeds"]), methods.items())
    ]


def _workers(asked: int | None, jobs: int, ray: str | None) -> int:
    """Return how many processes work at the same time."""
    if ray is not None:
        check_place(ray)
        if asked not in (None, 1):
            raise UsageError(
                f"--workers {asked} with --ray {ray}: with a cluster the fits go one after the other, and "
                "their problems to its workers. Leave one of the two away."
            )
        return 1
    if asked is not None and asked < 1:
        raise UsageError(f"--workers {asked}: give 1 or more.")
    import torch

    alone = torch.cuda.is_available()  # one accelerator is best used by one fit at a time
    return min(jobs, asked or (1 if alone else cores()))


def _model(methods: dict[str, Method]) -> str:
    """Return the model that all methods start from unless told."""
    models = {slug: find(slug).model for slug in methods}
    if len(set(models.values())) > 1:
        said = ", ".join(f"{slug} {model}" for slug, model in models.items())
        raise UsageError(f"The methods start from different models ({said}). Name one with --model.")
    return next(iter(models.values()))


def _most_asked(methods: dict[str, Method], loaded: Loaded) -> Budget:
    """Return a budget of samples that lets each method do all that its settings ask for."""
    model = prepared(loaded).model
    asked = {}
    for slug, method in methods.items():
        cost = getattr(method, "cost", None)
        asked[slug] = cost(loaded.task, model).get("samples") if cost else None
        if not asked[slug]:
            raise UsageError(
                f"{slug!r} does not say how many samples it takes, so a comparison with it needs a budget, "
                "the same for every method, such as --budget tokens=2e6."
            )
    return Budget(samples=float(max(filter(None, asked.values()))))


def _methods(slugs: Sequence[str], fields: dict[str, dict[str, Any]]) -> dict[str, Method]:
    """Check everything that can be before any work starts."""
    if len(set(slugs)) != len(slugs) or len(slugs) < 2:
        raise UsageError(
            f"A comparison needs two or more different methods, not {', '.join(slugs) or 'none'}."
        )
    for slug in fields:
        if slug not in slugs:
            raise UsageError(f"Fields are given for {slug!r}, which is not compared. {nearest(slug, slugs)}")
    methods = {slug: from_dict(find(slug).load(), fields.get(slug, {})) for slug in slugs}
    for method in methods.values():
        method.validate()
    return methods


def _refuse_another(directory: Path, asked: dict[str, Any]) -> None:
    if (directory / ASKED).exists():
        changes = difference(read_json(directory / ASKED), asked)
        if changes:
            raise UsageError(
                f"The directory {directory} holds another comparison: {changes}. "
                "Nothing was changed. Give another --out."
            )
    elif directory.is_dir() and any(directory.iterdir()):
        raise UsageError(
            f"The directory {directory} is not empty and holds no comparison. Give another --out."
        )


def split_options(slugs: Sequence[str], options: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return fields by method from options such as `--rest-mcts.search.branch 3`.

    Raises:
        UsageError: an option of no compared method, or of no field of it.
    """
    from selfstudy.app.fields import config_from

    own: dict[str, list[str]] = {slug: [] for slug in slugs}
    current: list[str] | None = None
    for option in options:
        if option.startswith("--"):
            slug = option[2:].partition(".")[0]
            if slug not in own:
                raise UsageError(f"Unknown option {option!r}. Fields look like --{slugs[0]}.FIELD VALUE.")
            current = own[slug]
            option = "--" + option[3 + len(slug) :]
        if current is None:
            raise UsageError(f"{option!r} belongs to no option.")
        current.append(option)
    return {
        slug: to_dict(config_from(find(slug).load(), None, given)) for slug, given in own.items() if given
    }
