"""gCooL: nodes find themselves in another view of their graph, and the community that they belong to.

Li, Jing, Tong 2022, "Graph Communal Contrastive Learning", arXiv 2110.14863. Pick it to embed the nodes of a
graph without labels where edges join like nodes and there are clear communities. It adds to GRACE (Zhu et al.
2020, arXiv 2006.04131), which is `community_weight=0`, communities that are learned along, so that nodes of
one are not only pushed apart. On Cora and Citeseer that did not help a linear probe (claims/gcool.py): take
it for the communities, or where they are clearer. Where edges join unlike nodes take another method.

Deviations from the paper: communities are found by densities of edges unless `detection="edges"`, since the
counts of the authors' code are best for a single community of all nodes. The contrast of communities has a
constant weight after a first share of the epochs, unless `schedule="fading"`: in the authors' schedule its
weight is never above 0.048, whatever the stride, since both factors of it depend on epoch / stride alone. An
undirected edge is kept or dropped in both directions at once, by the centrality of both its ends. Both
directions of the contrasts are computed. Empty communities are no negatives. Of several relations each is one
view with its own encoder, and every two are contrasted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.graph_views import GraphViews, RandomViews
from selfstudy.evaluation.community_pictures import community_pictures
from selfstudy.learning.collapse_watch import CollapseWatch
from selfstudy.learning.communities import DETECTION, Weights, contrast_with_communities, fading
from selfstudy.learning.loops import check_not_negative, check_positive
from selfstudy.learning.node_contrast import LEAST_TEMPERATURE, node_contrast
from selfstudy.learning.pretraining import figures
from selfstudy.models.encoders.communities import GraphCommunities
from selfstudy.models.encoders.graphs import GraphEncoder
from selfstudy.tasks.graphs import GraphTask

UNTOLD = 16  # communities, where neither the user nor classes say how many
LOOKS = 20  # times that the embeddings are looked at for a collapse


@dataclass(frozen=True, kw_only=True)
class Gcool(Method):
    """Pre-train a graph encoder by contrast of nodes and of communities (Li et al. 2022)."""

    works_on = (GraphTask, GraphEncoder)

    communities: int = 0
    """K; 0 is twice the number of classes of the task, a hint, or 16 where it has none."""
    views: GraphViews = field(default_factory=GraphViews)
    """How views are made."""
    projection: int = 128
    """Width between the two layers above the embeddings."""
    temperature: float = 0.7
    """tau (the paper: 0.3 to 0.4), of nodes and of communities."""
    similarity: Literal["cosine", "rbf"] = "cosine"
    """Of nodes and community centres."""
    detection: Literal["density", "edges"] = "density"
    """How communities are found: by densities of edges, or by counts as in the authors' code."""
    inter_weight: float = 1.0
    """lambda, of edges between communities in their detection."""
    reweighting: float = 1e-3
    """gamma: how fast communities cease to be negatives with their distance, under "rbf"."""
    schedule: Literal["constant", "fading"] = "constant"
    """Whether communities count the same all along, or as in the authors' code, where they hardly do."""
    community_weight: float = 0.3
    """Of the contrast of communities beside that of nodes, under the schedule "constant"."""
    detected_first: float = 0.5
    """Share of the epochs before that, in which communities are only detected."""
    stride: float = 2.0
    """Of the schedule "fading", in units of all epochs; it ends at a fifth of it."""
    epochs: int = 200
    """Steps; each sees the whole graph."""
    learning_rate: float = 5e-3
    """Of Adam."""
    weight_decay: float = 1e-5
    """Of all weights."""
    anchors: int = 0
    """Nodes whose contrast is taken in a step, against all others; 0 is all. For graphs of many nodes."""
    kept_nodes: int = 15_000
    """Up to so many nodes all similarities are kept for the gradient; of more they are computed twice."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, epochs=0, projection=0, learning_rate=0, stride=0)
        if self.communities == 1:
            raise UsageError(
                "communities is 1: give at least 2, or 0 for twice as many as there are classes."
            )
        check_not_negative(self, "communities", "inter_weight", "reweighting", "community_weight")
        check_not_negative(self, "weight_decay", "anchors", "kept_nodes")
        if not LEAST_TEMPERATURE <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}; it must be at least {LEAST_TEMPERATURE}.")
        if not 0 <= self.detected_first <= 1:
            raise UsageError(f"detected_first is {self.detected_first}; it must be from 0 to 1.")
        self.views.validate()

    def weights(self, epoch: int) -> Weights:
        """Return how much the detection and the contrast of communities count in an epoch."""
        if self.schedule == "fading":
            return fading(epoch, self.stride * self.epochs)
        return Weights(1.0, self.community_weight * (epoch >= self.detected_first * self.epochs))

    def cost(self, task: GraphTask, model: GraphEncoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit; a sample is a node in a step."""
        return {unit: self.epochs * amount for unit, amount in self._step_cost(task, model).items()}

    def trial(self, task: GraphTask, model: GraphEncoder) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes."""
        learner = self._learner(task, model.made_for(task.train), seed=0)
        optimizer, losses = self._optimizer(learner), self._losses(task, learner)

        def step() -> None:
            losses(Weights(1.0, 1.0), [0, 1], None)["loss"].backward()
            optimizer.step()

        return step, self.epochs

    def fit(self, task: GraphTask, model: GraphEncoder, run: Run) -> Fit:
        """Pre-train a copy of `model` on the graph of `task`."""
        model = model.made_for(task.train)
        self._count(task)
        learner = run.stage("encoder", lambda: self.pretrained(task, model, run))
        sizes = np.bincount(learner.assign(task.train)[0].argmax(1), minlength=learner.communities)
        effective = [self.weights(epoch).contrast for epoch in range(self.epochs)]
        metrics = {
            **figures(run, "encoder"),
            "communities": learner.communities,
            "mean community weight": float(np.mean(effective)),
            "largest community weight": max(effective),
        }
        logged = [line for line in run.metrics() if "entropy" in line]
        pictures = community_pictures(logged, sizes)
        return Fit(model=learner.encoder, parts={"communities": learner}, metrics=metrics, pictures=pictures)

    def pretrained(self, task: GraphTask, model: GraphEncoder, run: Run) -> GraphCommunities:
        """Return the trained copy of `model` with its communities; within a stage."""
        learner = self._learner(task, model, run.key("heads"))
        optimizer, losses = self._optimizer(learner), self._losses(task, learner)
        watch = CollapseWatch({"learner": learner})
        state: dict[str, Stateful] = {"learner": learner, "optimizer": optimizer, "watch": watch}
        every, done = max(1, self.epochs // LOOKS), 0
        for epoch in run.steps(self.epochs, state=state, desc="pretrain", cost=self._step_cost(task, model)):
            if epoch % every == 0 and watch.collapsed(learner.embed_graph(task.train), epoch):
                break
            weights = self.weights(epoch)
            keys = [run.key("view", which, epoch) for which in range(max(2, learner.encoder.relations))]
            found = losses(weights, keys, self._anchors(task, run.rng("anchors", epoch)))
            if not torch.isfinite(found["loss"]):
                raise DataError(
                    f"The loss is {found['loss'].item()}. Lower --learning-rate ({self.learning_rate:g})."
                )
            found["loss"].backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            logged = {name: value.item() for name, value in found.items()}
            run.log(step=epoch, community_weight=weights.contrast, **logged)
            done = epoch + 1
        if watch.collapsed_at is None and done:
            watch.collapsed(learner.embed_graph(task.train), done)
        run.log(collapsed_at=watch.collapsed_at)
        return learner.eval()

    def _losses(
        self, task: GraphTask, learner: GraphCommunities
    ) -> Callable[[Weights, list[int], torch.Tensor | None], dict[str, torch.Tensor]]:
        """Return what gives the loss and its terms of one epoch."""
        graph, relations = task.train, len(task.train.relations)
        inputs = learner.encoder.prepared(graph.features)
        drawn = [RandomViews(graph, relation, self.views) for relation in range(relations)]
        adjacency = [views.adjacency.plain() for views in drawn]
        of_view = [0, 0] if relations == 1 else list(range(relations))  # the relation of each view
        keep, detect = len(graph) <= self.kept_nodes, DETECTION[self.detection]

        def losses(
            weights: Weights, keys: list[int], anchors: torch.Tensor | None
        ) -> dict[str, torch.Tensor]:
            views = [drawn[at].view(key) for at, key in zip(of_view, keys, strict=True)]
            embedded = [
                learner.projected(learner.encoder(inputs, *view, relation=at))
                for at, view in zip(of_view, views, strict=True)
            ]
            pairs = list(itertools.combinations(embedded, 2))
            nodes = torch.stack(
                [node_contrast(*pair, self.temperature, anchors=anchors, keep=keep) for pair in pairs]
            ).sum()
            belongs = [learner.memberships(h, at) for h, at in zip(embedded, of_view, strict=True)]
            found = [
                detect(R, adjacency[at], self.inter_weight) for R, at in zip(belongs, of_view, strict=True)
            ]
            detection = torch.stack(found).mean()
            loss = nodes + weights.detection * detection
            terms = {"node_contrast": nodes.detach(), "detection": detection.detach()}
            if weights.contrast:
                contrast = contrast_with_communities(
                    embedded,
                    [R.argmax(1) for R in belongs],
                    learner.communities,
                    self.temperature,
                    similarity=self.similarity,
                    reweighting=self.reweighting,
                )
                loss = loss + weights.contrast * contrast
                terms["community_contrast"] = contrast.detach()
            return {"loss": loss, **terms, **_state(belongs[0].detach())}

        return losses

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
        count = self.communities or min(2 * len(task.classes) or UNTOLD, nodes)
        if not 2 <= count <= nodes:
            raise UsageError(f"communities is {count}: give from 2 to {nodes}, the nodes of the graph.")
        return count

    def _optimizer(self, learner: GraphCommunities) -> torch.optim.Adam:
        return torch.optim.Adam(
            learner.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )

    def _anchors(self, task: GraphTask, rng: np.random.Generator) -> torch.Tensor | None:
        if not 0 < self.anchors < len(task.train):
            return None
        return torch.from_numpy(np.sort(rng.permutation(len(task.train))[: self.anchors]))

    def _step_cost(self, task: GraphTask, model: GraphEncoder) -> dict[str, float]:
        nodes = len(task.train)
        views = max(2, len(task.train.relations))
        compared = views * (views - 1) / 2 * min(self.anchors or nodes, nodes) * nodes
        weights = model.weights if model.relations == 1 else model.weights / model.relations
        # A product of matrices is two operations a number, and its gradients are two products more.
        flops = 6.0 * (compared * model.width + views * nodes * weights)
        return {"samples": float(nodes), "flops": flops}


def _state(belongs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return how evenly nodes belong to communities, and the share of the largest of these, of R [N, K]."""
    largest = torch.bincount(belongs.argmax(1)).max() / len(belongs)
    return {"entropy": -torch.special.xlogy(belongs, belongs).sum(1).mean(), "largest": largest}
