"""`selfstudy claim`: tests claims, prints the evidence, records it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from selfstudy.app.rows import difference_text, figure
from selfstudy.core.errors import MachineError
from selfstudy.core.fan_out import FanOut, fan_out
from selfstudy.core.files import write_json
from selfstudy.evaluation.claims import FAILS, claimed, claims_folder, load_claims, record, run_claim

SIGNS = {"above": ">", "level": "="}
FAILED = 1  # exit code when a claim fails; unclear is not a failure


def claim(slug: str | None, out: Path, seeds: int | None, console: Console, *, ray: str | None = None) -> int:
    """Test the claims of one method, or of all when `slug` is None; return the exit code.

    Args:
        slug: the method.
        out: where the runs go.
        seeds: only the first so many of each claim; the result is then not recorded in claims/results.
        console: where the evidence is printed.
        ray: the cluster whose workers take seeds, as for `fan_out`; None works in this process.
    """
    with fan_out(ray) as workers:
        return _claim(slug, out, seeds, console, workers)


def _claim(slug: str | None, out: Path, seeds: int | None, console: Console, workers: FanOut | None) -> int:
    folder = claims_folder()
    if slug is None and folder is None:
        raise MachineError("Claims live in the repository: clone it and run this command inside.")
    failed = False
    for name in [slug] if slug else claimed(folder):  # type: ignore[arg-type]
        results = []
        for each in load_claims(name):
            chosen = None if seeds is None else list(each.seeds)[:seeds]
            directory = out / name / each.name
            results.append(run_claim(each, directory, seeds=chosen, visible=True, fan_out=workers))
            print_result(results[-1], console)
        failed |= any(result["verdict"] == FAILS for result in results)
        write_json(out / name / "result.json", results)
        if all(result["complete"] for result in results):
            recorded = record(name, results, claims_folder() / "results")  # type: ignore[operator]
            console.print(f"Recorded in {recorded}", highlight=False, soft_wrap=True)
    return FAILED if failed else 0


def print_result(result: dict[str, Any], console: Console) -> None:
    """Print one claim: its statement, each contestant's mean, each paired difference, the verdict."""
    console.print(f"[bold]{result['name']}[/]  {result['statement']}", highlight=False)
    for name, values in result["values"].items():
        mean = sum(values) / len(values)
        mean = f"{mean:,.0f}" if name.endswith(" tokens") else figure(mean, result["share"])
        console.print(f"  {name:<28} {mean}", highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 2))
    for heading in ("relation", "paired difference", "pairs", "verdict"):
        table.add_column(heading)
    for relation in result["relations"]:
        what = f"{relation['name']}: {relation['a']} {SIGNS[relation['how']]} {relation['b']}"
        found = difference_text(relation, result["share"])
        table.add_row(what, found, f"{relation['n']} {relation['pairs']}", relation["verdict"])
    console.print(table)
    size = f"{len(result['seeds'])} seeds, {result['minutes']:.1f} minutes"
    console.print(f"  [bold]{result['verdict']}[/] ({size})\n", highlight=False)
