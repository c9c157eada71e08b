"""Tasks of graphs: nodes with features and edges, some labelled, and what their embeddings are worth."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.graph_files import built_in, read_graph
from selfstudy.data.graph_splits import HeldEdges, hold_out_edges, node_splits
from selfstudy.data.graphs import Graph, planted_blocks
from selfstudy.evaluation.clustering import agreement, clusters
from selfstudy.evaluation.collapse import effective_rank, uniformity
from selfstudy.evaluation.embedding_map import SHOWN, embedding_map
from selfstudy.evaluation.probes import PENALTIES, LinearProbe, linear_probe
from selfstudy.evaluation.scores import ACCURACY, Measured, Metric
from selfstudy.models.encoders.graphs import GraphEncoder
from selfstudy.tasks.base import HeldOutTask, require_held

EDGES = Metric(name="AUC of held-out edges")
LOOKED_AT = 2000  # nodes that rank and uniformity are measured on
COLOURED = 8  # clusters that colour the map where neither classes nor communities do


class Labelled(NamedTuple):
    """Nodes whose labels may be used."""

    places: np.ndarray  # [M]
    labels: np.ndarray  # [M]


class GraphTask(HeldOutTask):
    """One graph to learn from, some labelled nodes to probe with, and others to judge on.

    All nodes and edges are seen in training, labels are not. A model is judged by the accuracy of a linear
    classifier on its frozen embeddings, fitted on a tenth of the labelled nodes, its penalty chosen on
    another. Where nothing is labelled, a tenth of the edges is held out, and a model is judged by their AUC:
    how often the embeddings of an edge's two nodes have a larger cosine than those of two nodes that share
    none. A twentieth more is for validation.

    Attributes:
        name: the specification that makes this task again.
        metric: accuracy, or the AUC of held-out edges.
        train: the graph, without labels and without held-out edges.
        labelled: the nodes that the probe is fitted on.
        classes: the names of the labels.
        meter: where labels are counted; this task gives out none beside the labelled nodes.
    """

    def __init__(self, name: str, graph: Graph, *, draw: int = 0) -> None:
        self.name = name
        self.classes = graph.classes
        self.metric = ACCURACY if self.classes else EDGES
        self.meter = Meter()
        self.train = graph.unlabelled()
        self.labelled = Labelled(np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._labels = graph.labels
        self._held: dict[str, HeldEdges] = {}
        if self.classes:
            self._places = node_splits(graph.labels, draw)
            known = self._places["train"]
            self.labelled = Labelled(known, graph.labels[known])
        else:
            self.train, self._held = hold_out_edges(self.train, draw)
            self._places = {split: np.arange(held.edges.shape[1]) for split, held in self._held.items()}

    def held(self, split: str) -> int:
        """Return how many items a split holds."""
        return len(self._places[split])

    def limited(self, train: int) -> Self:
        """Refuse: a part of the nodes is another graph."""
        raise UsageError(
            f"The task {self.name!r} is one graph, of which {train} nodes would be another. Leave "
            "--train-limit away."
        )

    def prepared(self, model: GraphEncoder) -> GraphEncoder:
        """Return an encoder made for this graph: its features, relations and statistics."""
        return model.made_for(self.train)

    def evaluate(self, model: Any, *, split: str = "test", limit: int | None = None) -> Measured:
        """Return how well each of the first `limit` nodes or edges of a split is told; None is all.

        Args:
            model: with `embed_graph(graph)`, whose embeddings are probed, or a classifier of nodes with
                `classify(graph)`.
            split: "test", or "validation", which a method may look at.
            limit: how many.
        """
        require_held(split)
        places = self._places[split][:limit]
        if not self.classes:
            shares = self._edges_told(model.embed_graph(self.train), split)
            return Measured(tuple(shares[:limit].tolist()))
        if hasattr(model, "classify"):
            told = model.classify(self.train)
        else:
            features = model.embed_graph(self.train)
            told = self.probe(features).predict(features)
        right = told.numpy()[places] == self._labels[places]
        return Measured(tuple(right.astype(float).tolist()))

    def probe(self, features: torch.Tensor) -> LinearProbe:
        """Return a linear classifier of the features [N, d] of all nodes, fitted on the labelled ones.

        Its penalty is the one with the best accuracy on the validation nodes; of equals the one with the
        lowest cross-entropy there.
        """
        places, labels = self.labelled
        known, told = features[torch.from_numpy(places)], torch.from_numpy(labels)
        held = self._places["validation"]
        inputs, answers = features[torch.from_numpy(held)], torch.from_numpy(self._labels[held])

        def worth(probe: LinearProbe) -> tuple[int, float]:
            scores = probe.scores(inputs)
            right = int((scores.argmax(1) == answers).sum())
            return right, -functional.cross_entropy(scores, answers).item()

        probes = [linear_probe(known, told, len(self.classes), penalties=(one,)) for one in PENALTIES]
        return max(probes, key=worth)

    def clustering(self, features: torch.Tensor, split: str = "test") -> dict[str, float]:
        """Return "nmi" and "ari" of the k-means clusters of all nodes with the classes of a split's nodes."""
        places = self._places[split]
        found = clusters(features.numpy(), len(self.classes))
        return agreement(self._labels[places], found[places])._asdict()

    def look(self, before: Any, after: Any, parts: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what else there is to say of two encoders: `metrics` by name, and `pictures`.

        Args:
            before: the untrained one.
            after: the trained one.
            parts: what else was trained; "communities" colour the map where nothing is labelled.
        """
        if not (isinstance(before, GraphEncoder) and isinstance(after, GraphEncoder)):
            return {"metrics": {}, "pictures": []}
        features = {"before": before.embed_graph(self.train), "after": after.embed_graph(self.train)}
        metrics: dict[str, Any] = {}
        for when, found in features.items():
            sample = found[:LOOKED_AT]
            metrics |= {
                f"effective rank, {when}": effective_rank(sample),
                f"uniformity, {when}": uniformity(sample),
            }
            if self.classes:
                told = self.clustering(found)
                metrics |= {f"k-means {name.upper()}, {when}": figure for name, figure in told.items()}
        groups, names, note = self._labels, self.classes, NOTE_CLASSES
        finder = (parts or {}).get("communities")
        if not self.classes:
            groups = (
                finder.assign(self.train)[0].argmax(1).numpy()
                if finder is not None
                else clusters(features["after"].numpy(), COLOURED)
            )
            names = tuple(f"community {group + 1}" for group in range(groups.max() + 1))
            note = NOTE_COMMUNITIES
        chosen = np.sort(generator("shown", len(self.train)).permutation(len(self.train))[:SHOWN])
        first, second = (features[when].numpy()[chosen] for when in ("before", "after"))
        shown = embedding_map(first, second, groups[chosen], names, note=note)
        return {"metrics": metrics, "pictures": [shown]}

    def _edges_told(self, features: torch.Tensor, split: str) -> np.ndarray:
        """Return for each held-out edge [E] the share of pairs without an edge that are less alike."""
        edges, others = self._held[split]
        unit = functional.normalize(features - features.mean(0), dim=1).numpy()
        alike, less = ((unit[pairs[0]] * unit[pairs[1]]).sum(1) for pairs in (edges, others))
        ordered = np.sort(less)
        below = np.searchsorted(ordered, alike, "left") + np.searchsorted(ordered, alike, "right")
        return below / (2 * len(ordered))


NOTE_CLASSES = (
    "Left before training, right after. Each point is a node; near points have like embeddings (t-SNE). "
    "Classes colour the nodes; neither "
    "training nor the map knows them."
)
NOTE_COMMUNITIES = (
    "Left before training, right after. Each point is a node; near points have like embeddings (t-SNE). "
    "Colours are the communities found, the same in both maps."
)


def graph(
    path: str,
    *,
    features: str = "",
    label: str = "",
    id: str = "",
    relation: str = "",
    draw: int = 0,
) -> GraphTask:
    """Return the task of a user's graph; see `selfstudy.data.graph_files.read_graph`.

    Args:
        path: of the edges, of an .npz archive, or a data set of torch-geometric.
        features: the table of the nodes.
        label: its column of labels.
        id: its column of ids.
        relation: the edges' column of relations.
        draw: names what is held out.
    """
    found = read_graph(path, features=features, label=label, id=id, relation=relation)
    given = {"features": features, "label": label, "id": id, "relation": relation, "draw": draw}
    fields = "&".join(f"{field}={value}" for field, value in given.items() if value)
    return GraphTask(f"graph:{path}{'?' * bool(fields)}{fields}", found, draw=draw)


def cora(*, draw: int = 0) -> GraphTask:
    """Papers on machine learning, their words and citations, of seven fields."""
    return GraphTask(f"cora?draw={draw}", built_in("cora"), draw=draw)


def citeseer(*, draw: int = 0) -> GraphTask:
    """Papers on computer science, their words and citations, of six fields."""
    return GraphTask(f"citeseer?draw={draw}", built_in("citeseer"), draw=draw)


def blocks(
    *,
    nodes: int = 400,
    blocks: int = 4,
    inside: float = 0.08,
    outside: float = 0.02,
    features: int = 16,
    noise: float = 1.0,
    relations: int = 1,
    draw: int = 0,
) -> GraphTask:
    """Return the task of a graph of planted blocks; see `selfstudy.data.graphs.planted_blocks`."""
    given = {
        "nodes": nodes,
        "blocks": blocks,
        "inside": inside,
        "outside": outside,
        "features": features,
        "noise": noise,
        "relations": relations,
    }
    found = planted_blocks(**given, seed=draw)  # type: ignore[arg-type]
    fields = "&".join(f"{field}={value}" for field, value in {**given, "draw": draw}.items())
    return GraphTask(f"blocks?{fields}", found, draw=draw)
