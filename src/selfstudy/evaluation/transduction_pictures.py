"""Pictures of items labelled together: the energy, the choice of settings, and a map of the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from selfstudy.data.image_sets import UNKNOWN
from selfstudy.evaluation.embedding_map import COLOURS, SHOWN, flat
from selfstudy.evaluation.pictures import Picture, Trace, bars, heatmap, line, picture, points


def energy_picture(energies: Sequence[Sequence[float]]) -> Picture:
    """Return the energy step by step, a line a round."""
    traces, step = [], 0
    for number, steps in enumerate(energies):
        colour = COLOURS[number % 2]
        marks = {"mode": "lines+markers", "marker": {"size": 4, "color": colour}, "showlegend": False}
        traces.append(line(f"round {number + 1}", range(step, step + len(steps)), steps, **marks))
        step += len(steps)
    return picture(
        "Energy",
        traces,
        x="step",
        y="energy",
        note="Each line is one round with prototypes that stay: the bound optimiser lowers the energy. Then "
        "the prototypes move, and the next round starts from the distances to them.",
    )


def ways_picture(accuracies: Mapping[str, float]) -> Picture:
    """Return the accuracy of each way of labelling on validation items."""
    return picture(
        "Ways of labelling",
        [bars("accuracy", accuracies, accuracies.values())],
        y="accuracy on validation items",
        note="The nearest mean of the labelled items; that with near items agreeing; prototypes moved to "
        "where their items are (k-means); and both.",
    )


def grid_picture(smoothness: Sequence[float], sharpness: Sequence[float], right: np.ndarray) -> Picture:
    """Return how often held-out labels were found [sharpness, smoothness]."""
    return picture(
        "Choice of settings",
        [heatmap(right, [f"{one:g}" for one in smoothness], [f"{one:g}" for one in sharpness])],
        x="smoothness",
        y="sharpness",
        note="Half of the given labels were held out, several times: how often they were found.",
    )


def label_map(
    features: np.ndarray, labels: np.ndarray, given: np.ndarray, names: Sequence[str], chosen: np.ndarray
) -> Picture:
    """Return a map of items by their features (t-SNE), coloured by the label that was found.

    Args:
        features: [N, d].
        labels: [N], found.
        given: [N], `UNKNOWN` where none was given.
        names: of the classes.
        chosen: places of the items that are drawn, at most `SHOWN`.
    """
    chosen = chosen[:SHOWN]
    places, found, said = flat(features[chosen]), labels[chosen], given[chosen]
    traces: list[Trace] = []
    for label in np.unique(found):
        colour = COLOURS[int(label) % len(COLOURS)]
        sizes = np.where(said[found == label] == UNKNOWN, 6, 14).tolist()
        signs = np.where(said[found == label] == UNKNOWN, "circle", "star").tolist()
        marker = {"color": colour, "size": sizes, "symbol": signs, "opacity": 0.8, "line": {"width": 0.5}}
        traces.append(points(names[label], *places[found == label].T, marker=marker))
    bare = {"range": [-1.08, 1.08], "showticklabels": False, "zeroline": False, "showgrid": False}
    return picture(
        "Map of the pool",
        traces,
        note="Stars are the labelled items; the others have the colour of the label that was found. Near "
        "points have like features (t-SNE).",
        layout={"xaxis": bare, "yaxis": bare},
    )
