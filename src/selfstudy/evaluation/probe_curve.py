"""What features are worth as pre-training goes on: a probe every few passes, the best weights, the decay.

For every method that trains an encoder by `selfstudy.learning.pretraining.pretrain`: hand it a `ProbeCurve`
as part of `state` and its `after_step`. Only validation inputs are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.evaluation.pictures import Picture, band, line, picture, points
from selfstudy.evaluation.scores import Metric
from selfstudy.learning.parts import Parts

BAND = "rgba(0, 114, 178, 0.15)"
Look = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Probing:
    """When features are probed during training, and which weights are given back."""

    every: float = 5.0
    """Passes between two looks at validation inputs; 0 is none."""
    items: int = 2000
    """Validation inputs of a look, the first ones."""
    keep: Literal["best", "last"] = "best"
    """Weights given back: of the best look, or of the last step."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        if not 0 <= self.every < float("inf") or self.items < 1:
            raise UsageError(
                f"Probing has every {self.every} and items {self.items}: they must be at least 0 and 1."
            )
        if self.keep == "best" and not self.every:
            raise UsageError(
                "Without looks there is no best one: give --probing.every, or --probing.keep last."
            )


class Probeable(Protocol):
    """A task that can say what an encoder is worth on validation inputs."""

    metric: Metric

    @property
    def validation(self) -> Sized:
        """Its validation inputs."""

    def evaluate(self, model: Any, *, split: str, limit: int | None) -> Any:
        """Return an object with one figure for each input as `values`."""


class ProbeCurve:
    """Probes an encoder while it is trained; its state belongs into the checkpoints of the training.

    Args:
        encoder: what is trained, in place.
        task: probes it. Without validation inputs there are no looks, and the last weights are kept.
        settings: when, and what is kept.
        epoch: steps in a pass.
        run: where looks are logged, as `probe` beside `step`.
    """

    def __init__(self, encoder: Any, task: Probeable, settings: Probing, *, epoch: int, run: Run) -> None:
        self._encoder, self._task, self._settings = encoder, task, settings
        self._epoch, self._run = epoch, run
        asked = settings.every and len(task.validation)
        self._every = max(1, round(settings.every * epoch)) if asked else 0
        self._steps = 0
        self._best: dict[str, torch.Tensor] = {}
        self.looks: list[Look] = []
        if self._every:
            self._look()

    def after_step(self, step: int) -> None:
        """Look where it is time; called after the weights have moved."""
        self._steps = step + 1
        if self._every and self._steps % self._every == 0:
            self._look()
            self._run.log(step=step, probe=self.looks[-1][self._task.metric.name])

    def _look(self) -> None:
        measured = self._task.evaluate(self._encoder, split="validation", limit=self._settings.items)
        row = self._task.metric.row(measured.values)
        self.looks.append({"epoch": self._steps / self._epoch, **row})
        best = self._steps and best_look(self.looks, self._task.metric) is self.looks[-1]
        if best and self._settings.keep == "best":
            self._best = {name: value.detach().clone() for name, value in self._encoder.state_dict().items()}

    def probed(self, *, brought_back: bool = False) -> Probed:
        """Return the encoder that is kept, the last one and the curve; at the end of training.

        Args:
            brought_back: whether the last weights are not those of the last step, as after a collapse.
        """
        looked = self.looks and self.looks[-1]["epoch"] == self._steps / self._epoch
        if self._every and (brought_back or not looked):
            self._look()
        chosen = self._encoder.copy()
        if self._best:
            chosen.load_state_dict(self._best)
        return Probed(chosen=chosen, last=self._encoder, looks=self.looks)

    def state_dict(self) -> dict[str, Any]:
        """Return the looks so far and the weights of the best."""
        return {"steps": self._steps, "looks": self.looks, "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._steps, self.looks = state_dict["steps"], state_dict["looks"]
        self._best = state_dict["best"]


@dataclass(frozen=True)
class Probed:
    """A pre-trained encoder with its probe curve, as the result of a stage.

    Attributes:
        chosen: the encoder that is given back.
        last: with the weights of the last step.
        looks: rows of the metric with `epoch`; the first is of the untrained encoder. Empty without looks.
    """

    chosen: Any
    last: Any
    looks: list[Look]

    def metrics(self, metric: Metric) -> dict[str, Any]:
        """Return what belongs in the summary: rows of the best and the last look, decay, and the curve."""
        if len(self.looks) < 2:
            return {}
        figures = [look[metric.name] for look in self.looks]
        return {
            "validation, best epoch": best_look(self.looks, metric),
            "validation, last epoch": self.looks[-1],
            "decay": decay(figures[1:], metric),
            "probe curve": {"epochs": [look["epoch"] for look in self.looks], "figures": figures},
        }

    def pictures(self, metric: Metric) -> list[Picture]:
        """Return the curve as a picture; none without looks."""
        return [probe_picture(self.looks, metric)] if len(self.looks) > 1 else []

    def save(self, folder: Path) -> None:
        """Write both encoders and the curve."""
        Parts({"chosen": self.chosen, "last": self.last}, {"looks": self.looks}).save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        found = Parts.load(folder)
        return cls(**found.parts, **found.facts)


def best_look(looks: Sequence[Look], metric: Metric) -> Look:
    """Return the best of the looks after training began, the earliest of equals."""
    pick = min if metric.lower_is_better else max
    return pick(looks[1:], key=lambda look: look[metric.name])


def decay(figures: Sequence[float], metric: Metric) -> float:
    """Return by how much the last of the figures of a training is worse than the best of them, at least 0.

    The best of noisy figures is above their mean, so that a training that does not decay has some too.

    >>> from selfstudy.evaluation.scores import ACCURACY
    >>> round(decay([0.5, 0.8, 0.7], ACCURACY), 3)
    0.1
    """
    signed = [-figure if metric.lower_is_better else figure for figure in figures]
    return max(signed) - signed[-1]


def probe_picture(looks: Sequence[Look], metric: Metric) -> Picture:
    """Return the curve of the looks with their 95 % intervals, and the best marked."""
    epochs, figures = [look["epoch"] for look in looks], [look[metric.name] for look in looks]
    best = best_look(looks, metric)
    lost = decay(figures[1:], metric)
    text = f"{100 * lost:.1f} points" if metric.share else f"{lost:.3g}"
    return picture(
        "What the features are worth during training",
        [
            *band(
                "95 % interval",
                epochs,
                [look["low"] for look in looks],
                [look["high"] for look in looks],
                BAND,
            ),
            line("validation", epochs, figures, mode="lines+markers"),
            points("best", [best["epoch"]], [best[metric.name]], marker={"size": 13, "symbol": "star"}),
        ],
        x="passes over the unlabelled inputs",
        y=metric.name,
        note=f"On {looks[0]['count']:,} validation inputs; pass 0 is the untrained encoder. The last look is "
        f"{text} below the best, at pass {best['epoch']:g}.",
        layout={"yaxis": {"tickformat": ".0%"}} if metric.share else None,
    )
