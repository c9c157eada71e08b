"""`selfstudy compare`: several methods, one budget each, paired by seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.evaluating import evaluation
from selfstudy.app.fitting import Loaded, Plan, fit_plan, free_directory, prepared, read_budget
from selfstudy.app.report import write_report
from selfstudy.app.rows import difference_text, figure, metric_of
from selfstudy.core.budget import Budget, limits
from selfstudy.core.cluster import check_place
from selfstudy.core.config import difference, from_dict, to_dict
from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.fan_out import fan_out
from selfstudy.core.files import read_json, write_json
from selfstudy.core.index import find
from selfstudy.core.machine import hardware, versions
from selfstudy.core.method import Method
from selfstudy.evaluation.statistics import paired_interval, share_interval
from selfstudy.evaluation.summary import read_summary

if TYPE_CHECKING:
    from rich.console import Console

UNEQUAL = 1.1  # times as much as another method; more is said
ASKED, RESULT, CURVE = "compare.json", "result.json", "curve.json"


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
    ray: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Fit each method with each seed and return the comparison as JSON data; see `selfstudy.compare`."""
    chosen = _methods(methods, fields or {})
    if ray is not None:
        check_place(ray)
    model = _model(chosen) if model is None else model
    directory = Path(out) if out else free_directory(f"compare-{task}")
    from selfstudy import model as load_model
    from selfstudy import task as load_task

    loaded = Loaded(task=load_task(task), model=load_model(model))
    limit = read_budget(budget) if budget is not None else _most_asked(chosen, loaded)
    if not limits(limit):
        raise UsageError("A comparison needs a budget, the same for every method, such as tokens=2e6.")
    asked = {
        "methods": list(chosen),
        "task": task,
        "model": model,
        "budget": limits(limit),
        "seeds": seeds,
        "fields": {slug: to_dict(method) for slug, method in chosen.items()},
        "train_limit": train_limit,
        "test_limit": test_limit,
    }
    _refuse_another(directory, asked)
    unit = next(iter(limits(limit)))
    write_json(directory / ASKED, asked)
    summaries: dict[str, list[dict[str, Any]]] = {slug: [] for slug in chosen}
    before: dict[str, Any] | None = None
    with fan_out(ray) as workers:
        for seed, (slug, method) in itertools.product(range(seeds), chosen.items()):
            plan = Plan(
                slug=slug,
                method=method,
                task=task,
                model=model,
                seed=seed,
                train_limit=train_limit,
                test_limit=test_limit,
            )
            folder = directory / slug / f"seed-{seed}"
            if console:
                console.print(f"{slug}, seed {seed}", highlight=False)
            fit_plan(plan, folder, limit, loaded=loaded, before=before, ray=workers)
            before = read_json(folder / "stages" / "before" / "stage.json")["value"]
            summary = read_summary(folder) or {}
            summaries[slug].append({**summary, "curve": _curve(folder, plan, loaded, summary, unit)})
    result = _result(asked, summaries)
    write_json(directory / RESULT, result)
    page = write_report(directory)
    if console:
        print_comparison(result, console)
        console.print(f"Report: {page}", highlight=False)
    return result


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


def _curve(folder: Path, plan: Plan, loaded: Loaded, summary: dict[str, Any], unit: str) -> list[list[float]]:
    """Return (spent, accuracy) pairs: the base, every model that a finished stage left, the end.

    The models in between are evaluated here, outside any budget, and the result is kept beside the run.
    """
    kept = folder / CURVE
    if kept.exists():
        return read_json(kept)
    kind = f"{type(loaded.model).__module__}:{type(loaded.model).__qualname__}"
    stages = [(read_json(path), path.parent) for path in folder.glob("stages/**/stage.json")]
    models = [
        (content["spent"].get(unit, 0), path) for content, path in stages if content.get("kind") == kind
    ]
    metric = loaded.task.metric.name
    curve = [[0, summary["base"][metric]]]
    for spent, path in sorted(models)[:-1]:  # the last is the trained model itself
        found = evaluation(type(loaded.model).load(path), loaded.task, plan.test_limit)
        curve.append([spent, found["entry"][metric]])
    curve.append([summary["spent"].get(unit, 0), summary["trained"][metric]])
    write_json(kept, curve)
    return curve


def _result(asked: dict[str, Any], summaries: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    first = next(iter(summaries.values()))[0]
    metric = metric_of(first)
    figures = {slug: [each["trained"][metric.name] for each in runs] for slug, runs in summaries.items()}
    over_seeds = share_interval if metric.share else paired_interval
    pairs = [
        {
            "a": a,
            "b": b,
            **paired_interval([x - y for x, y in zip(figures[a], figures[b], strict=True)]).to_json(),
        }
        for a, b in itertools.combinations(figures, 2)
    ]
    methods = {
        slug: {
            "figures": values,
            "over_seeds": over_seeds(values).to_json(),
            "spent": [each["spent"] for each in summaries[slug]],
            "curves": [each["curve"] for each in summaries[slug]],
        }
        for slug, values in figures.items()
    }
    made = {"metric": metric.to_json(), "base": first["base"]}
    result = {**asked, **made, "results": methods, "differences": pairs}
    return {**result, "versions": versions(), "hardware": hardware()}


def print_comparison(result: dict[str, Any], console: Console) -> None:
    """Print the figures with 95 % intervals over seeds, what was spent, and the paired differences."""
    from rich.table import Table

    metric = metric_of(result)
    unit = next(iter(result["budget"]))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("method")
    for heading in (metric.name, "95 % over seeds", "seeds", unit.replace("_", " ")):
        table.add_column(heading, justify="right")
    table.add_row("base model", figure(result["base"][metric.name], metric.share), "", "", "0")
    for slug, found in result["results"].items():
        mean = found["over_seeds"]
        spent = sum(each.get(unit, 0) for each in found["spent"]) / mean["n"]
        within = f"{figure(mean['low'], metric.share)} to {figure(mean['high'], metric.share)}"
        table.add_row(slug, figure(mean["mean"], metric.share), within, str(mean["n"]), f"{spent:,.0f}")
    console.print(table)
    for pair in result["differences"]:
        console.print(
            f"{pair['a']} - {pair['b']}: {difference_text(pair, metric.share)}", highlight=False, markup=False
        )
    spent = {sum(each.get(unit, 0) for each in found["spent"]) for found in result["results"].values()}
    if max(spent) > UNEQUAL * min(spent):
        console.print(
            f"They did not spend the same: see the column of {unit.replace('_', ' ')}. Give a --budget, or "
            "settings that ask for as much.",
            highlight=False,
            markup=False,
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
