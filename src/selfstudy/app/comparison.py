"""What a comparison came to: from its runs to JSON data, and from that alone to a table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.contestants import CURVE
from selfstudy.app.rows import NONE, difference_text, figure, metric_of
from selfstudy.app.watching import STOPPED, rising, seen
from selfstudy.core.files import read_json
from selfstudy.core.machine import hardware, versions
from selfstudy.evaluation.paired_tests import holm, paired_test
from selfstudy.evaluation.performance_profiles import Profiles, performance_profiles
from selfstudy.evaluation.scores import Metric
from selfstudy.evaluation.statistics import paired_bootstrap, paired_interval, share_interval
from selfstudy.evaluation.summary import read_summary

if TYPE_CHECKING:
    from rich.console import Console

UNEQUAL = 1.1  # times as much as another method; more is said
CLOSE = 1e-9  # of figures that are the same but for rounding


def comparison_result(asked: dict[str, Any], folders: Sequence[Path], metric: Metric) -> dict[str, Any]:
    """Return the comparison as JSON data, from which its table and report are made.

    Args:
        asked: what was compared, and how.
        folders: of the runs, as METHOD/seed-N of the comparison's directory.
        metric: of the task.
    """
    unit = next(iter(asked["budget"]))
    summaries = {folder: read_summary(folder) or {} for folder in folders}
    methods = {
        slug: _method(
            slug, [folder for folder in folders if folder.parent.name == slug], summaries, metric, unit
        )
        for slug in asked["methods"]
    }
    first = next(summary for summary in summaries.values() if "base" in summary)
    result = {
        **asked,
        "metric": metric.to_json(),
        "base": first["base"],
        "results": methods,
        "differences": _differences(methods),
    }
    if asked["stop_hopeless"] is not None:
        result["stopped"] = _stopped(methods, unit, metric)
    target = _target(methods, metric, asked["target"])
    if target:
        result["time_to_target"] = {"unit": unit, **target}
    return {**result, "versions": versions(), "hardware": hardware()}


def _method(
    slug: str, folders: Sequence[Path], summaries: dict[Path, dict[str, Any]], metric: Metric, unit: str
) -> dict[str, Any]:
    over_seeds = share_interval if metric.share else paired_interval
    done = [folder for folder in folders if (folder / CURVE).exists()]
    figures = [summaries[folder]["trained"][metric.name] for folder in done]
    found = {
        "seeds": [_seed(folder) for folder in done],
        "figures": figures,
        "over_seeds": over_seeds(figures).to_json(),
        "spent": [summaries[folder]["spent"] for folder in done],
        "curves": [read_json(folder / CURVE) for folder in done],
        "looks": {_seed(folder): _looks(folder, unit) for folder in folders},
    }
    ended = {
        _seed(folder): read_json(folder / STOPPED) for folder in folders if not (folder / CURVE).exists()
    }
    return {**found, **({"ended": ended} if ended else {})}


def _seed(folder: Path) -> str:
    return folder.name.removeprefix("seed-")


def _looks(folder: Path, unit: str) -> list[list[float]]:
    """Return (spent, figure on validation items) of the last loop that was looked at."""
    lines = list(seen(folder))
    loop = lines[-1]["loop"] if lines else None
    return [[line["spent"].get(unit, 0), line["figure"]] for line in lines if line["loop"] == loop]


def _differences(methods: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every pair of methods on the seeds that both have finished: t and bootstrap intervals, tests."""
    pairs = []
    for a, b in itertools.combinations(methods, 2):
        both = [dict(zip(methods[slug]["seeds"], methods[slug]["figures"], strict=True)) for slug in (a, b)]
        seeds = [seed for seed in both[0] if seed in both[1]]
        one, other = ([figures[seed] for seed in seeds] for figures in both)
        differences = [x - y for x, y in zip(one, other, strict=True)]
        drawn = paired_bootstrap(one, other).to_json() if len(seeds) > 1 else {"low": None, "high": None}
        pairs.append(
            {
                "a": a,
                "b": b,
                **paired_interval(differences).to_json(),
                "bootstrap": [drawn["low"], drawn["high"]],
                **paired_test(differences).to_json(),
            }
        )
    for pair, corrected in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = corrected
    return pairs


def _stopped(methods: dict[str, dict[str, Any]], unit: str, metric: Metric) -> dict[str, Any]:
    """Return what ending hopeless runs saved, and that it left the best method what it was."""
    ended = [(slug, each) for slug, found in methods.items() for each in found.get("ended", {}).values()]
    whole = {slug: found["spent"][0].get(unit, 0.0) for slug, found in methods.items()}
    saved = sum(whole[slug] - each["spent"].get(unit, 0.0) for slug, each in ended)
    asked = sum(
        whole[slug] * (len(found["seeds"]) + len(found.get("ended", {}))) for slug, found in methods.items()
    )
    means = {slug: rising(metric, found["over_seeds"]["mean"]) for slug, found in methods.items()}
    unended = {slug: mean for slug, mean in means.items() if not methods[slug].get("ended")}
    best = max(unended or means, key=lambda slug: means[slug])
    return {
        "runs": len(ended),
        "saved": saved,
        "saved_share": saved / asked if asked else 0.0,
        "best": best,
        "best_of_first_seed": max(methods, key=lambda slug: rising(metric, methods[slug]["figures"][0])),
        "unwatched": [slug for slug, found in methods.items() if not any(found["looks"].values())],
    }


