"""Claims: what a method is worth, as code that says holds, fails or unclear.

A file in the repository's `claims/` defines `CLAIMS`, a list of `Claim`. Each seed is measured in a run of
its own, so that a claim cut off goes on where it was; the relations are then judged on paired differences.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from selfstudy.core.errors import MachineError, UsageError, nearest
from selfstudy.core.fan_out import FanOut
from selfstudy.core.files import write_json
from selfstudy.core.machine import hardware, versions
from selfstudy.core.progress import Progress
from selfstudy.core.run import Run
from selfstudy.evaluation.statistics import Difference, paired_bootstrap, paired_interval

Values = dict[str, "float | list[bool]"]
How = Literal["above", "level"]
HOLDS, FAILS, UNCLEAR = "holds", "fails", "unclear"


class Relation(NamedTuple):
    """What must be so between two figures, or between one and a number."""

    name: str
    a: str
    b: str | float
    how: How = "above"
    """"above": a - b is above 0. "level": it cannot be told from 0, which says that a has no advantage."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement, and how it is tested.

    Attributes:
        name: short, unique in its file; names its directory.
        statement: what is claimed, in words.
        seeds: the seeds it is tested on.
        measure: measures one seed: by contestant, a figure (more is better) or right and wrong by item.
            Figures that no relation names are reported and not judged.
        relations: all must hold.
        share: whether the figures are shares, shown in percent.
        source: the file that it was read from; None where it was made otherwise.
    """

    name: str
    statement: str
    seeds: Sequence[int]
    measure: Callable[[int, Run], Values]
    relations: Sequence[Relation]
    share: bool = True
    source: Path | None = None


class Measured(NamedTuple):
    """What one seed came to."""

    values: Values
    seconds: float


def verdict(difference: Difference, how: How = "above") -> str:
    """Return 'holds' for an interval above 0, 'fails' for one below or a mean not above 0, else 'unclear'.

    For "level": 'holds' for an interval that contains 0 (or ends there), 'unclear' where it is infinite, else
    'fails'.
    """
    if how == "level":
        if math.isinf(difference.high):
            return UNCLEAR
        return HOLDS if difference.low <= 0 <= difference.high else FAILS
    if difference.low > 0:
        return HOLDS
    return FAILS if difference.high < 0 or difference.mean <= 0 else UNCLEAR


def together(verdicts: Sequence[str]) -> str:
    """Return the verdict on a claim from those on its relations: all must hold."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts and set(verdicts) == {HOLDS} else UNCLEAR


def run_claim(
    claim: Claim,
    directory: Path,
    *,
    seeds: Sequence[int] | None = None,
    visible: bool = False,
    fan_out: FanOut | None = None,
) -> dict[str, Any]:
    """Test one claim and return the result as JSON data; seeds already measured in `directory` are read back.

    Args:
        claim: what to test.
        directory: holds a run for each seed.
        seeds: other seeds than the claim's; the result then says it is not complete.
        visible: draw progress bars.
        fan_out: workers that measure seeds at the same time, each in its run; they must reach the claim's
            file and `directory`. None measures them here, one after the other.

    Raises:
        UsageError: workers, and a claim that was not read from a file.
    """
    chosen = list(claim.seeds if seeds is None else seeds)
    if fan_out is None:
        found = [_measured(claim, directory, seed, visible=visible) for seed in chosen]
    else:
        found = _measured_by_workers(fan_out, claim, directory, chosen, visible=visible)
    measured = [one.values for one in found]
    relations = [judge(relation, measured) for relation in claim.relations]
    return {
        "name": claim.name,
        "statement": claim.statement,
        "verdict": together([relation["verdict"] for relation in relations]),
        "relations": relations,
        "seeds": chosen,
        "complete": chosen == list(claim.seeds),
        "share": claim.share,
        "values": {name: [_figure(values[name]) for values in measured] for name in measured[0]},
        "minutes": round(sum(one.seconds for one in found) / 60, 2),
        "versions": versions(),
        "hardware": hardware(),
    }


def _measured(claim: Claim, directory: Path, seed: int, *, visible: bool = False) -> Measured:
    """Measure one seed in a run of its own, or read it back."""
    config = {"claim": claim.name, "statement": claim.statement}
    with Run(directory / f"seed-{seed}", config, seed=seed, progress=Progress(visible)) as run:
        values = run.stage("measure", lambda: claim.measure(seed, run))
        return Measured(values, run.meter.snapshot()["seconds"])


