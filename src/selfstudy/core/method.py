"""What a method is: a frozen dataclass of hyper-parameters with one entry, `fit`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from selfstudy.core.run import Run

Kind = type | tuple[type, ...]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a method gives back.

    Attributes:
        model: the trained model; has `save(folder)`.
        parts: further trained models by name, such as the value model of a tree search.
        metrics: figures by name that belong in the summary.
        held_to: figures with their tolerances, as made by `selfstudy.evaluation.tolerances.within`.
        pictures: for the report, as made by `selfstudy.evaluation.pictures`.
    """

    model: Any
    parts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    held_to: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Method:
    """Interface of every method; its fields are the hyper-parameters, with the paper's defaults.

    Attributes:
        works_on: classes of the tasks and of the models that it can take; others are refused before any work.
        across_processes: whether it may be started as several processes, which then share its work.
    """

    works_on: ClassVar[tuple[Kind, Kind]] = (object, object)
    across_processes: ClassVar[bool] = False

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        """Train `model` on `task`; every random draw, record and checkpoint goes through `run`."""
        raise NotImplementedError

    def suits(self, task: Any, model: Any) -> bool:
        """Tell whether it can work on this task with this model; unless it says more, by `works_on` alone."""
        tasks, models = self.works_on
        return isinstance(task, tasks) and isinstance(model, models)

    def validate(self) -> None:
        """Raise `UsageError` when the fields contradict each other; called before any work starts."""