def _target(methods: dict[str, dict[str, Any]], metric: Metric, asked: float | None) -> dict[str, Any] | None:
    """Return what each method and seed had spent when validation items first met the target.

    Unless told, the target is what the weakest method reaches in half of its runs. None where a method was
    not looked at.
    """
    looks = {slug: found["looks"] for slug, found in methods.items()}
    if not all(curve for curves in looks.values() for curve in curves.values()):
        return None
    if asked is None:
        rank = partial(rising, metric)
        ends = [sorted((curve[-1][1] for curve in curves.values()), key=rank) for curves in looks.values()]
        asked = min((figures[len(figures) // 2] for figures in ends), key=rank)
    least = rising(metric, asked) - CLOSE
    times = {
        slug: {
            seed: next((spent for spent, figure in curve if rising(metric, figure) >= least), None)
            for seed, curve in curves.items()
        }
        for slug, curves in looks.items()
    }
    profiles = target_profiles(times)
    scores = profiles.scores if profiles else dict.fromkeys(times, 0.0)
    return {"figure": asked, "times": times, "scores": scores}


def target_profiles(times: dict[str, dict[str, float | None]]) -> Profiles | None:
    """Return performance profiles over the seeds in which some method met the target; None where none did.

    Args:
        times: by method and seed; None where the target was not met.
    """
    seeds = {seed for of_seeds in times.values() for seed, spent in of_seeds.items() if spent is not None}
    if not seeds:
        return None
    finite = {
        slug: {
            seed: math.inf if of_seeds.get(seed) is None else float(of_seeds[seed] or 0.0)
            for seed in sorted(seeds)
        }
        for slug, of_seeds in times.items()
    }
    return performance_profiles(finite)


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
        within = f"{figure(mean['low'], metric.share)} to {figure(mean['high'], metric.share)}"
        table.add_row(
            slug,
            figure(mean["mean"], metric.share),
            NONE if mean["low"] is None else within,
            str(mean["n"]),
            f"{mean_spent(found, unit):,.0f}",
        )
    console.print(table)
    for line in notes(result):
        console.print(line, highlight=False, markup=False)


def mean_spent(found: dict[str, Any], unit: str) -> float:
    """Return what the finished runs of a method spent in the mean."""
    return sum(each.get(unit, 0) for each in found["spent"]) / len(found["spent"])


def notes(result: dict[str, Any]) -> list[str]:
    """Return what there is to say of a comparison beside its table, a line each."""
    metric, unit = metric_of(result), next(iter(result["budget"]))
    words = unit.replace("_", " ")
    lines = [f"{pair['a']} - {pair['b']}: {pair_text(pair, metric.share)}" for pair in result["differences"]]
    if any(pair["n"] < 2 for pair in result["differences"]):
        lines.append("A single seed tells no interval: give --seeds of two or more.")
    target = result.get("time_to_target")
    if target:
        lines.append(f"{words} until validation items reach {figure(target['figure'], metric.share)}:")
        lines += [f"  {slug}: {reached_text(of_seeds)}" for slug, of_seeds in target["times"].items()]
    stopped = result.get("stopped")
    if stopped:
        lines += stopped_text(stopped, words)
    spent = {mean_spent(found, unit) for found in result["results"].values()}
    if max(spent) > UNEQUAL * min(spent):
        lines.append(
            f"They did not spend the same: see the column of {words}. Give a --budget, or settings that ask "
            "for as much."
        )
    return lines


def pair_text(pair: dict[str, Any], share: bool) -> str:
    """Return a difference with its interval, its p value, also as corrected by Holm, and its effect size.

    >>> pair = {"mean": 0.05, "low": 0.01, "high": 0.09, "n": 5, "p": 0.02, "p_holm": 0.06, "effect": 1.3}
    >>> pair_text(pair, share=True)
    '+5.0 points (+1.0 to +9.0), p 0.02, corrected 0.06, effect 1.3'
    """
    text = difference_text(pair, share)
    if pair["p"] is not None:
        text += f", p {pair['p']:.2g}, corrected {pair['p_holm']:.2g}"
    return text if pair["effect"] is None else f"{text}, effect {pair['effect']:.2g}"


def reached_text(of_seeds: dict[str, float | None]) -> str:
    """Return the median of what was spent until a target, and how many runs reached it.

    >>> reached_text({"0": 300.0, "1": None, "2": 100.0})
    '200 in the median; 2 of 3 runs reached it'
    >>> reached_text({"0": None})
    'never reached in 1 run'
    """
    from statistics import median

    known = [spent for spent in of_seeds.values() if spent is not None]
    if not known:
        return f"never reached in {len(of_seeds)} run{'s' * (len(of_seeds) > 1)}"
    return f"{median(known):,.0f} in the median; {len(known)} of {len(of_seeds)} runs reached it"


def stopped_text(stopped: dict[str, Any], words: str) -> list[str]:
    """Return what ending hopeless runs came to, a line each."""
    runs = "1 hopeless run was" if stopped["runs"] == 1 else f"{stopped['runs']} hopeless runs were"
    lines = [
        f"{runs} ended, which saved {stopped['saved']:,.0f} {words}, "
        f"{stopped['saved_share']:.0%} of all. The best method is {stopped['best']}; after the first seed, "
        f"which ran to its end, it was {stopped['best_of_first_seed']}."
    ]
    if stopped["unwatched"]:
        lines.append(f"{', '.join(stopped['unwatched'])}: cannot be looked at on the way, so never ended.")
    return lines
