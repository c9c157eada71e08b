"""Pictures of models that regress in context, beside gradient descent and the best there is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from selfstudy.evaluation.pictures import Picture, bars, heatmap, line, moving_picture, picture, points

MODEL, DESCENT, CURVED, OTHER = "#0072b2", "#d55e00", "#009e73", "#777777"  # Okabe and Ito
DIVERGING = [[0.0, "#0072b2"], [0.5, "#ffffff"], [1.0, "#d55e00"]]
LOG = {"type": "log"}
SHOWN = 200  # problems of a scatter


def _dashed(colour: str) -> dict[str, Any]:
    return {"line": {"color": colour, "dash": "dash"}}


def prediction_frames(
    title: str, frames: Sequence[tuple[str, Tensor, Tensor]], *, over: str, against: str, note: str
) -> Picture:
    """Return learned against reference predictions, one point a problem, moving over steps or layers.

    Args:
        title: of the picture.
        frames: (label on the slider, reference predictions [B], learned predictions [B]).
        over: what the slider goes over.
        against: name of the reference.
        note: what is to be seen.
    """
    values = np.concatenate([part.numpy() for _, *pair in frames for part in pair])
    # The range of nearly all points, so that a single wild one does not hide the others.
    reach = float(1.2 * np.quantile(np.abs(values), 0.995)) or 1.0
    diagonal = line("equal", [-reach, reach], [-reach, reach], line={"color": OTHER, "dash": "dot"})

    def traces(reference: Tensor, learned: Tensor) -> list[dict[str, Any]]:
        marker = {"color": MODEL, "size": 5, "opacity": 0.6}
        return [
            diagonal,
            points("problems", reference[:SHOWN].numpy(), learned[:SHOWN].numpy(), marker=marker),
        ]

    axis = {"range": [-reach, reach]}
    return moving_picture(
        title,
        [(label, traces(reference, learned)) for label, reference, learned in frames],
        over=over,
        x=against,
        y="the model",
        note=note,
        layout={"xaxis": axis, "yaxis": {**axis, "scaleanchor": "x"}, "showlegend": False},
    )


def training_curve(
    steps: Sequence[int], errors: Sequence[float], levels: Mapping[str, float], note: str
) -> Picture:
    """Return the squared error over training, with the references as level lines."""
    colours = [DESCENT, CURVED, OTHER, "#cc79a7", "#56b4e9", "#e69f00"]
    ends = [steps[0], steps[-1]]
    lines = [
        line(name, ends, [level, level], **_dashed(colours[i % len(colours)]))
        for i, (name, level) in enumerate(levels.items())
    ]
    trained = line("the model", steps, errors, line={"color": MODEL})
    axis = {"type": "log"} if min(errors) > 0 and max(errors) > 10 * min(errors) else {}
    return picture(
        "Squared error over training",
        [trained, *lines],
        x="step",
        y="squared error",
        note=note,
        layout={"yaxis": axis},
    )


def curves(
    title: str,
    x: Sequence[Any],
    by_name: Mapping[str, Sequence[float]],
    *,
    over: str,
    of: str,
    note: str,
    layout: dict[str, Any] | None = None,
) -> Picture:
    """Return one line for each name over `x`, or bars where x is words; the model is drawn full."""
    known = {
        "the model": MODEL,
        "the best layer": DESCENT,
        "the construction": DESCENT,
        "gradient descent": DESCENT,
        "GD++": CURVED,
    }
    others = itertools.cycle(
        [MODEL, DESCENT, CURVED, "#cc79a7"] if not known.keys() & by_name.keys() else [OTHER]
    )
    traces = []
    for name, y in by_name.items():
        colour = known.get(name) or next(others)
        if isinstance(x[0], str):
            traces.append(bars(name, x, y, marker={"color": colour}))
        else:
            style = {} if name == "the model" or colour != known.get(name) else {"dash": "dash"}
            traces.append(line(name, x, y, line={"color": colour, **style}))
    return picture(title, traces, x=over, y=of, note=note, layout=layout)


def matrix_frames(title: str, frames: Sequence[tuple[str, Tensor]], target: Tensor, *, note: str) -> Picture:
    """Return a learned matrix (left), moving over training, beside the one it should become (right)."""
    shown = {"showticklabels": False, "ticks": ""}
    layout: dict[str, Any] = {}
    for place, side, left in (("", "learned", 0.0), ("2", "constructed", 0.52)):
        layout[f"xaxis{place}"] = {
            "domain": [left, left + 0.46],
            "anchor": f"y{place}",
            "title": {"text": side},
            **shown,
        }
        layout[f"yaxis{place}"] = {"anchor": f"x{place}", "autorange": "reversed", **shown}
    reach = max(float(target.abs().max()), float(frames[-1][1].abs().max())) or 1.0
    rows, columns = ([str(i + 1) for i in range(size)] for size in target.shape)

    def shade(matrix: Tensor, place: str) -> dict[str, Any]:
        colours = {"zmin": -reach, "zmax": reach, "colorscale": DIVERGING, "showscale": place == "2"}
        return heatmap(matrix.numpy(), columns, rows, xaxis=f"x{place}", yaxis=f"y{place}", **colours)

    moving = [(label, [shade(learned, ""), shade(target, "2")]) for label, learned in frames]
    return moving_picture(title, moving, over="step", note=note, layout=layout)
