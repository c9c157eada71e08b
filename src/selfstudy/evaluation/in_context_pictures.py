"""Pictures of a sequence model that learns to learn: curves by position, the plateau, the transition map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfstudy.evaluation.in_context_curves import UNDER, learned, smoothed
from selfstudy.evaluation.pictures import Picture, heatmap, line, moving_picture, picture, points
from selfstudy.learning.meta_training import Trace

WIDTH = 20  # steps over which drawn losses are smoothed
UNIT = {"range": [0, 1], "tickformat": ".0%"}
DOTTED = {"dash": "dot"}
SCALE = [[0, "#f4f6fa"], [1, "#1f4e9c"]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One trained model of the transition map."""

    tasks: int
    """T, the number of tasks it was trained on."""
    width: int
    """Of the model."""
    state: int
    """Numbers it carries from the past to the present."""
    seen: list[float]
    """Accuracy by position on tasks and images trained on."""
    new: list[float]
    """The same on new tasks and images."""
    phase: str
    """What it has become."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Examples as one task shows them."""

    task: str
    """A name for it."""
    images: np.ndarray
    """[n, h, w]."""
    labels: list[int]
    """The n labels it gives them."""


def in_context_pictures(
    trace: Trace,
    rows: Sequence[dict[str, Any]],
    cells: Sequence[Cell],
    shown: Sequence[Shown],
    *,
    classes: int,
    left: int | None,
) -> list[Picture]:
    """Return the pictures of a fit.

    Args:
        trace: of the training.
        rows: accuracies by position, as made by `selfstudy.tasks.projected_figures.figures`.
        cells: the transition map; none draws none.
        shown: the same images under several tasks; none draws none.
        classes: C.
        left: the step at which the plateau was left; None if it was not.
    """
    drawn = [_map(cells, classes), _by_tasks(cells)] if cells else []
    drawn += [_curves(rows, classes), _training(trace, classes), _plateau(trace, classes, left)]
    return [*drawn, _examples(shown)] if shown else drawn


def _map(cells: Sequence[Cell], classes: int) -> Picture:
    widths, tasks = sorted({cell.width for cell in cells}), sorted({cell.tasks for cell in cells})
    at = {(cell.width, cell.tasks): cell for cell in cells}
    grid = [[at[width, count] for count in tasks] for width in widths]
    names = [f"{count:,}" for count in tasks], [str(width) for width in widths]
    most = 1 - 1 / classes
    shared: dict[str, Any] = {"colorscale": SCALE, "zmin": 0, "zmax": most, "texttemplate": "%{text}"}
    frames = []
    for word, figure in (
        ("learned in context on new tasks", lambda cell: learned(cell.new)),
        ("learned in context on seen tasks", lambda cell: learned(cell.seen)),
        ("known at once on seen tasks", lambda cell: cell.seen[0] - 1 / classes),
    ):
        points_of = [[max(figure(cell), 0.0) for cell in row] for row in grid]
        text = [[f"{cell.phase}<br>{100 * figure(cell):+.0f} points" for cell in row] for row in grid]
        bar = {"title": {"text": "accuracy"}, "tickformat": ".0%"}
        frames.append((word, [heatmap(points_of, *names, text=text, colorbar=bar, **shared)]))
    return moving_picture(
        "From memorising to learning",
        frames,
        over="what is shown",
        x="number of tasks T",
        y="width of the model",
        note="Each field is a model trained on T tasks. Few tasks are memorised: their labels are known at "
        "once. Many are not, and the model learns from its context, also on tasks that it has never seen.",
        layout={"xaxis": {"type": "category"}, "yaxis": {"type": "category"}},
        milliseconds=1500,
    )


def _by_tasks(cells: Sequence[Cell]) -> Picture:
    """Curves of the widest models, one frame for each number of tasks."""
    widest = max(cell.width for cell in cells)
    chosen = sorted((cell for cell in cells if cell.width == widest), key=lambda cell: cell.tasks)
    frames = [
        (f"{cell.tasks:,}", [_line("seen tasks", cell.seen), _line("new tasks", cell.new)]) for cell in chosen
    ]
    return moving_picture(
        f"Accuracy by position, by number of tasks (width {widest})",
        frames,
        over="number of tasks T",
        x="position in the sequence",
        y="accuracy",
        layout={"yaxis": UNIT},
        milliseconds=1200,
    )


