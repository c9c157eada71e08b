"""gCooL's training step against a step of GRACE as PyGCL builds it, on Cora.

Method: both have the same widths, weights, temperature and Adam, and contrast each node of one view with all
nodes of the other, both ways. The peer is what one writes with torch-geometric after PyGCL: GCNConv layers on
dense features, `dropout_edge` and `mask_feature` for each view, and InfoNCE over dense N x N matrices with
masks, once for each direction. Ours draws its views by centrality, and finds and contrasts communities on
top of that, which the peer does not; "contrast of nodes alone" is ours without contrast of communities. First
both losses are computed on the same views from the same weights: they, and the gradients of the first layer
by their norm, must agree to 1e-5, otherwise the benchmark fails. Then the steps are timed in turn, by
processor time and by the clock, on one thread; a figure is the median of the rounds after a warm-up, and a
ratio is the median of the ratios of the rounds.

    SELFSTUDY_DATA=... python benchmarks/gcool_step.py [--pairs 30] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_geometric
from torch.nn import functional
from torch_geometric.nn import GCNConv
from torch_geometric.utils import dropout_edge, mask_feature

from selfstudy.core.machine import hardware, versions
from selfstudy.data.adjacency import Adjacency
from selfstudy.learning.communities import Weights
from selfstudy.learning.node_contrast import node_contrast
from selfstudy.methods.representation.gcool import Gcool
from selfstudy.models.encoders.communities import GraphCommunities
from selfstudy.models.encoders.graphs import GraphEncoder
from selfstudy.tasks.graphs import GraphTask, cora

TEMPERATURE, DROPPED, HIDDEN, WIDTH = 0.4, (0.3, 0.2), 256, 128
TOLERANCE = 1e-5


class Grace(torch.nn.Module):
    """Two GCNConv layers and a projection."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first, self.second = GCNConv(inputs, HIDDEN), GCNConv(HIDDEN, WIDTH)
        self.projection = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, WIDTH), torch.nn.ELU(), torch.nn.Linear(WIDTH, WIDTH)
        )

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:  # noqa: D102
        hidden = self.second(self.first(x, edges).relu(), edges).relu()
        return self.projection(hidden)


def info_nce(anchor: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """One direction, after PyGCL's losses/infonce.py, with the other view's nodes as negatives."""
    positive = torch.eye(len(anchor))
    negative = 1 - positive
    anchor, sample = functional.normalize(anchor), functional.normalize(sample)
    similar = anchor @ sample.t() / TEMPERATURE
    exponentials = similar.exp() * (positive + negative)
    log_shares = similar - exponentials.sum(dim=1, keepdim=True).log()
    return -((log_shares * positive).sum(dim=1) / positive.sum(dim=1)).mean()


def both_ways(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (info_nce(first, second) + info_nce(second, first)) / 2


def same_weights(peer: Grace, learner: GraphCommunities) -> None:
    layers = learner.encoder.layers[0]
    with torch.no_grad():
        for conv, weight, bias in (
            (peer.first, layers.first, layers.first_bias),
            (peer.second, layers.second, layers.second_bias),
        ):
            conv.lin.weight.copy_(weight.T)
            conv.bias.copy_(bias)
        peer.projection.load_state_dict(learner.projection.state_dict())


def peers_data(task: GraphTask, learner: GraphCommunities) -> tuple[torch.Tensor, torch.Tensor]:
    """Return dense features as our encoder scales them, and edges both ways."""
    dense = torch.from_numpy(task.train.features.toarray())
    edges = torch.from_numpy(task.train.edges)
    return functional.normalize(dense), torch.cat([edges, edges.flip(0)], 1)


def require_equal(task: GraphTask, learner: GraphCommunities, peer: Grace) -> dict[str, float]:
    """Compute both losses on the same two views; return how far they and their gradients are apart."""
    x, both = peers_data(task, learner)
    rng, inputs = np.random.default_rng(0), learner.encoder.prepared(task.train.features)
    adjacency = Adjacency(task.train.edges, len(task.train))
    ours, theirs = [], []
    for _ in range(2):
        kept = rng.random(task.train.edges.shape[1]) >= DROPPED[0]
        seen = torch.from_numpy(rng.random(x.shape[1]) >= DROPPED[1]).float()
        matrix = adjacency.normalised(kept)
        ours.append(learner.projected(learner.encoder(inputs, matrix, seen)))
        theirs.append(peer(x * seen, both[:, torch.from_numpy(np.tile(kept, 2))]))
    losses = [node_contrast(*ours, TEMPERATURE), both_ways(*theirs)]
    gradients = [
        torch.autograd.grad(losses[0], learner.encoder.layers[0].first)[0],
        torch.autograd.grad(losses[1], peer.first.lin.weight)[0].T,
    ]
    apart = {
        "loss": abs(losses[0].item() - losses[1].item()),
        "gradient": float((gradients[0] - gradients[1]).norm() / gradients[1].norm()),
    }
    if max(apart.values()) > TOLERANCE:
        sys.exit(f"the losses differ: {apart}")
    return apart


def our_step(task: GraphTask, learner: GraphCommunities, weight: float) -> Callable[[], None]:
    method = Gcool(temperature=TEMPERATURE, projection=WIDTH)
    optimizer, losses = method._optimizer(learner), method._losses(task, learner)
    count = iter(range(10**9))

    def step() -> None:
        at = next(count)
        losses(Weights(1.0, weight), [2 * at, 2 * at + 1], None)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peers_step(task: GraphTask, learner: GraphCommunities, peer: Grace) -> Callable[[], None]:
    x, both = peers_data(task, learner)
    optimizer = torch.optim.Adam(peer.parameters(), lr=5e-3, weight_decay=1e-5, fused=True)

    def step() -> None:
        views = [
            peer(mask_feature(x, p=DROPPED[1])[0], dropout_edge(both, p=DROPPED[0])[0]) for _ in range(2)
        ]
        both_ways(*views).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Return processor seconds and seconds of the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def compare(steps: dict[str, Callable[[], None]], pairs: int) -> dict[str, Any]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for pair in range(-3, pairs):
        for name, step in steps.items():
            seconds = timed(step)
            if pair >= 0:
                found[name].append(seconds)
    peer = found["GRACE"]
    return {
        name: {
            "cpu_milliseconds": 1000 * statistics.median(row[0] for row in rows),
            "milliseconds": 1000 * statistics.median(row[1] for row in rows),
            "ratio_cpu": statistics.median(b[0] / a[0] for a, b in zip(rows, peer, strict=True)),
            "ratio": statistics.median(b[1] / a[1] for a, b in zip(rows, peer, strict=True)),
        }
        for name, rows in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = cora()
    model = GraphEncoder(hidden=HIDDEN, width=WIDTH).made_for(task.train)
    learners = [Gcool(projection=WIDTH)._learner(task, model, seed=0) for _ in range(2)]
    peer = Grace(model.inputs)
    same_weights(peer, learners[0])
    apart = require_equal(task, learners[0], peer)
    steps = {
        "gCooL": our_step(task, learners[0], 1.0),
        "contrast of nodes alone": our_step(task, learners[1], 0.0),
        "GRACE": peers_step(task, learners[0], peer),
    }
    result = {
        "apart": apart,
        "steps": compare(steps, options.pairs),
        "pairs": options.pairs,
        "widths": [HIDDEN, WIDTH],
        "threads": 1,
        "versions": {**versions(), "torch_geometric": torch_geometric.__version__},
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
