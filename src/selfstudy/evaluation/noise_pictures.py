"""Pictures of suspect labels: losses with the mixture, the way there, and the items to look at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selfstudy.data.image_sets import ImageSet
from selfstudy.data.sample_table import SampleTable
from selfstudy.evaluation.image_rows import image_row, rows_picture
from selfstudy.evaluation.labelling_pictures import DOUBTFUL, table_picture
from selfstudy.evaluation.pictures import Picture, bars, line, picture
from selfstudy.signals.label_noise import CAP, small_loss, unit_range

BINS = 50
ROWS, IN_ROW = 2, 12  # of images


def loss_histogram(losses: np.ndarray) -> Picture:
    """Return how the losses of the given labels [N] lie, with the two Gaussians that were fitted to them."""
    scaled = unit_range(losses, CAP)
    counts, edges = np.histogram(scaled, bins=BINS, range=(0, 1))
    traces = [bars("labels", (edges[1:] + edges[:-1]) / 2, counts)]
    mixture = small_loss(losses).mixture
    if mixture is not None:
        at = np.linspace(0, 1, 200)
        for name, density in zip(("small", "large"), mixture.densities(at), strict=True):
            traces.append(line(f"{name} losses", at, density * len(losses) / BINS))
    note = "Two Gaussians are fitted to the losses; those of the upper one are of labels that do not fit."
    return picture(
        "Losses of the given labels",
        traces,
        x=f"loss, from the least, 0, to the quantile {CAP:g}, 1",
        y="labels",
        note=note if mixture is not None else "The losses are of one group: no label stands out.",
        layout={"bargap": 0.02},
    )


def progress(lines: Sequence[Mapping[str, Any]], labels: int) -> list[Picture]:
    """Return the share of suspect labels over the epochs, and the accuracy on validation items where it is.

    Args:
        lines: of the log, as `run.metrics()` gives them.
        labels: given ones in all.
    """
    looks = [logged for logged in lines if "epoch" in logged]
    traces = []
    for key, name, factor in (
        ("validation_accuracy", "right on held-out items", 1.0),
        ("flagged", "labels taken to be wrong", 1 / labels),
        ("weight_of_guesses", "mean weight of guesses", 1.0),
    ):
        found = [(logged["epoch"], factor * logged[key]) for logged in looks if key in logged]
        if found:
            traces.append(line(name, *zip(*found, strict=True), mode="lines+markers"))
    if not traces:
        return []
    return [picture("Epoch by epoch", traces, x="epoch", y="share", layout={"yaxis": {"range": [0, 1]}})]


def suspect_items(table: SampleTable, shown: Sequence[str], *, count: int = DOUBTFUL) -> Picture:
    """Return a table of the most suspect labels.

    Args:
        table: of N items.
        shown: [N], the items as a line of text.
        count: rows.
    """
    order = np.argsort(-table.suspect, kind="stable")[:count]
    best = table.guesses.argmax(1)
    return table_picture(
        "Most suspect labels",
        ["item", "given label", "guess", "how likely wrong", "item as text"],
        [
            [table.ids[place] for place in order],
            [table.classes[table.given[place]] for place in order],
            [table.classes[best[place]] for place in order],
            [f"{table.suspect[place]:.3f}" for place in order],
            [shown[place] for place in order],
        ],
    )


def suspect_images(table: SampleTable, images: ImageSet) -> Picture:
    """Return the images with the most suspect labels, and those of each label that are least suspect.

    Args:
        table: of N items.
        images: N of them.
    """
    order = np.argsort(-table.suspect, kind="stable")
    worst = order[: min(ROWS * IN_ROW, len(order))]
    rows = [worst[start : start + IN_ROW] for start in range(0, len(worst), IN_ROW)]
    rows = [row for row in rows if len(row) == len(rows[0])]
    named = "; ".join(
        ", ".join(table.classes[table.given[place]].replace("<", "&lt;") for place in row) for row in rows
    )
    return rows_picture(
        "Images with the most suspect labels",
        [image_row(images.images[row]) for row in rows],
        note=f"Their given labels, row by row: {named}.",
    )
