"""Plain arrays in, labels out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from selfstudy.core.errors import DataError, UsageError
from selfstudy.evaluation.clustering import matched_accuracy
from selfstudy.learning.joint_labels import cluster, fit_predict
from selfstudy.learning.transduction import Transduction

PLAIN = Transduction(transform="none", smoothness=0.0, sharpness=1e5)


def blobs(count: int, of: int, *, spread: float = 0.3, key: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(key)
    labels = np.arange(count * of) % count
    centres = 3 * rng.normal(size=(count, 4))
    return (centres[labels] + spread * rng.normal(size=(len(labels), 4))).astype(np.float32), labels


@pytest.mark.parametrize("names", [np.array(["ash", "beech", "elm"]), np.array([40, -7, 1000])])
def test_labels_come_back_as_they_were_given(names: np.ndarray) -> None:
    """Oracle: blobs far apart; names and numbers that are not from 0 on."""
    items, labels = blobs(3, 20)
    found = fit_predict(items[:3], names[labels[:3]], items[3:])
    assert (found.labels == names[labels[3:]]).all()
    assert found.classes.tolist() == sorted(names.tolist())
    assert found.assignments.shape == (57, 3) and found.prototypes.shape == (3, 4)
    np.testing.assert_allclose(found.assignments.sum(1), 1, rtol=1e-5)
    assert all(np.isfinite(steps).all() for steps in found.energies)


def test_one_query_is_of_the_nearest_prototype() -> None:
    """Oracle: cosine to the mean of each class, after the centre is taken off; no warning."""
    items, labels = blobs(3, 3, spread=2.0)
    centre = items.mean(0)
    for place in range(3, 9):
        found = fit_predict(items[:3], labels[:3], items[place : place + 1], centre=centre)
        away = items - centre
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        assert found.labels[0] == ((away[:3] - away[place]) ** 2).sum(1).argmin()


def test_one_class_is_trivial() -> None:
    """Oracle: there is nothing else to say."""
    items, _ = blobs(2, 5)
    found = fit_predict(items[:1], ["all"], items[1:])
    assert set(found.labels) == {"all"} and (found.assignments == 1).all()


def test_equal_queries_get_equal_labels() -> None:
    """Oracle: copies of one item beside one another."""
    items, labels = blobs(2, 10)
    found = fit_predict(items[:2], labels[:2], np.repeat(items[2:], 4, axis=0))
    assert (found.labels.reshape(-1, 4) == labels[2:, None]).all()


@pytest.mark.parametrize("nothing", [-1, ""])
def test_a_class_without_a_label_is_a_free_cluster(nothing: Any) -> None:
    """Oracle: three blobs of which two have labels: the third is told apart, and has no name."""
    items, labels = blobs(3, 20)
    names = np.array(["a", "b", ""]) if nothing == "" else np.array([5, 6, -1])
    found = fit_predict(items[:2], names[labels[:2]], items[2:], PLAIN, extra_clusters=1)
    assert (found.labels == names[labels[2:]]).all()


def test_clusters_without_labels_are_k_means() -> None:
    """Oracle: scikit-learn's k-means from the same blobs: the same partition and means."""
    items, labels = blobs(4, 30)
    found = cluster(items, 4, PLAIN, seed=3)
    peer = KMeans(4, n_init=10, random_state=0).fit(items)
    assert matched_accuracy(peer.labels_, found.labels) == 1.0 == matched_accuracy(labels, found.labels)
    order = np.lexsort(found.prototypes.T), np.lexsort(peer.cluster_centers_.T)
    np.testing.assert_allclose(found.prototypes[order[0]], peer.cluster_centers_[order[1]], atol=1e-4)
    assert (cluster(items, 4, PLAIN, seed=3).labels == found.labels).all()


def test_smoothness_makes_near_items_agree() -> None:
    """Oracle: how many edges of the graph of nearest neighbours join two clusters: fewer with smoothness."""
    items, _ = blobs(5, 40, spread=2.5)

    def cut(smoothness: float) -> int:
        found = cluster(items, 5, Transduction(smoothness=smoothness)).labels
        away = items - items.mean(0)
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        apart = ((away[:, None] - away) ** 2).sum(2)
        np.fill_diagonal(apart, np.inf)
        near = apart.argsort(1)[:, :3]
        return int((found[near] != found[:, None]).sum())

    assert cut(2.0) < cut(0.0)


def test_a_cluster_that_lost_its_items_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a start with one prototype far from everything: it goes to the farthest items, a blob alone."""
    items, labels = blobs(3, 20)
    start = np.stack([items[labels == 0][0], items[labels == 1][0], np.full(4, 1e3)]).astype(np.float32)
    monkeypatch.setattr("sklearn.cluster.kmeans_plusplus", lambda *given, **options: (start, None))
    assert matched_accuracy(labels, cluster(items, 3, PLAIN).labels) == 1.0


def test_what_is_refused() -> None:
    """Oracle: each is named, before anything is computed."""
    items, labels = blobs(2, 6)
    known, said, asked = items[:2], labels[:2], items[2:]
    broken = asked.copy()
    broken[3, 1] = np.nan
    with pytest.raises(DataError, match="1 of the 10 features of The queries are not finite numbers: rows 3"):
        fit_predict(known, said, broken)
    with pytest.raises(DataError, match="labels of the shape"):
        fit_predict(known, labels[:3], asked)
    with pytest.raises(DataError, match="4 numbers each, queries 3"):
        fit_predict(known, said, asked[:, :3])
    with pytest.raises(DataError, match=r"The queries has the shape \(0, 4\)"):
        fit_predict(known, said, asked[:0])
    with pytest.raises(DataError, match=r"The support has the shape \(0, 4\)"):
        fit_predict(known[:0], said[:0], asked)
    with pytest.raises(UsageError, match="smoothness"):
        fit_predict(known, said, asked, Transduction(smoothness=-1.0))
    with pytest.raises(UsageError, match="extra_clusters=11"):
        fit_predict(known, said, asked, extra_clusters=11)
    with pytest.raises(UsageError, match="13 clusters cannot be made of 12"):
        cluster(items, 13)
    for settings in (Transduction(prototypes="fixed"), Transduction(support_edges=True)):
        with pytest.raises(UsageError, match="need some"):
            cluster(items, 2, settings)


def test_few_queries_and_items_without_direction_are_named() -> None:
    """Oracle: the warnings: three queries have two others each; an item at the centre has length 0."""
    items, labels = blobs(2, 6)
    with pytest.warns(UserWarning, match="3 items have 2 neighbours"):
        fit_predict(items[:2], labels[:2], items[2:5])
    items[7] = items[5]
    with pytest.warns(UserWarning, match="1 items have a feature of length 0"):
        fit_predict(items[:2], labels[:2], items[2:6], Transduction(neighbours=1), centre=items[5])
