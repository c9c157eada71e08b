"""One fit of a comparison: what it is asked to do, and doing it in this process or for another one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfstudy.app.evaluating import evaluation
from selfstudy.app.fitting import fit_plan
from selfstudy.app.plans import Loaded, Plan, prepared
from selfstudy.app.watching import STOPPED, Bar, Hopeless, Watch, final_figure
from selfstudy.core.budget import Budget
from selfstudy.core.config import from_dict, to_dict
from selfstudy.core.fan_out import FanOut
from selfstudy.core.files import read_json, write_json
from selfstudy.core.index import METHODS, Entry
from selfstudy.evaluation.summary import read_summary

CURVE, BASE = "curve.json", "base.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method with one seed.

    Attributes:
        entry: of the method, which another process may not have in its index.
        plan: what to fit.
        directory: of the comparison.
        budget: limits by unit; the first is what the fit is measured in.
        bar: what it must be able to reach; None lets it run to its end.
        final: whether the finished model's figure on validation items is wanted.
    """

    entry: Entry
    plan: Plan
    directory: Path
    budget: dict[str, float]
    bar: Bar | None = None
    final: bool = False

    @property
    def folder(self) -> Path:
        """Where its run is."""
        return self.directory / self.plan.slug / f"seed-{self.plan.seed}"

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do: a finished run, or one that was ended."""
        ended = self.bar is not None and (self.folder / STOPPED).exists()
        return ended or (self.folder / CURVE).exists()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "entry": asdict(self.entry),
            "plan": {**vars(self.plan), "method": to_dict(self.plan.method)},
            "directory": str(self.directory),
            "budget": self.budget,
            "bar": asdict(self.bar) if self.bar else None,
            "final": self.final,
        }

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Job:
        """Return what `to_json` described; the method is put in the index where it is not there."""
        entry = METHODS.setdefault(said["entry"]["slug"], Entry(**said["entry"]))
        plan = {**said["plan"], "method": from_dict(entry.load(), said["plan"]["method"])}
        bar = Bar(**said["bar"]) if said["bar"] else None
        directory = Path(said["directory"])
        return cls(**{**said, "entry": entry, "plan": Plan(**plan), "directory": directory, "bar": bar})


def do(job: Job, loaded: Loaded, ray: FanOut | None = None) -> None:
    """Fit what a job says, if it is not done, and measure the models on its way; all is in the run's folder.

    Args:
        job: what to do.
        loaded: its task and model.
        ray: the workers that take batches of problems.
    """
    before = base(job.directory, loaded, job.plan.test_limit)
    watch = Watch(job.folder, loaded.task, type(loaded.model), job.bar)
    try:
        fitted = fit_plan(
            job.plan, job.folder, Budget(**job.budget), loaded=loaded, before=before, ray=ray, watch=watch
        )
    except Hopeless:
        return
    if job.final:
        final_figure(job.folder, loaded.task, fitted.model)
    _curve(job, loaded)


def base(directory: Path, loaded: Loaded, limit: int | None) -> dict[str, Any]:
    """Return the evaluation of the untrained model, which is kept in the comparison's directory."""
    path = directory / BASE
    if not path.exists():
        write_json(path, evaluation(prepared(loaded).model, loaded.task, limit))
    return read_json(path)


def _curve(job: Job, loaded: Loaded) -> None:
    """Write (spent, figure) pairs: the base, every model that a finished stage left, the end.

    The models in between are evaluated here, outside any budget.
    """
    path, summary = job.folder / CURVE, read_summary(job.folder) or {}
    if path.exists():
        return
    unit, metric = next(iter(job.budget)), loaded.task.metric.name
    kind = f"{type(loaded.model).__module__}:{type(loaded.model).__qualname__}"
    stages = [(read_json(stage), stage.parent) for stage in job.folder.glob("stages/**/stage.json")]
    models = [
        (content["spent"].get(unit, 0), stage) for content, stage in stages if content.get("kind") == kind
    ]
    curve = [[0, summary["base"][metric]]]
    for spent, stage in sorted(models)[:-1]:  # the last is the trained model itself
        found = evaluation(type(loaded.model).load(stage), loaded.task, job.plan.test_limit)
        curve.append([spent, found["entry"][metric]])
    curve.append([summary["spent"].get(unit, 0), summary["trained"][metric]])
    write_json(path, curve)
