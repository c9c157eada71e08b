"""Pictures of a pruned set: what the kept part is worth, what is in it, and how its ends look."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from selfstudy.data.image_sets import ImageSet
from selfstudy.data.pruned import PrunedTable
from selfstudy.evaluation.pictures import Picture, bars, heatmap, line, picture, points
from selfstudy.evaluation.scores import Metric

SHOWN = 12  # images of each end
EDGE = 1  # pixels of white around each
BINS = 40  # of scores
GREYS = [[0.0, "#000000"], [1.0, "#ffffff"]]
_ROW = re.compile(r"validation, (.*), (\S+) kept")


def pruning_pictures(
    table: PrunedTable, images: ImageSet, rows: dict[str, dict[str, Any]], metric: Metric, *, ranked: bool
) -> list[Picture]:
    """Return all pictures that there is something to see in.

    Args:
        table: of the scores.
        images: that were pruned, in the table's order.
        rows: results by "validation, NAME, FRACTION kept", made by `metric.row`.
        metric: of the rows.
        ranked: whether scores are more than chance.
    """
    found = [accuracy_picture(rows, metric)] if any(_ROW.match(name) for name in rows) else []
    found.append(classes_picture(table))
    return [*found, scores_picture(table), ends_picture(table, images)] if ranked else found


def accuracy_picture(rows: dict[str, dict[str, Any]], metric: Metric) -> Picture:
    """Return the figure of each student over the fraction that it was trained on, the teacher as a level."""
    curves: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for name, row in rows.items():
        if told := _ROW.match(name):
            curves.setdefault(told[1], []).append((float(told[2]), row))
    traces = []
    for name, found in curves.items():
        fractions = [fraction for fraction, _ in found]
        error = {
            "type": "data",
            "symmetric": False,
            "array": [row["high"] - row[metric.name] for _, row in found],
            "arrayminus": [row[metric.name] - row["low"] for _, row in found],
        }
        values = [row[metric.name] for _, row in found]
        made = line(name, fractions, values) if len(found) > 1 else points(name, fractions, values)
        traces.append({**made, "mode": "lines+markers", "error_y": error})
    teacher = rows.get("validation, teacher")
    if teacher:
        ends = [fraction for found in curves.values() for fraction, _ in found]
        level = [teacher[metric.name]] * 2
        traces.append(line("teacher", [min(ends), 1.0], level, line={"dash": "dot"}))
    ticks = sorted({1.0, *(fraction for found in curves.values() for fraction, _ in found)})
    return picture(
        "What a part of the images is worth",
        traces,
        x="fraction kept",
        y=metric.name,
        note="On validation images, with 95 % intervals. Students of one fraction saw the same images in the "
        "same order. The teacher saw all of them; its training comes on top, once for all students.",
        layout={"xaxis": {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:.3g}" for tick in ticks]}},
    )


def classes_picture(table: PrunedTable) -> Picture:
    """Return how many images of each class are kept, and pruned."""
    counts = [
        np.bincount(table.labels[chosen], minlength=len(table.classes))
        for chosen in (table.kept, ~table.kept)
    ]
    return picture(
        "Kept by class",
        [
            bars(name, table.classes, count)
            for name, count in zip(("kept", "pruned"), counts, strict=True)
        ],
        y="images",
        note=f"{int(table.kept.sum()):,} of {len(table.kept):,} images are kept.",
        layout={"barmode": "stack", "xaxis": {"type": "category"}},
    )  # fmt: skip


def scores_picture(table: PrunedTable) -> Picture:
    """Return how scores are spread among kept and pruned images; infinite ones are left out."""
    finite = np.isfinite(table.scores)
    edges = np.histogram_bin_edges(table.scores[finite], BINS) if finite.any() else np.arange(2.0)
    middles = (edges[1:] + edges[:-1]) / 2
    traces = [
        bars(name, middles, np.histogram(table.scores[finite & chosen], edges)[0])
        for name, chosen in (("kept", table.kept), ("pruned", ~table.kept))
    ]
    never = int((~finite).sum())
    return picture(
        "Scores",
        traces,
        x="score",
        y="images",
        note="The largest are kept, class by class where pruning is stratified."
        + (f" {never:,} images of infinite score are not drawn." if never else ""),
        layout={"barmode": "stack"},
    )


def ends_picture(table: PrunedTable, images: ImageSet) -> Picture:
    """Return the images with the largest scores, in the upper row, and with the smallest, in the lower."""
    order = np.argsort(-table.scores, kind="stable")
    count = min(SHOWN, len(order))
    side = images.shape[1] + 2 * EDGE
    wall = np.ones((2 * side, count * side))
    for row, ends in enumerate((order[:count], order[-count:])):
        for place, pixels in enumerate(images.pixels(ends).mean(1).numpy()):
            top, left = row * side + EDGE, place * side + EDGE
            wall[top : top + len(pixels), left : left + len(pixels)] = pixels
    wall = wall[::-1]
    return picture(
        "The ends of the order",
        [heatmap(wall, range(wall.shape[1]), range(wall.shape[0]), colorscale=GREYS, showscale=False)],
        note="Above the images with the largest scores, which are kept first; below those with the smallest. "
        "Where the upper ones are odd or wrongly labelled, this order serves a small fraction badly.",
        layout={
            "xaxis": {"visible": False},
            "yaxis": {"visible": False, "scaleanchor": "x"},
            "height": 320,
        },
    )
