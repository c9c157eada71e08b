"""What is particular to gCooL: its loss, its schedules, several relations, anchors, graphs without labels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.data.graph_views import GraphViews, RandomViews
from selfstudy.data.graphs import UNKNOWN, planted_blocks
from selfstudy.learning.communities import Weights
from selfstudy.methods.representation import gcool
from selfstudy.methods.representation.gcool import Gcool
from selfstudy.models.encoders.graphs import GraphEncoder
from selfstudy.tasks.graphs import GraphTask, blocks

SMALL: dict[str, Any] = {"epochs": 6, "projection": 8}


def start(task: GraphTask, **fields: Any) -> GraphEncoder:
    return GraphEncoder(**{"hidden": 16, "width": 8, **fields}).made_for(task.train)


def fit(folder: Path, task: GraphTask, model: GraphEncoder, **fields: Any) -> Any:
    method = Gcool(**{**SMALL, **fields})
    method.validate()
    with Run(folder, {}) as run:
        return method.fit(task.metered(run.meter), model, run), run


def unlabelled(**fields: Any) -> GraphTask:
    graph = planted_blocks(**{"nodes": 80, "inside": 0.3, **fields})
    return GraphTask("bare", replace(graph, classes=(), labels=np.full(len(graph), UNKNOWN)))


def test_it_learns_blocks(tmp_path: Path) -> None:
    """Oracle: ten points more than the untrained encoder on 320 test nodes; the start is left as it is."""
    task = blocks()
    model = start(task, hidden=32, width=16)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    fitted, run = fit(tmp_path, task, model, epochs=60, projection=16, temperature=0.5)
    was, now = (float(np.mean(task.evaluate(made).values)) for made in (model, fitted.model))
    assert now > was + 0.1
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in before.items())
    assert fitted.metrics["collapsed_at"] is None and run.meter.snapshot()["samples"] == 60 * 400
    found = fitted.parts["communities"].assign(task.train)[0].argmax(1).numpy()
    assert len(found) == 400 and fitted.metrics["largest"] < 0.9


def test_the_loss_of_an_epoch() -> None:
    """Oracle: the paper's formulas on dense matrices, written out in the test."""
    task, views = blocks(nodes=40), GraphViews(edges=0.4, columns=0.3)
    method = Gcool(**SMALL, temperature=0.5, views=views, inter_weight=0.7, communities=3)
    learner = method._learner(task, start(task), seed=5)
    found = method._losses(task, learner)(Weights(0.3, 0.6), [11, 12], None)
    drawn = RandomViews(task.train, 0, views)
    h = []
    for key in (11, 12):
        edges, columns = drawn.kept(key)
        A = np.eye(40)
        A[tuple(task.train.edges[:, edges])] = 1
        A = torch.from_numpy(np.maximum(A, A.T)).float()
        A = A.sum(1) ** -0.5 * A * (A.sum(1) ** -0.5)[:, None]
        layers, encoder = learner.encoder.layers[0], learner.encoder
        X = (torch.from_numpy(task.train.features) - encoder.mean) / encoder.deviation
        X = X * torch.from_numpy(columns)
        hidden = (A @ X @ layers.first + layers.first_bias).relu()
        z = (A @ hidden @ layers.second + layers.second_bias).relu()
        h.append(functional.normalize(learner.projection(z), dim=1))
    similar = torch.exp(h[0] @ h[1].T / 0.5)
    nodes = -(similar.diagonal() / similar.sum(1)).log().mean() / 2
    nodes = nodes - (similar.diagonal() / similar.sum(0)).log().mean() / 2
    full = torch.zeros(40, 40)
    full[tuple(task.train.edges)] = full[tuple(task.train.edges[::-1])] = 1
    detection, labels = 0.0, []
    for one in h:
        R = (one.detach() @ functional.normalize(learner.centres[0], dim=1).T / 0.5).softmax(1)
        labels.append(R.argmax(1))
        F, n = R.T @ full @ R, R.sum(0)
        density = F / torch.outer(n, n)
        within, every = density.diagonal().sum(), density.sum()
        detection = detection + (0.7 * (every - within) / 6 - within / 3) / 2
    contrast = 0.0
    for one, other in ((0, 1), (1, 0)):
        names = labels[other].unique()
        centres = torch.stack([h[other].detach()[labels[other] == name].mean(0) for name in names])
        place = torch.searchsorted(names, labels[other])
        contrast = contrast + functional.cross_entropy(h[one] @ centres.T / 0.5, place) / 2
    expected = nodes + 0.3 * detection + 0.6 * contrast
    assert found["loss"].item() == pytest.approx(expected.item(), abs=1e-5)
    assert found["community_contrast"].item() == pytest.approx(contrast.item(), abs=1e-5)
    weights = [*learner.parameters()]
    ours, wanted = (torch.autograd.grad(loss, weights) for loss in (found["loss"], expected))
    for one, two in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_schedules() -> None:
    """Oracle: the weights by hand."""
    constant = Gcool(epochs=10, community_weight=0.5, detected_first=0.3)
    assert [constant.weights(epoch).contrast for epoch in (0, 2, 3, 9)] == [0.0, 0.0, 0.5, 0.5]
    assert constant.weights(0).detection == 1.0
    code = Gcool(epochs=250, schedule="fading", stride=2.0)
    assert (
        code.weights(50).detection == pytest.approx(0.5 * math.exp(-0.1)) and code.weights(100).contrast == 0
    )


