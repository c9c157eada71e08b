"""What a fit is asked to do, the task and the model that it works on, and the directory that it works in."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from selfstudy.core.budget import Budget
from selfstudy.core.config import to_dict
from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json
from selfstudy.core.index import find
from selfstudy.core.method import Method

BUDGET = "budget.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a fit is asked to do; everything that makes two fits different."""

    slug: str
    method: Method
    task: str
    model: str
    seed: int = 0
    train_limit: int | None = None
    """Training problems used; None is all."""
    test_limit: int | None = None
    """Test problems of the evaluation; None is all."""

    def config(self) -> dict[str, Any]:
        """Return what run.json holds."""
        return {
            "method": self.slug,
            "task": self.task,
            "model": self.model,
            "train_limit": self.train_limit,
            "test_limit": self.test_limit,
            "fields": to_dict(self.method),
            "seed": self.seed,
        }


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The task and the model of a plan, so that a comparison loads them once."""

    task: Any
    model: Any


def loaded_for(plan: Plan, loaded: Loaded | None) -> Loaded:
    """Return the task and the model of a plan, made for each other; those of `loaded` are not loaded again.

    Raises:
        UsageError: the method cannot work on them.
    """
    from selfstudy import model, task

    loaded = loaded or Loaded(task=None, model=None)
    ready_task = task(plan.task) if loaded.task is None else loaded.task
    if plan.train_limit:
        ready_task = ready_task.limited(plan.train_limit)
    found = Loaded(task=ready_task, model=model(plan.model) if loaded.model is None else loaded.model)
    _require_kinds(plan, found)
    return prepared(found)


def prepared(loaded: Loaded) -> Loaded:
    """Make the model for the task's data, where the task knows how: their shape and their statistics."""
    prepare = getattr(loaded.task, "prepared", None)
    return replace(loaded, model=prepare(loaded.model)) if prepare else loaded


def _require_kinds(plan: Plan, loaded: Loaded) -> None:
    if not plan.method.suits(loaded.task, loaded.model):
        from selfstudy.models.language.served import ServedModel

        if isinstance(loaded.model, ServedModel):
            raise UsageError(
                f"The method {plan.slug!r} trains its model, and {plan.model!r} is behind a server: there "
                "are no weights here to train. Give the weights, as a folder or a hub id. A served model can "
                "be used at test time: selfstudy evaluate --task TASK --model MODEL --solver majority."
            )
        entry = find(plan.slug)
        own = f" Unless told it takes the task {entry.task!r} and the model {entry.model!r}." * bool(
            entry.task
        )
        raise UsageError(
            f"The method {plan.slug!r} cannot work on the task {plan.task!r} with the model {plan.model!r}. "
            f"It needs {entry.needs}.{own} `selfstudy show {plan.slug}` tells more."
        )


def named(thing: Any) -> str:
    """Return the name of a task or a model, or the name that it is."""
    return thing if isinstance(thing, str) else str(getattr(thing, "name", type(thing).__name__))


def read_budget(budget: str | dict[str, float] | Budget | None) -> Budget:
    """Return a budget from any of the forms a user may give it in."""
    if isinstance(budget, Budget):
        return budget
    if isinstance(budget, dict):
        budget = ",".join(f"{name}={amount}" for name, amount in budget.items())
    return Budget.parse(budget or "")


def read_config(directory: Path) -> dict[str, Any]:
    """Return what the run in `directory` was asked for.

    Raises:
        UsageError: there is no run.
    """
    if not (directory / "run.json").exists():
        raise UsageError(f"{directory} holds no run: there is no run.json in it. Give the --out of a fit.")
    return read_json(directory / "run.json")


def free_directory(name: str) -> Path:
    """Return the first of runs/NAME-1, runs/NAME-2, ... that does not exist."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    paths = (Path("runs") / f"{safe}-{n}" for n in itertools.count(1))
    return next(path for path in paths if not path.exists())
