"""A figure of each training input, told by the class that training did not know."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from selfstudy.data.image_sets import UNKNOWN
from selfstudy.evaluation.pictures import picture, points


def by_class(name: str, figures: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Return `metrics`, the mean of each class, and `pictures`, the means over the sizes of the classes.

    Args:
        name: of the figure, such as "temperatures".
        figures: [N].
        labels: [N], from 0; inputs of unknown label are left out.
        names: of the classes.
    """
    present = np.unique(labels[labels != UNKNOWN])
    rows = [(names[label], figures[labels == label]) for label in present]
    if not rows:
        return {"metrics": {}, "pictures": []}
    sizes = [len(found) for _, found in rows]
    means = [float(found.mean()) for _, found in rows]
    classes = [name for name, _ in rows]
    shown = points(
        "classes",
        sizes,
        means,
        text=[
            escape(group, quote=False) for group in classes
        ],  # a user's folder names reach plotly as markup
        mode="markers+text",
        textposition="top center",
        cliponaxis=False,
    )
    return {
        "metrics": {
            f"{name}, {group} ({size:,} inputs)": mean
            for group, size, mean in zip(classes, sizes, means, strict=True)
        },
        "pictures": [
            picture(
                f"{name.capitalize()} by class",
                [shown],
                x="training inputs of the class",
                y=f"mean of the {name}",
                note="Classes were looked up after the training, which did not know them.",
                layout={"xaxis": {"type": "log"}} if max(sizes) > 3 * min(sizes) else {},
            )
        ],
    }
