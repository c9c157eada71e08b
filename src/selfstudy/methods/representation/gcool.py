"""gCooL: nodes find themselves in another view of their graph, and the community that they belong to.

Li, Jing, Tong 2022, "Graph Communal Contrastive Learning", arXiv 2110.14863. Pick it to embed the nodes of a
graph without labels where edges join like nodes and communities are clear. It adds to GRACE (Zhu et al. 2020)
communities that are learned along, so that nodes of one community are not only pushed apart. Where edges join
unlike nodes take another method.

Deviations from the paper: ...
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.adjacency import Adjacency
from selfstudy.data.graph_views import GraphViews
from selfstudy.learning.collapse_watch import CollapseWatch
from selfstudy.learning.communities import (
    DETECTION,
    Weights,
    community_centres,
    community_contrast,
    fading,
)
from selfstudy.learning.loops import check_positive
from selfstudy.learning.node_contrast import LEAST_TEMPERATURE, node_contrast
from selfstudy.models.encoders.communities import GraphCommunities
from selfstudy.models.encoders.graphs import GraphEncoder
from selfstudy.tasks.graphs import GraphTask

UNTOLD = 10  # communities, where neither the user nor classes say how many
LOOKS = 20  # times that the embeddings are looked at for a collapse


@dataclass(frozen=True, kw_only=True)
class Gcool(Method):
    """Pre-train a graph encoder by contrast of nodes and of communities (Li et al. 2022)."""

    works_on = (GraphTask, GraphEncoder)

    communities: int = 0
    """K; 0 is the number of classes of the task, a hint that other tasks do not give: 10 then."""
    views: GraphViews = field(default_factory=GraphViews)
    """How the two views are made."""
    projection: int = 128
    """Width between the layers above the embeddings."""
    temperature: float = 0.4
    """tau, of nodes and of communities."""
    similarity: Literal["cosine", "rbf"] = "cosine"
    """Of nodes and community centres."""
    detection: Literal["density", "edges"] = "density"
    """How communities are found: by densities of edges, or by counts as in the authors' code."""
    inter_weight: float = 1.0
    """lambda, of edges between communities in their detection."""
    reweighting: float = 1e-3
    """gamma: how fast communities cease to be negatives with their distance; of "rbf" alone."""
    schedule: Literal["constant", "fading"] = "constant"
    """How much communities count: always `community_weight`, or as in the authors' code, hardly at all."""
    community_weight: float = 1.0
    """Of the contrast of communities beside that of nodes, under the schedule "constant"."""
    detected_first: float = 0.1
    """Share of the epochs before that, in which communities are only detected."""
    stride: float = 2.0
    """Of the schedule "fading", in units of all epochs; the weight is 0 after a fifth of it."""
    epochs: int = 200
    """Steps; each sees the whole graph."""
    learning_rate: float = 5e-3
    """Of Adam."""
    weight_decay: float = 1e-5
    """Of all weights."""
    anchors: int = 0
    """Nodes whose contrast is taken in a step, against all others; 0 is all. For graphs of many nodes."""
    keep: int = 15_000
    """Up to so many nodes all their similarities are kept for the gradient, else they are computed twice."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, epochs=0, projection=0, learning_rate=0, stride=0)
        at_least = ("inter_weight", "reweighting", "community_weight", "weight_decay", "anchors", "keep")
        for name in at_least:
            if not getattr(self, name) >= 0:
                raise UsageError(f"Gcool.{name} is {getattr(self, name)}; it must be at least 0.")
        if self.communities < 0 or self.communities == 1:
            raise UsageError("communities is 1: give at least 2, or 0 for as many as there are classes.")
        if not self.temperature >= LEAST_TEMPERATURE:
            raise UsageError(
                f"temperature is {self.temperature}; it must be at least {LEAST_TEMPERATURE}."
            )
        if not 0 <= self.detected_first <= 1:
            raise UsageError(f"detected_first is {self.detected_first}; it must be from 0 to 1.")
        self.views.validate()

    def weights(self, epoch: int) -> Weights:
        """Return how much detection and contrast of communities count in an epoch."""
        if self.schedule == "fading":
            return fading(epoch, self.stride * self.epochs)
        return Weights(1.0, self.community_weight * (epoch >= self.detected_first * self.epochs))

    def fit(self, task: GraphTask, model: GraphEncoder, run: Run) -> Fit:
        """Pre-train a copy of `model` on the graph of `task`."""
        self._count(task)
        model = model.made_for(task.train)
        trained = run.stage("encoder", lambda: self.pretrained(task, model, run))
        return Fit(model=trained.encoder, parts={"communities": trained})

    def pretrained(self, task: GraphTask, model: GraphEncoder, run: Run) -> GraphCommunities:
        """Return the trained copy with its communities; within a stage."""
        learner = self._learner(task, model, run.key("heads"))
        step = _Step(self, task, learner)
        optimizer = torch.optim.Adam(learner.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        watch = CollapseWatch({"learner": learner})
        state = {"learner": learner, "optimizer": optimizer, "watch": watch}
        every = max(1, self.epochs // LOOKS)
        for epoch in run.steps(self.epochs, state=state, desc="pretrain", cost=self._cost(task, model)):
            if epoch % every == 0 and watch.collapsed(learner.embed_graph(task.train), epoch):
                break
            found = step.losses(epoch, run)
            found["loss"].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            run.log(step=epoch, loss=found["loss"].item(), **{name: float(value) for name, value in found.items() if name != "loss"})
        return learner.eval()

    def _learner(self, task: GraphTask, model: GraphEncoder, seed: int) -> GraphCommunities:
        learner = GraphCommunities(
            encoder=model.config,
            communities=self._count(task),
            projection=self.projection,
            temperature=self.temperature,
            similarity=self.similarity,
            seed=seed,
        )
        learner.encoder.load_state_dict(model.state_dict())
        return learner

    def _count(self, task: GraphTask) -> int:
        nodes = len(task.train)
        count = self.communities or min(len(task.classes) or UNTOLD, nodes)
        if not 2 <= count <= nodes:
            raise UsageError(f"communities is {count}: give from 2 to {nodes}, the nodes of the graph.")
        return count

    def _cost(self, task: GraphTask, model: GraphEncoder) -> dict[str, float]:
        nodes = len(task.train)
        compared = self.anchors or nodes
        return {"samples": float(nodes), "flops": 6.0 * 2 * compared * nodes * model.width}


class _Step:
    """What stays the same from epoch to epoch, and the losses of one."""

    def __init__(self, method: Gcool, task: GraphTask, learner: GraphCommunities) -> None:
        graph = task.train
        self.method, self.graph, self.learner = method, graph, learner
        self.inputs = learner.encoder.prepared(graph.features)
        self.relations = [Adjacency(edges, len(graph)) for edges in graph.relations]
        self.plain = [relation.plain() for relation in self.relations]
        self.chances = [method.views.chances(graph, at) for at in range(len(self.relations))]
        # Two views of a single relation, else one of each.
        self.views = [0, 0] if len(self.relations) == 1 else list(range(len(self.relations)))

    def embedded(self, which: int, key: int) -> torch.Tensor:
        """Return h [N, d] of one view."""
        relation = self.views[which]
        edges = self.graph.relations[relation]
        view = self.method.views.view(self.chances[relation], edges, len(self.graph), key)
        adjacency = self.relations[relation].normalised(view.edges)
        seen = torch.from_numpy(view.columns).float()
        return self.learner.projected(
            self.learner.encoder(self.inputs, adjacency, seen, relation=relation)
        )

    def losses(self, epoch: int, run: Run) -> dict[str, torch.Tensor | float]:
        """Return the loss of an epoch and its terms."""
        method, learner, weights = self.method, self.learner, self.method.weights(epoch)
        nodes = len(self.graph)
        embedded = [self.embedded(at, run.key("view", at, epoch)) for at in range(len(self.views))]
        anchors = None
        if 0 < method.anchors < nodes:
            drawn = run.rng("anchors", epoch).permutation(nodes)[: method.anchors]
            anchors = torch.from_numpy(np.sort(drawn))
        pairs = list(itertools.combinations(range(len(self.views)), 2))
        loss = torch.stack(
            [
                node_contrast(
                    embedded[a], embedded[b], method.temperature, anchors=anchors, keep=nodes <= method.keep
                )
                for a, b in pairs
            ]
        ).sum()
        found: dict[str, Any] = {"node_contrast": loss.detach()}
        belongs = [learner.memberships(h, at) for h, at in zip(embedded, self.views, strict=True)]
        if weights.detection:
            detect = DETECTION[method.detection]
            detection = torch.stack(
                [
                    detect(R, self.plain[at], method.inter_weight)
                    for R, at in zip(belongs, self.views, strict=True)
                ]
            ).mean()
            loss = loss + weights.detection * detection
            found["detection"] = detection.detach()
        if weights.contrast:
            labels = [R.argmax(1) for R in belongs]
            centres = [
                community_centres(h, k, learner.communities) for h, k in zip(embedded, labels, strict=True)
            ]
            ways = [way for a, b in pairs for way in ((a, b), (b, a))]
            contrast = sum(
                community_contrast(
                    embedded[a],
                    labels[b],
                    centres[b],
                    method.temperature,
                    similarity=method.similarity,
                    reweighting=method.reweighting,
                )
                for a, b in ways
            ) / 2
            loss = loss + weights.contrast * contrast
            found["community_contrast"] = contrast.detach()
        with torch.no_grad():
            R = belongs[0]
            found["entropy"] = -(R * R.clamp(min=1e-12).log()).sum(1).mean()
            found["largest"] = torch.bincount(R.argmax(1)).max() / nodes
        return {"loss": loss, **found, "community_weight": weights.contrast}
