"""Pictures of labelling: the learning curve, and the items that are most doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selfstudy.data.label_table import PREDICTED, PSEUDO, LabelTable
from selfstudy.evaluation.pictures import Picture, line, picture

DOUBTFUL = 20  # items shown
ROW = 28  # pixels of a row of a table


def learning_curve(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, note: str = ""
) -> Picture:
    """Return accuracy over the number of labels that were asked for.

    Args:
        curves: numbers of labels and accuracies, by name.
        note: what is to be seen.
    """
    traces = [line(name, x, y, mode="lines+markers") for name, (x, y) in curves.items()]
    return picture("Learning curve", traces, x="labels", y="accuracy on held-out items", note=note)


def doubtful_items(table: LabelTable, *, count: int = DOUBTFUL) -> Picture:
    """Return a table of the items whose label is the least sure: suspect given ones, and the model's own."""
    if table.suspect is not None:
        order = np.argsort(-table.suspect, kind="stable")[:count]
        heads, doubt = "how likely wrong", table.suspect
    else:
        own = np.array([source in (PSEUDO, PREDICTED) for source in table.sources])
        order = np.argsort(np.where(own, table.confidence, np.inf), kind="stable")[
            : min(count, int(own.sum()))
        ]
        heads, doubt = "confidence", table.confidence
    return table_picture(
        "Most doubtful items",
        ["item", "label", heads, "source", "text"],
        [
            [table.ids[place] for place in order],
            [table.names()[place] for place in order],
            [f"{doubt[place]:.2f}" for place in order],
            [table.sources[place] for place in order],
            [table.shown[place] for place in order],
        ],
    )


def table_picture(title: str, heads: Sequence[str], columns: Sequence[Sequence[Any]]) -> Picture:
    """Return a table of text; `columns` has the cells of each column."""
    escaped = [[_text(cell) for cell in column] for column in columns]
    trace = {
        "type": "table",
        "header": {"values": list(heads), "align": "left", "height": ROW},
        "cells": {"values": escaped, "align": "left", "height": ROW},
        "columnwidth": [1] * (len(heads) - 1) + [4],
    }
    margin = {"t": 10, "b": 10, "l": 10, "r": 10}
    rows = 1.5 * len(columns[0]) + 2  # long texts take two lines
    return picture(title, [trace], layout={"height": round(ROW * rows), "margin": margin})


def _text(cell: Any) -> str:
    return str(cell).replace("&", "&amp;").replace("<", "&lt;")
