"""Looks at a model while it is trained: its figure on validation items, and whether it can still win.

A run that is watched is the same run: looking draws nothing and moves no weight. What was seen is kept beside
the run, so that a run that is resumed is not looked at twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfstudy.app.evaluating import evaluation
from selfstudy.core.errors import SelfstudyError
from selfstudy.core.files import Log, read_json, write_json
from selfstudy.core.run import Passing
from selfstudy.evaluation.learning_traces import LearningTrace
from selfstudy.evaluation.scores import Metric

LOOKS = 20  # at a loop, evenly over its steps
ITEMS = 1000  # validation items of a look, the first ones
CALM = 0.5  # s of a learning trace: its asymptote is calm while it changes by s / (1 - s), a point, a look
SEEN, STOPPED, FINAL = "seen.jsonl", "stopped.json", "validation.json"


class Hopeless(SelfstudyError):
    """A run was ended, since its learning curve stays below the leader's figure."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a run must be able to reach to go on.

    Attributes:
        loop: of steps, the one that makes the final model.
        figure: the leader's, on validation items; in points where it is a share, and more is better.
        margin: how far below it an asymptote may stay.
    """

    loop: str
    figure: float
    margin: float


class Watch:
    """Watches one run.

    Args:
        folder: of the run; a file of what was seen is kept there.
        task: judges.
        model: the class of the models that it judges.
        bar: what the run must be able to reach; None only looks.
    """

    def __init__(self, folder: Path, task: Any, model: type, bar: Bar | None = None) -> None:
        self._folder, self._task, self._model, self._bar = folder, task, model, bar
        self._log = Log(folder / SEEN)
        self._seen = {(line["loop"], line["level"]): line for line in self._log.read()}
        self._trace = LearningTrace(nu=CALM, upper=100.0 if task.metric.share else None)
        self._able = bool(len(task.validation))

    def __call__(self, passing: Passing) -> None:
        """Look, where a further part of the loop is done.

        Raises:
            Hopeless: the run cannot reach its bar.
        """
        if not self._able or (self._bar and passing.loop != self._bar.loop):
            return
        level = passing.step * LOOKS // passing.steps
        if not passing.step or level == (passing.step - 1) * LOOKS // passing.steps:
            return
        line = self._seen.get((passing.loop, level)) or self._look(passing, level)
        if line and self._bar:
            self._judge(line, passing.spent())

    def _look(self, passing: Passing, level: int) -> dict[str, Any] | None:
        models = [part for part in passing.state.values() if is_judged(part, self._model)]
        if not models:
            return None
        found = self._task.evaluate(models[0], split="validation", limit=ITEMS)
        line = {
            "loop": passing.loop,
            "level": level,
            "figure": float(sum(found.values) / len(found.values)),
            "spent": passing.spent(),
        }
        self._log.append(line)
        self._seen[passing.loop, level] = line
        return line

    def _judge(self, line: dict[str, Any], spent: dict[str, float]) -> None:
        assert self._bar is not None
        figure = rising(self._task.metric, line["figure"])
        status = self._trace.add(line["level"], figure)
        if status.prediction is None or status.asymptote is None:
            return
        most = max(status.asymptote, figure)
        if most < self._bar.figure - self._bar.margin:
            done = line["level"] / LOOKS
            said = {**asdict(self._bar), "done": done, "figure": figure, "asymptote": most, "spent": spent}
            write_json(self._folder / STOPPED, {**said, "leader": self._bar.figure})
            raise Hopeless(
                f"Ended after {done:.0%}: its curve stays below {most:.4g}, and the leader has "
                f"{self._bar.figure:.4g}."
            )


def is_judged(part: Any, model: type) -> bool:
    """Return whether a part of a loop's state is a model that a task can judge as it stands."""
    return isinstance(part, model) or hasattr(part, "classify")


def rising(metric: Metric, figure: float) -> float:
    """Return a figure such that more is better: shares in points, errors below 0."""
    return 100 * figure if metric.share else -figure if metric.lower_is_better else figure


def seen(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what was seen of a run, in order."""
    yield from Log(folder / SEEN).read()


def final_loop(folder: Path, margin: float, metric: Metric) -> str | None:
    """Return the loop whose last look is the finished model's figure, within `margin`; None where none is."""
    last = {line["loop"]: line["figure"] for line in seen(folder)}
    if not last or not (folder / FINAL).exists():
        return None
    loop, figure = list(last.items())[-1]
    gap = rising(metric, figure) - rising(metric, read_json(folder / FINAL))
    return loop if abs(gap) <= margin else None


def final_figure(folder: Path, task: Any, model: Any) -> float:
    """Return a finished model's figure on the validation items of a look, and keep it beside the run."""
    path = folder / FINAL
    if not path.exists():
        found = evaluation(model, task, ITEMS, split="validation")
        write_json(path, float(found["entry"][task.metric.name]))
    return read_json(path)
