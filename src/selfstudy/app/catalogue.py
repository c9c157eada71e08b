"""`selfstudy methods` and `selfstudy show`: the index, in the terminal."""

from __future__ import annotations

import inspect
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from selfstudy.app.fields import described_fields
from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.files import read_json
from selfstudy.core.index import METHODS, Entry, find
from selfstudy.evaluation.claims import results_folder


def claim_results(slug: str) -> list[dict[str, Any]]:
    """Return the recorded results of a method's claims, or nothing where none are recorded."""
    folder = results_folder()
    path = folder / f"{slug}.json" if folder else None
    return read_json(path)["claims"] if path and path.exists() else []


def claim_status(slug: str) -> str:
    """Return one phrase for all claims of a method: 'holds', '1 of 2 holds', or 'not run here'."""
    verdicts = [result["verdict"] for result in claim_results(slug)]
    if not verdicts:
        return "not run here"
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return f"{verdicts.count('holds')} of {len(verdicts)} hold"


def print_methods(family: str | None, console: Console) -> None:
    """Print the table of methods, of one family or all.

    Raises:
        UsageError: no method is in that family.
    """
    families = sorted({entry.family for entry in METHODS.values()})
    if family is not None and family not in families:
        raise UsageError(f"Unknown family {family!r}. {nearest(family, families)}")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("method", "year", "family", "needs", "gives", "claim"):
        table.add_column(heading, no_wrap=heading in ("method", "year", "family"), overflow="fold")
    for entry in METHODS.values():
        if family in (None, entry.family):
            cells = (
                entry.slug,
                str(entry.year),
                entry.family,
                entry.needs,
                entry.gives,
                claim_status(entry.slug),
            )
            table.add_row(*map(escape, cells))
    console.print(table)
    console.print("\nOne of them in full: selfstudy show METHOD", highlight=False)


def print_method(slug: str, console: Console) -> None:
    """Print what a method does, its fields with defaults and help, and its claims."""
    entry = find(slug)
    method = entry.load()
    console.print(f"[bold]{escape(entry.slug)}[/]  {escape(entry.title)}", highlight=False)
    console.print(escape(f"{entry.authors} {entry.year}"), style="dim", highlight=False)
    _print_text(method, entry, console)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("option", "default", "what it is"):
        table.add_column(heading, overflow="fold")
    for field in described_fields(method()):
        table.add_row(*map(escape, (f"--{field.name.replace('_', '-')}", str(field.default), field.text)))
    console.print(table)
    results = claim_results(slug)
    console.print("\n[bold]Claims[/]" + ("" if results else ": not run here"), highlight=False)
    for result in results:
        console.print(escape(f"{result['name']} {result['verdict']}: {result['statement']}"), highlight=False)


def _print_text(method: type, entry: Entry, console: Console) -> None:
    text = inspect.cleandoc(method.__doc__ or "")
    module = inspect.getdoc(inspect.getmodule(method)) or ""
    for part in filter(None, (text, module)):
        console.print()
        console.print(part, highlight=False, markup=False)
    console.print(f"\nneeds     {entry.needs}\ngives     {entry.gives}\n", highlight=False, markup=False)
