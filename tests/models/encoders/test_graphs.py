"""Graph encoders: the two layers, what they do not depend on, and what is saved with them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.graphs import cleaned, planted_blocks
from selfstudy.models.encoders.communities import GraphCommunities
from selfstudy.models.encoders.graphs import GraphEncoder

SMALL = {"hidden": 8, "width": 4}


def blocks(**fields):
    return planted_blocks(**{"nodes": 40, "features": 6, "inside": 0.3, **fields})


def sparse_blocks():
    graph = blocks()
    kept = np.where(graph.features > 0.5, graph.features, 0)
    return cleaned("sparse", sparse.csr_array(kept), graph.relations)


@pytest.mark.parametrize("graph", [blocks(), sparse_blocks()], ids=["dense", "sparse"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_two_layers(graph, activation: str) -> None:
    """Oracle: act(A act(A X W1 + b1) W2 + b2) by dense algebra, X scaled by hand."""
    model = GraphEncoder(activation=activation, **SMALL).made_for(graph)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1
    A = np.eye(40)
    A[tuple(graph.edges)] = A[tuple(graph.edges[::-1])] = 1
    scale = A.sum(1) ** -0.5
    A = scale[:, None] * A * scale
    if sparse.issparse(graph.features):
        X = graph.features.toarray()
        X = X / np.linalg.norm(X, axis=1, keepdims=True).clip(min=1e-3)
    else:
        X = (graph.features - graph.features.mean(0)) / graph.features.std(0)
    layers = model.layers[0]
    slopes = [act.weight.item() if activation == "prelu" else 0.0 for act in layers.activations]
    hidden = X
    for weight, bias, slope in (
        (layers.first, layers.first_bias, slopes[0]),
        (layers.second, layers.second_bias, slopes[1]),
    ):
        hidden = A @ hidden @ weight.detach().numpy() + bias.detach().numpy()
        hidden = np.where(hidden > 0, hidden, slope * hidden)
    found = model.embed(graph)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, hidden, rtol=1e-4, atol=1e-5)


def test_the_order_of_nodes_does_not_matter() -> None:
    """Oracle: an equivariance: permuted nodes give permuted embeddings."""
    graph = blocks()
    order = np.random.default_rng(0).permutation(40)
    place = np.argsort(order)
    moved = cleaned("moved", graph.features[order], [place[graph.edges]])
    model = GraphEncoder(**SMALL).made_for(graph)
    np.testing.assert_allclose(model.embed(moved), model.embed(graph)[order], rtol=1e-4, atol=1e-6)


def test_hidden_features_are_not_seen() -> None:
    """Oracle: the graph with these features at their mean, which is 0 once scaled; and gradients of 0."""
    graph = blocks()
    model = GraphEncoder(**SMALL).made_for(graph)
    seen = torch.tensor([1.0, 0, 1, 1, 0, 1])
    adjacency = model.propagations(graph)[0]
    found = model(model.prepared(graph.features), adjacency, seen)
    hidden = np.where(seen.numpy() > 0, graph.features, graph.features.mean(0))
    torch.testing.assert_close(found, model(model.prepared(hidden), adjacency), rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert not model.layers[0].first.grad[seen == 0].any() and model.layers[0].first.grad[seen > 0].any()


def test_it_embeds_another_graph_with_the_same_features(tmp_path: Path) -> None:
    """Oracle: saved, loaded and applied it gives the same; statistics are of the graph it was made for."""
    model = GraphEncoder(**SMALL, seed=3).made_for(blocks())
    other = blocks(nodes=60, seed=1)
    model.save(tmp_path / "model")
    again = selfstudy.model(str(tmp_path / "model"))
    assert isinstance(again, GraphEncoder) and again.config == model.config
    assert np.array_equal(again.embed(other), model.embed(other)) and model.embed(other).shape == (60, 4)
    assert again.made_for(other) is again
    geometric = SimpleNamespace(  # as a Data of torch_geometric
        x=torch.from_numpy(other.features), edge_index=torch.from_numpy(other.edges)
    )
    assert np.array_equal(model.embed(geometric), model.embed(other))


def test_several_relations_are_averaged() -> None:
    """Oracle: the mean over relations, each with its own layers."""
    graph = blocks(relations=2)
    model = GraphEncoder(**SMALL).made_for(graph)
    inputs, adjacency = model.prepared(graph.features), model.propagations(graph)
    by_relation = [model(inputs, matrix, relation=at).detach().numpy() for at, matrix in enumerate(adjacency)]
    assert not np.allclose(*by_relation)
    np.testing.assert_allclose(model.embed(graph), np.mean(by_relation, axis=0), rtol=1e-6)


def test_what_does_not_fit_is_named() -> None:
    """Oracle: the numbers of the two graphs; fields out of range."""
    model = GraphEncoder(**SMALL).made_for(blocks())
    with pytest.raises(UsageError, match="6 features and 1 relations; those of 'blocks' have 5 features"):
        model.made_for(blocks(features=5))
    with pytest.raises(DataError, match="has 6 features and 2 relations; this encoder takes 6 and 1"):
        model.embed(blocks(relations=2))
    with pytest.raises(DataError, match="A graph is asked for, not a ndarray"):
        model.embed(np.ones((3, 3)))
    with pytest.raises(UsageError, match="'tanh' of model 'gcn' is none of relu and prelu"):
        GraphEncoder(activation="tanh")
    with pytest.raises(UsageError, match="width 0"):
        GraphEncoder(width=0)


def test_communities_are_saved_with_their_encoder(tmp_path: Path) -> None:
    """Oracle: memberships that sum to 1, the same after loading."""
    graph = blocks(relations=2)
    encoder = GraphEncoder(**SMALL).made_for(graph)
    model = GraphCommunities(encoder=encoder.config, communities=3, projection=5, seed=1)
    found = model.assign(graph)
    assert found.shape == (2, 40, 3)
    torch.testing.assert_close(found.sum(2), torch.ones(2, 40))
    model.save(tmp_path / "communities")
    assert torch.equal(GraphCommunities.load(tmp_path / "communities").assign(graph), found)
    lengths = model.projected(encoder.embed_graph(graph)).norm(dim=1)
    torch.testing.assert_close(lengths.detach(), torch.ones(40))