def _measured_by_workers(
    workers: FanOut, claim: Claim, directory: Path, seeds: Sequence[int], *, visible: bool
) -> list[Measured]:
    if claim.source is None:
        raise UsageError(
            f"Workers read a claim from its file, and {claim.name!r} was not read from one. Put it into "
            "claims/, or measure it without workers."
        )
    # They read the file again: what it defines has no name by which another process could import it.
    work = partial(_measured_again, claim.source, claim.name, directory.absolute())
    config = {"claim": claim.name, "statement": claim.statement}
    with (
        Run(directory / "workers", config, progress=Progress(visible)) as run,
        run.progress.bar(claim.name, len(seeds), 0) as advance,
        contextlib.closing(workers.map(run, claim.name, seeds, work)) as coming,
    ):
        found = []
        for one in coming:
            found.append(one)
            advance(1)
        return found


def _measured_again(source: Path, name: str, directory: Path, seed: int) -> Measured:
    (claim,) = (one for one in _claims_of(source) if one.name == name)
    return _measured(claim, directory, seed)


def judge(relation: Relation, measured: Sequence[Values]) -> dict[str, Any]:
    """Return the paired difference of one relation and its verdict, as JSON data.

    Pairs are seeds. A single seed with results by item is judged by the bootstrap over its items instead.

    Raises:
        UsageError: the relation names something that was not measured.
    """
    name, a, b, how = relation
    for contestant in (a, b):
        if isinstance(contestant, str) and contestant not in measured[0]:
            raise UsageError(
                f"The relation {name!r} compares {contestant!r}, which is not measured. "
                f"{nearest(contestant, measured[0])}"
            )
    first, second = (_value(measured[0], contestant) for contestant in (a, b))
    if len(measured) == 1 and isinstance(first, list) and isinstance(second, list):
        difference, pairs = paired_bootstrap(first, second), "items"
    else:
        difference = paired_interval([_figure(values[a]) - _figure(_value(values, b)) for values in measured])
        pairs = "seeds"
    return {
        "name": name,
        "a": a,
        "b": b,
        "how": how,
        **difference.to_json(),
        "pairs": pairs,
        "verdict": verdict(difference, how),
    }


def _value(values: Values, contestant: str | float) -> float | list[bool]:
    return values[contestant] if isinstance(contestant, str) else contestant


def _figure(value: float | list[bool]) -> float:
    return sum(value) / len(value) if isinstance(value, list) else float(value)


# The repository's folder of claims.


def claims_folder() -> Path | None:
    """Return `claims/` of this repository: of the working directory or above it, or beside the source."""
    start = Path.cwd()
    source = Path(__file__).resolve().parents[3]
    for root in itertools.chain([start], start.parents, [source]):
        if (root / "claims").is_dir() and (root / "src" / "selfstudy").is_dir():
            return root / "claims"
    return None


def results_folder() -> Path | None:
    """Return `claims/results/`, or None where the package is installed without its repository."""
    folder = claims_folder()
    return folder / "results" if folder else None


def load_claims(slug: str) -> list[Claim]:
    """Return the claims of one method.

    Raises:
        MachineError: this is an installed package without its repository, which holds the claims.
        UsageError: there is no such file.
    """
    folder = claims_folder()
    if folder is None:
        raise MachineError(
            "Claims live in the repository, which an installed package does not carry. "
            "Clone it and run this command inside."
        )
    known = claimed(folder)
    if slug not in known:
        raise UsageError(f"There is no claim of {slug!r} in {folder}. {nearest(slug, known)}")
    return _claims_of(folder / f"{slug.replace('-', '_')}.py")


def _claims_of(source: Path) -> list[Claim]:
    spec = importlib.util.spec_from_file_location(f"claims_{source.stem}", source)
    if spec is None or spec.loader is None:
        raise UsageError(f"The claims in {source} cannot be loaded.")
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return [dataclasses.replace(claim, source=source) for claim in module.CLAIMS]


def claimed(folder: Path) -> list[str]:
    """Return the names of the methods that have claims."""
    return sorted(path.stem.replace("_", "-") for path in folder.glob("[!_]*.py"))


def record(slug: str, results: list[dict[str, Any]], folder: Path) -> Path:
    """Write the results of a method's claims to `folder` and return the file."""
    path = folder / f"{slug}.json"
    write_json(path, {"method": slug, "claims": results})
    return path
