"""What clusters of features say of classes: k-means against labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from selfstudy.core.random import stream_key

RESTARTS = 10


class Agreement(NamedTuple):
    """Of clusters with classes; 1 where they are the same."""

    nmi: float
    """Normalised mutual information, from 0."""
    ari: float
    """Adjusted Rand index, 0 for clusters drawn at random."""


def clusters(features: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """Return the cluster [N] of each of N inputs by k-means, the best of 10 starts.

    Args:
        features: [N, d].
        count: of clusters; at most N are made.
        seed: names the starts.
    """
    from sklearn.cluster import KMeans

    start = stream_key("k-means", seed) % 2**32
    return KMeans(min(count, len(features)), n_init=RESTARTS, random_state=start).fit_predict(features)


def agreement(labels: np.ndarray, found: np.ndarray) -> Agreement:
    """Return how well clusters [N] agree with the classes [N].

    >>> agreement(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    Agreement(nmi=1.0, ari=1.0)
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return Agreement(
        float(normalized_mutual_info_score(labels, found)), float(adjusted_rand_score(labels, found))
    )


def matched_accuracy(labels: np.ndarray, found: np.ndarray) -> float:
    """Return the share of items whose cluster is their class, under the best pairing of the two.

    Clusters have no names, so that they are paired one to one with the classes (Kuhn 1955, the Hungarian
    method). Where labels were given to learn from, count hits directly instead: a pairing can only flatter.

    >>> matched_accuracy(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]))
    0.75

    Args:
        labels: [N], classes.
        found: [N], clusters.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(labels, found)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))