def test_node_contrast_alone_is_the_same_up_to_the_communities(tmp_path: Path) -> None:
    """Oracle: with weight 0 the encoder does not depend on how communities are found."""
    task = blocks(nodes=60)
    fitted = [
        fit(tmp_path / str(at), task, start(task), community_weight=0.0, **more)[0].model.embed(task.train)
        for at, more in enumerate(({}, {"inter_weight": 3.0}, {"detection": "edges"}))
    ]
    assert np.array_equal(fitted[0], fitted[1]) and np.array_equal(fitted[0], fitted[2])


def test_similarities_kept_or_computed_twice(tmp_path: Path) -> None:
    """Oracle: the same embeddings to 1e-4; anchors that are all nodes are none, and a few are others."""
    task = blocks(nodes=60)
    found = [
        fit(tmp_path / str(at), task, start(task), **more)[0].model.embed(task.train)
        for at, more in enumerate(({}, {"kept_nodes": 0}, {"anchors": 60}, {"anchors": 10}))
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)
    assert np.array_equal(found[0], found[2]) and not np.allclose(found[0], found[3], atol=1e-3)


@pytest.mark.parametrize("similarity", ["cosine", "rbf"])
def test_several_relations(similarity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: every two of three relations are contrasted, one view of each; ten points more."""
    task = blocks(nodes=120, relations=3, inside=0.25, noise=2.0)
    pairs = []
    contrast = gcool.node_contrast
    monkeypatch.setattr(
        gcool, "node_contrast", lambda *views, **more: pairs.append(views) or contrast(*views, **more)
    )
    model = start(task)
    fitted, _ = fit(tmp_path, task, model, epochs=40, temperature=0.5, similarity=similarity)
    assert len(pairs) == 3 * 40
    assert fitted.parts["communities"].assign(task.train).shape == (3, 120, 8)
    was, now = (np.mean(task.evaluate(made).values) for made in (model, fitted.model))
    assert now > was + 0.1


def test_a_graph_without_labels(tmp_path: Path) -> None:
    """Oracle: 16 communities unless told; held-out edges are told better than before."""
    task = unlabelled()
    model = start(task)
    fitted, _ = fit(tmp_path, task, model, epochs=40)
    assert fitted.metrics["communities"] == 16
    was, now = (np.mean(task.evaluate(made).values) for made in (model, fitted.model))
    assert now > was


def test_lonely_nodes_and_pieces(tmp_path: Path) -> None:
    """Oracle: a graph of two pieces and a node without edges trains to finite embeddings."""
    graph = planted_blocks(nodes=40, blocks=2, inside=0.4, outside=0.0)
    kept = (graph.edges != 0).all(0)
    task = GraphTask("pieces", graph.with_relations([graph.edges[:, kept]]))
    for centrality in ("pagerank", "degree", "eigenvector"):
        views = GraphViews(centrality=centrality)  # type: ignore[arg-type]
        fitted, _ = fit(tmp_path / centrality, task, start(task), views=views)
        assert np.isfinite(fitted.model.embed(task.train)).all()


def test_collapsed_embeddings_end_it(tmp_path: Path) -> None:
    """Oracle: a decay so large that all weights go to 0; the last healthy ones come back."""
    task = blocks(nodes=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcool, "LOOKS", 100)
        fitted, _ = fit(tmp_path, task, start(task), epochs=100, weight_decay=1e3, learning_rate=0.05)
    assert 0 < fitted.metrics["collapsed_at"] < 100
    assert fitted.model.embed(task.train).std(0).mean() > 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"communities": 1}, "communities is 1: give at least 2"),
        ({"communities": 61}, "communities is 61: give from 2 to 60, the nodes of the graph"),
        ({"communities": -1}, r"Gcool\.communities is -1; it must be at least 0"),
        ({"temperature": 0.01}, r"temperature is 0\.01; it must be at least 0\.03"),
        ({"detected_first": 1.5}, r"detected_first is 1\.5; it must be from 0 to 1"),
        ({"views": GraphViews(edges=2.0)}, r"GraphViews\.edges is 2\.0"),
        ({"epochs": 0}, r"Gcool\.epochs is 0"),
    ],
)
def test_bad_fields(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Oracle: the field and what it may be."""
    task = blocks(nodes=60)
    with pytest.raises(UsageError, match=words):
        fit(tmp_path, task, start(task), **fields)
    assert not (tmp_path / "stages").exists()


def test_what_it_costs() -> None:
    """Oracle: nodes times epochs; a trial leaves the start as it is."""
    task = blocks(nodes=60)
    model, method = start(task), Gcool(epochs=7)
    assert method.cost(task, model)["samples"] == 7 * 60
    before = model.embed(task.train)
    step, count = method.trial(task, model)
    step()
    assert count == 7 and np.array_equal(model.embed(task.train), before)


def test_the_command_line_makes_a_map(tmp_path: Path) -> None:
    """Oracle: pictures by their titles."""
    fitted = selfstudy.fit("gcool", task="blocks?nodes=60", out=tmp_path / "run", **SMALL)
    titles = [picture["title"] for picture in fitted.pictures]
    assert titles[-1].startswith("Map of the embeddings") and "Communities during training" in titles