def _curves(rows: Sequence[dict[str, Any]], classes: int) -> Picture:
    """One frame for each kind of sequences that the baselines were tried on, the model's seen ones in all."""
    kinds = list(dict.fromkeys(row["on"] for row in rows if row["by"]))
    own = [row for row in rows if not row["by"] and row["on"] not in kinds]
    frames = []
    for kind in kinds:
        model = [row for row in rows if row["on"] == kind and not row["by"]]
        others = [row for row in rows if row["on"] == kind and row["by"]]
        traces = [_line("this model", model[0]["curve"], line={"width": 3})]
        traces += [_line(row["by"], row["curve"], row["first"], line=DOTTED) for row in others[:-1]]
        regression = others[-1]
        traces.append(points(regression["by"], [regression["first"]], regression["curve"]))
        traces += [_line(row["on"], row["curve"], line={"width": 1}) for row in own]
        traces.append(_chance(classes, len(model[0]["curve"])))
        frames.append((kind, traces))
    return moving_picture(
        "Accuracy by position",
        frames,
        over="sequences of",
        x="position in the sequence",
        y="accuracy",
        note="At position j the model has seen j - 1 labelled examples. Dotted: learners that start anew on "
        "the same projected examples. Thin: the model on what it was trained on.",
        layout={"yaxis": UNIT},
        milliseconds=1500,
    )


def _training(trace: Trace, classes: int) -> Picture:
    frames = [
        (
            str(look["step"]),
            [
                _line("seen tasks and images", look["seen"]),
                _line("new tasks and images", look["new"]),
                _chance(classes, len(look["new"])),
            ],
        )
        for look in trace.looks
    ]
    return moving_picture(
        "Accuracy by position during training",
        frames,
        over="step",
        x="position in the sequence",
        y="accuracy",
        layout={"yaxis": UNIT},
        milliseconds=300,
    )


def _plateau(trace: Trace, classes: int, left: int | None) -> Picture:
    steps = range(len(trace.losses))
    chance = math.log(classes)
    ends = [0, max(len(trace.losses) - 1, 1)]
    traces = [
        line("training", steps, smoothed(trace.losses, WIDTH)),
        line("new tasks", [look["step"] for look in trace.looks], [look["loss"] for look in trace.looks]),
        line("log C: nothing known", ends, [chance, chance], line=DOTTED),
        line("10 % below", ends, [(1 - UNDER) * chance] * 2, line=DOTTED),
    ]
    if left is not None:
        traces.append(
            points(f"plateau left at step {left}", [left], [(1 - UNDER) * chance], marker={"size": 10})
        )
    return picture(
        "The plateau",
        traces,
        x="step",
        y="cross-entropy (nats)",
        note=f"Training losses are means over {WIDTH} steps. "
        + ("The plateau was not left." if left is None else f"The plateau was left at step {left}."),
    )


def _examples(shown: Sequence[Shown]) -> Picture:
    """The images of a task side by side, in rows of their own from the top."""
    frames = []
    for task in shown:
        padded = np.pad(task.images, ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)
        grid = np.concatenate(list(padded), axis=1)[:, :-1]
        z = [[None if np.isnan(value) else round(float(value), 2) for value in row] for row in grid]
        trace = heatmap(z, range(grid.shape[1]), range(grid.shape[0]), colorscale="Greys", showscale=False)
        frames.append((f"{task.task}: labels {', '.join(map(str, task.labels))}", [trace]))
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False}
    return moving_picture(
        "The same images in different tasks",
        frames,
        over="task",
        note="What the model sees of the first example of each class, and the labels it is told.",
        layout={"xaxis": bare, "yaxis": {**bare, "autorange": "reversed", "scaleanchor": "x"}},
        milliseconds=1500,
    )


def _line(name: str, curve: Sequence[float], first: int = 1, **more: Any) -> dict[str, Any]:
    return line(name, range(first, first + len(curve)), curve, **more)


def _chance(classes: int, length: int) -> dict[str, Any]:
    return line("chance", [1, length], [1 / classes] * 2, line={**DOTTED, "width": 1})
