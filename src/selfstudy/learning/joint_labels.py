"""Plain arrays in, labels out: queries beside a few labelled items, or clusters without any label.

Nothing is trained; see `selfstudy.learning.transduction` for what is computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import stream_key
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import vectors
from selfstudy.learning.prototypes import distances, reseeded
from selfstudy.learning.transduction import (
    Found,
    Transduction,
    class_means,
    graph_of,
    transduce,
    transformed,
    warn_of,
)


class JointLabels(NamedTuple):
    """What was found."""

    labels: np.ndarray
    """[q], as they were given; of clusters, their numbers."""
    assignments: np.ndarray
    """Z [q, K], how much each item is of each class."""
    prototypes: np.ndarray
    """M [K, d], in the space of the transformed features."""
    classes: np.ndarray
    """[K], the labels that the columns stand for."""
    energies: list[list[float]]
    """The energy after each step, by round."""


def fit_predict(
    support: Any,
    labels: Any,
    queries: Any,
    settings: Transduction | None = None,
    *,
    centre: Any = None,
    extra_clusters: int = 0,
) -> JointLabels:
    """Label queries together, from one labelled item of each class or more.

    >>> queries = [[0.1, 2.0], [3.0, 0.2], [0.2, 1.0], [2.0, 0.1]]
    >>> found = fit_predict([[0.0, 1.0], [1.0, 0.0]], ["up", "right"], queries)
    >>> found.labels.tolist()
    ['up', 'right', 'up', 'right']

    Args:
        support: labelled items [s, d].
        labels: [s], names or whole numbers, of one class or more.
        queries: [q, d]. A single one is of the nearest prototype.
        settings: None are the defaults.
        centre: [d], taken off the features where they are centred: the mean of what the encoder was trained
            on. None is the mean of all items here.
        extra_clusters: clusters that no label stands for. Their items get -1 in place of a whole number, ""
            in place of a name.

    Raises:
        DataError: no labelled item, none to label, another width, or numbers that are not finite.
        UsageError: settings that cannot be right.
    """
    settings = settings or Transduction()
    settings.validate()
    known, asked = _features(support, "The support"), _features(queries, "The queries")
    said = np.asarray(labels)
    if said.shape != (len(known),):
        raise DataError(f"There are {len(known)} labelled items and labels of the shape {said.shape}.")
    if known.shape[1] != asked.shape[1]:
        raise DataError(f"Labelled items have {known.shape[1]} numbers each, queries {asked.shape[1]}.")
    if not 0 <= extra_clusters <= len(asked):
        raise UsageError(f"extra_clusters={extra_clusters} must be from 0 to the {len(asked)} queries.")
    classes, numbers = np.unique(said, return_inverse=True)
    middle = torch.cat([known, asked]).mean(0) if centre is None else torch.as_tensor(centre).float()
    known, asked = (transformed(part, settings.transform, middle) for part in (known, asked))
    targets = functional.one_hot(torch.from_numpy(numbers), len(classes) + extra_clusters).float()
    start = _with_extra(class_means(known, targets), len(classes), asked, settings)
    graph = graph_of(asked, known, settings) if settings.smoothness else None
    found = transduce(known, targets, asked, settings, graph=graph, start=start)
    warn_of(found, settings)
    return _told(found, np.append(classes, [_nothing(classes)] * extra_clusters))


def cluster(items: Any, clusters: int, settings: Transduction | None = None, *, seed: int = 0) -> JointLabels:
    """Return clusters of items without any label: k-means whose near items agree.

    It starts from k-means++ (Arthur and Vassilvitskii 2007). A prototype without items goes to the item that
    is farthest from any. One large set is sparse: a million items fit into memory.

    Args:
        items: [n, d].
        clusters: K, from 1 to n.
        settings: None are the defaults; features are centred and brought to length 1 unless `transform` is
            "none".
        seed: of the start.

    Raises:
        DataError: no items, or numbers that are not finite.
        UsageError: settings that cannot be right, "fixed" prototypes among them.
    """
    from sklearn.cluster import kmeans_plusplus

    settings = settings or Transduction()
    settings.validate()
    features = _features(items, "The items")
    if not 1 <= clusters <= len(features):
        raise UsageError(f"{clusters} clusters cannot be made of {len(features)} items.")
    if settings.prototypes == "fixed" or settings.support_edges:
        raise UsageError("Clusters have no labelled items: prototypes=fixed and support_edges need some.")
    features = transformed(features, settings.transform, features.mean(0))
    drawn = stream_key("k-means++", seed) % 2**32
    first, _ = kmeans_plusplus(features.numpy(), clusters, random_state=drawn)
    start, nobody = torch.from_numpy(first), features[:0]
    graph = graph_of(features, None, settings) if settings.smoothness else None
    found = transduce(nobody, features.new_empty(0, clusters), features, settings, graph=graph, start=start)
    warn_of(found, settings)
    return _told(found, np.arange(clusters))


def _features(items: Any, name: str) -> torch.Tensor:
    return torch.from_numpy(vectors(np.asarray(items), name).values)


def _with_extra(
    means: torch.Tensor, classes: int, queries: torch.Tensor, settings: Transduction
) -> torch.Tensor:
    """Put the prototypes that no label stands for where queries are farthest from all others, one by one."""
    for place in range(classes, len(means)):
        apart = distances(settings.distance, queries, means[:place], settings.bandwidth)
        vacant = torch.arange(place + 1) == place
        means = torch.cat([reseeded(queries, apart, means[: place + 1], vacant), means[place + 1 :]])
    return means


def _nothing(classes: np.ndarray) -> Any:
    return UNKNOWN if classes.dtype.kind in "iub" else ""


def _told(found: Found, classes: np.ndarray) -> JointLabels:
    return JointLabels(
        labels=classes[found.labels.numpy()],
        assignments=found.assignments.numpy(),
        prototypes=found.prototypes.numpy(),
        classes=classes,
        energies=[steps.tolist() for steps in found.energies],
    )
