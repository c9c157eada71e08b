"""Tasks of graphs: what is held out, what is reachable, and how embeddings are judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.graph_splits import hold_out_edges, node_splits
from selfstudy.data.graphs import UNKNOWN, planted_blocks
from selfstudy.evaluation.statistics import auc
from selfstudy.models.encoders.graphs import GraphEncoder
from selfstudy.tasks.graphs import GraphTask

BLOCKS = "blocks?nodes=200&inside=0.2&outside=0.02"


class Fixed:
    """Embeddings that are given."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = torch.from_numpy(values.astype(np.float32))

    def embed_graph(self, graph: object) -> torch.Tensor:
        return self.values


def test_nodes_are_split_10_10_80_by_draw() -> None:
    """Oracle: sizes, no node twice, unknown ones nowhere, every class among the train nodes."""
    labels = np.array([0] * 150 + [1] * 48 + [2] * 2 + [UNKNOWN] * 10)
    splits = node_splits(labels, 0)
    assert {split: len(at) for split, at in splits.items()} == {"train": 20, "validation": 20, "test": 160}
    assert sorted(np.concatenate(list(splits.values()))) == list(range(200))
    assert set(labels[splits["train"]]) == {0, 1, 2}
    assert not np.array_equal(splits["test"], node_splits(labels, 1)["test"])
    with pytest.raises(DataError, match=r"9 nodes of 2 classes have labels. Give at least 10"):
        node_splits(np.array([0] * 8 + [1]), 0)


def test_labels_are_out_of_reach() -> None:
    """Oracle: the graph that a method sees has none, and the labelled nodes are a tenth."""
    task = selfstudy.task(BLOCKS)
    assert set(task.train.labels) == {UNKNOWN} and task.train.classes == ()
    assert len(task.labelled.places) == 20 and len(task.validation) == 20 and len(task.test) == 160
    assert selfstudy.task(task.name).train.edges.tolist() == task.train.edges.tolist()


def test_a_probe_of_the_labels_themselves() -> None:
    """Oracle: one-hot labels are told without an error, noise as chance is."""
    graph = planted_blocks(nodes=200)
    task = GraphTask("blocks", graph)
    assert set(task.evaluate(Fixed(np.eye(4)[graph.labels])).values) == {1.0}
    noise = np.random.default_rng(0).normal(size=(200, 4))
    assert abs(np.mean(task.evaluate(Fixed(noise)).values) - 0.25) < 0.12
    assert task.clustering(torch.eye(4)[graph.labels])["nmi"] == pytest.approx(1.0)
    assert len(task.evaluate(Fixed(noise), split="validation", limit=7).values) == 7
    with pytest.raises(UsageError, match="no split 'train'"):
        task.evaluate(Fixed(noise), split="train")


def test_a_classifier_is_taken_at_its_word() -> None:
    """Oracle: a classifier that says class 0 of all nodes is right where it is."""

    class Zero:
        def classify(self, graph: object) -> torch.Tensor:
            return torch.zeros(200, dtype=torch.long)

    task = GraphTask("blocks", planted_blocks(nodes=200))
    assert abs(np.mean(task.evaluate(Zero()).values) - 0.25) < 0.06


def test_held_out_edges_are_gone_and_pairs_are_none() -> None:
    """Oracle: sets of edges; shares of 5 and 10 %."""
    graph = planted_blocks(nodes=100, relations=2)
    kept, held = hold_out_edges(graph, 0)
    for before, after in zip(graph.relations, kept.relations, strict=True):
        assert after.shape[1] == before.shape[1] - sum(round(s * before.shape[1]) for s in (0.05, 0.1))
    every = {tuple(pair) for edges in graph.relations for pair in edges.T.tolist()}
    for edges, others in held.values():
        assert {tuple(pair) for pair in edges.T.tolist()} <= every
        assert not {tuple(pair) for pair in others.T.tolist()} & every
        assert edges.shape == others.shape and (others[0] < others[1]).all()
    few = graph.with_relations([graph.edges[:, :10]])
    with pytest.raises(DataError, match=r"a relation of 10 edges. To hold some out it takes 20"):
        hold_out_edges(few, 0)
    full = graph.with_relations([np.stack(np.triu_indices(100, 1))])
    with pytest.raises(DataError, match="Nearly all pairs"):
        hold_out_edges(full, 0)


def test_without_labels_edges_judge() -> None:
    """Oracle: scikit-learn's area under the curve of the cosines; equal embeddings are worth one half."""
    graph = replace(planted_blocks(nodes=150), labels=np.full(150, UNKNOWN), classes=())
    task = GraphTask("unlabelled", graph)
    values = np.random.default_rng(0).normal(size=(150, 3)) + 2 * np.eye(4, 3)[np.arange(150) % 4]
    found = task.evaluate(Fixed(values))
    assert task.metric.name == "AUC of held-out edges" and len(found.values) == len(task.test)
    edges, others = task._held["test"]
    centred = values - values.mean(0)
    unit = (centred / np.linalg.norm(centred, axis=1, keepdims=True)).astype(np.float32)
    scores = [(unit[u] * unit[v]).sum() for pairs in (edges, others) for u, v in pairs.T]
    expected = auc(scores, [True] * edges.shape[1] + [False] * others.shape[1])
    assert np.mean(found.values) == pytest.approx(expected, abs=1e-4)
    assert set(task.evaluate(Fixed(np.ones((150, 3)))).values) == {0.5}


def test_before_and_after_are_looked_at() -> None:
    """Oracle: the figures' names, and a point for each node, before and after."""
    task = selfstudy.task("blocks?nodes=60")
    models = [task.prepared(GraphEncoder(hidden=8, width=4, seed=seed)) for seed in (0, 1)]
    found = task.look(*models, {})
    assert {"k-means NMI, before", "k-means ARI, after", "effective rank, after"} <= set(found["metrics"])
    (shown,) = found["pictures"]
    assert sum(len(trace["x"]) for trace in shown["traces"]) == 2 * 60
    bare = GraphTask("bare", replace(planted_blocks(nodes=60), classes=(), labels=np.full(60, UNKNOWN)))
    assert len(bare.look(*models, {})["pictures"]) == 1
    assert task.look(object(), object(), {}) == {"metrics": {}, "pictures": []}


def test_a_users_graph(tmp_path: Path) -> None:
    """Oracle: the task by its specification; a part of a graph is refused."""
    graph = planted_blocks(nodes=60, inside=0.3, features=5)
    edges, nodes = tmp_path / "edges.csv", tmp_path / "nodes.csv"
    edges.write_text("\n".join(f"n{u},n{v}" for u, v in graph.edges.T))
    rows = [f"n{at},{','.join(map(str, x))},kind {graph.labels[at]}" for at, x in enumerate(graph.features)]
    nodes.write_text("\n".join(["id,a,b,c,d,e,what", *rows]))
    task = selfstudy.task(f"graph:{edges}?features={nodes}&label=what")
    assert task.classes == ("kind 0", "kind 1", "kind 2", "kind 3") and len(task.train) == 60
    np.testing.assert_allclose(task.train.features, graph.features, rtol=1e-6)
    assert selfstudy.task(task.name).classes == task.classes
    without = selfstudy.task(f"graph:{edges}?features=identity&label=")
    assert without.metric.name == "AUC of held-out edges"
    with pytest.raises(UsageError, match="is one graph, of which 5 nodes would be another"):
        task.limited(5)
