"""Pictures of a classifier that knows transformations: how its ways of telling compare, and what it sees."""

from __future__ import annotations

from typing import Any

import torch

from selfstudy.evaluation.pictures import Picture, heatmap, picture, points
from selfstudy.evaluation.scores import Metric
from selfstudy.models.encoders.classifier import JOINT, TRANSFORMATION, ImageClassifier

SCALE = [[0.0, "#f4f6fa"], [1.0, "#5b8bd0"]]  # light enough for dark text on all of it


def mode_picture(metric: Metric, rows: dict[str, dict[str, Any]]) -> Picture:
    """Return the figure of each way of telling classes, with its interval.

    Args:
        metric: what the rows measure.
        rows: made by `metric.row`, by name.
    """
    figures = [row[metric.name] for row in rows.values()]
    error = {
        "type": "data",
        "symmetric": False,
        "array": [row["high"] - row[metric.name] for row in rows.values()],
        "arrayminus": [row[metric.name] - row["low"] for row in rows.values()],
    }
    return picture(
        "Ways of telling the class",
        [points(metric.name, rows, figures, error_y=error, marker={"size": 11})],
        y=metric.name,
        note="On validation images, with 95 % intervals. The images are the same each time, so that small "
        "differences can mean something although the intervals overlap.",
        layout={"xaxis": {"type": "category"}},
    )


def transformations_told(classifier: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
    """Return how often each transformation is told right, by the class that is told: [C, M], NaN for none.

    Args:
        classifier: with a joint head or a head of transformations.
        images: [N, C, H, W], 0 to 1; their labels are not needed.
    """
    count, classes = len(classifier.transformed), len(classifier.classes)
    right = torch.zeros(classes, count)
    seen = torch.zeros(classes, 1)
    for part in images.split(256):
        told = classifier.classify(part, "single")
        scores = classifier.outputs(classifier.transformed.copies(part), JOINT, TRANSFORMATION)
        which = scores.view(len(part), count, -1, count).logsumexp(2).argmax(2)  # [B, M]
        right.index_add_(0, told, (which == torch.arange(count)).float())
        seen.index_add_(0, told, torch.ones(len(part), 1))
    return right / seen.where(seen > 0, torch.nan)


def told_picture(classifier: ImageClassifier, images: torch.Tensor) -> Picture:
    """Return the map of `transformations_told`."""
    shares = transformations_told(classifier, images).numpy()
    return picture(
        "Transformations told right",
        [
            heatmap(
                shares,
                classifier.transformed.names,
                classifier.classes,
                zmin=0,
                zmax=1,
                colorscale=SCALE,
                texttemplate="%{z:.0%}",
            )
        ],
        x="transformation",
        y="class that is told",
        note=f"On {len(images):,} images without labels. Where a class looks the same transformed, its "
        "transformation cannot be told, and joint labels have nothing to teach there.",
    )
