"""Pictures of labels with distances: what each class costs, and which labels can be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from selfstudy.evaluation.label_distances import LabelCosts
from selfstudy.evaluation.pictures import Picture, line, picture, points
from selfstudy.models.labels.spaces import AnySpace, EmbeddedLabels, LabelTree

MOST = 80  # classes on the axis
DRAWN = 400  # labels on a map
NAMED = 60  # labels of a map, up to which all are named


def costs_by_class(
    rules: Mapping[str, LabelCosts], truth: np.ndarray, names: Sequence[str], observed: np.ndarray
) -> Picture:
    """Return the mean squared distance by true class for each rule; classes with the most items.

    Args:
        rules: how each rule went on the same items.
        truth: [M].
        names: of all labels.
        observed: [K], marked on the axis.
    """
    labels, counts = np.unique(truth, return_counts=True)
    labels = np.sort(labels[np.argsort(-counts, kind="stable")[:MOST]])
    ticks = [f"{names[label]}{' •' if label in set(observed.tolist()) else ''}" for label in labels]
    traces = [
        line(way, ticks, [costs.squared[truth == label].mean() for label in labels], mode="lines+markers")
        for way, costs in rules.items()
    ]
    return picture(
        "What an item costs, by class",
        traces,
        x="true class; • was observed",
        y="mean squared label distance",
        note="Validation items. Below the most probable class is better; below the restricted Bayes rule is "
        "what labels add that were not observed.",
        layout={"xaxis": {"type": "category"}},
    )


def locus_map(
    space: AnySpace, observed: np.ndarray, reached: np.ndarray | None, proposed: Sequence[int]
) -> Picture | None:
    """Return a map of labels: observed, reachable, out of reach, proposed; None with more than `DRAWN`."""
    count = len(space.names)
    if count > DRAWN:
        return None
    places, edges = _laid_out(space)
    known = np.isin(np.arange(count), observed)
    within = known if reached is None else reached
    groups = {
        "observed": (known, "#4477aa"),
        "reachable": (within & ~known, "#228833"),
        "not found out" if reached is None else "out of reach": (~within & ~known, "#bbbbbb"),
    }
    traces = [line("edges", *edges, line={"color": "#cccccc", "width": 1}, showlegend=False)] if edges else []
    mode = "markers+text" if count <= NAMED else "markers"
    for group, (of_group, colour) in groups.items():
        at = np.flatnonzero(of_group)
        names = [space.names[label] for label in at]
        more = {"mode": mode, "text": names, "textposition": "top center", "hoverinfo": "text"}
        if len(at):
            traces.append(
                points(group, places[at, 0], places[at, 1], marker={"size": 10, "color": colour}, **more)
            )
    if proposed:
        at = np.array(proposed)
        ring = {"size": 18, "symbol": "circle-open", "color": "#ee6677", "line": {"width": 3}}
        traces.append(points("label next", places[at, 0], places[at, 1], marker=ring))
    bare = {"showticklabels": False, "zeroline": False, "showgrid": False}
    return picture(
        "Labels within reach",
        traces,
        note="Near labels have a small distance. A reachable label is the best answer for some "
        "probabilities of the observed ones.",
        layout={"xaxis": bare, "yaxis": bare, "showlegend": True},
    )


def _laid_out(space: AnySpace) -> tuple[np.ndarray, tuple[list[float | None], list[float | None]] | None]:
    """Return places [N, 2] of the labels, and the lines between them where they are a tree."""
    if isinstance(space, LabelTree):
        places = _tree_places(space)
        below = np.flatnonzero(space.parents >= 0)
        ends = np.stack([places[below], places[space.parents[below]]], 1)  # [edges, 2 ends, 2 axes]
        xs, ys = ([value for pair in ends[:, :, axis] for value in (*pair.tolist(), None)] for axis in (0, 1))
        return places, (xs, ys)
    if isinstance(space, EmbeddedLabels) and space.vectors.shape[1] == 1:
        return np.stack([space.vectors[:, 0], np.zeros(len(space.names))], 1), None
    return _scaled(space.distances(np.arange(len(space.names)))), None


def _tree_places(tree: LabelTree) -> np.ndarray:
    """Return places with leaves side by side, each node above the middle of what is below it."""
    children: list[list[int]] = [[] for _ in tree.names]
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            children[parent].append(node)
    places, leaves = np.zeros((len(tree.names), 2)), 0
    for depth, level in enumerate(tree.levels):
        places[level, 1] = -depth
    stack, order = [int(tree.levels[0][0])], []
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(reversed(children[node]))
    for node in order:
        if not children[node]:
            places[node, 0] = leaves
            leaves += 1
    for node in reversed(order):
        if children[node]:
            places[node, 0] = places[children[node], 0].mean()
    return places


def _scaled(distances: np.ndarray) -> np.ndarray:
    """Return places [N, 2] by classical multi-dimensional scaling (Torgerson 1952)."""
    squared = distances**2
    inner = -(squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()) / 2
    values, vectors = np.linalg.eigh((inner + inner.T) / 2)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    found = axes * np.sqrt(np.maximum(values[::-1][:2], 0))
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
