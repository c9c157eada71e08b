"""The networks of workloads: shapes, what a detail changes, and what must not be seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from selfstudy.models.workload_networks import (
    CharacterDecoder,
    HashedTable,
    NodeConvolutions,
    WordLstm,
    convolutions,
    drawn,
    perceptron,
)


def test_first_weights_are_named() -> None:
    """Oracle: the same key again, and torch's own generator, which must not move."""
    before = torch.random.get_rng_state()
    first, again, other = (drawn(key, lambda: perceptron(4, 2, width=8)) for key in (5, 5, 9))
    assert torch.equal(before, torch.random.get_rng_state())
    weights = [next(made.parameters()) for made in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_details() -> None:
    """Oracle: the kinds of layers that are there."""

    def kinds(made: nn.Module) -> set[str]:
        return {type(part).__name__ for part in made}  # type: ignore[attr-defined]

    assert {"BatchNorm1d", "ReLU"} <= kinds(perceptron(4, 2))
    plain = kinds(perceptron(4, 2, activation="tanh", normalised=False))
    assert "Tanh" in plain
    assert not {"BatchNorm1d", "ReLU"} & plain
    assert "BatchNorm2d" not in kinds(convolutions(1, 2, normalised=False))
    assert convolutions(1, 3, first=4, stages=3)(torch.zeros(2, 1, 14, 14)).shape == (2, 3)


def test_a_character_sees_none_that_follow() -> None:
    """Oracle: scores at a place do not change with what is after it, before and after normalisation."""
    texts = torch.randint(0, 12, (2, 9), generator=torch.Generator().manual_seed(0))
    other = texts.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 12
    for pre_norm in (True, False):
        made = drawn(3, lambda pre_norm=pre_norm: CharacterDecoder(12, 16, width=8, pre_norm=pre_norm)).eval()  # type: ignore[misc]
        first, second = made(texts), made(other)
        assert first.shape == (2, 9, 12)
        assert torch.allclose(first[:, :5], second[:, :5], atol=1e-6)
        assert not torch.allclose(first[:, 5:], second[:, 5:], atol=1e-3)


def test_what_fills_a_text_does_not_count() -> None:
    """Oracle: the same text with a longer end."""
    made = drawn(0, lambda: WordLstm(20, 3, width=8))
    text = torch.tensor([[4, 7, 2, 0, 0]])
    assert torch.allclose(made(text), made(text[:, :4]), atol=1e-6)
    assert made(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 3)


def test_rows_of_numbers_and_buckets() -> None:
    """Oracle: a row by hand: the number, then the vectors of its buckets, into the layers."""
    made = drawn(1, lambda: HashedTable(1, 2, 6, 2, embedded=3, width=4, normalised=False))
    row = torch.tensor([[0.5, 4.0, 1.0]])
    inside = torch.cat([torch.tensor([0.5]), *made.get_parameter("embedding.weight")[[4, 1]]])
    assert torch.allclose(made(row), made.network(inside[None]))  # type: ignore[operator]


def test_graph_convolutions() -> None:
    """Oracle: both layers in dense algebra."""
    random = np.random.default_rng(0)
    features = torch.from_numpy(random.random((4, 5)).astype(np.float32))
    adjacency = torch.from_numpy(random.random((4, 4)).astype(np.float32))
    made = NodeConvolutions(features.to_sparse(), adjacency.to_sparse(), 3, width=6)
    hidden = torch.relu(adjacency @ (features @ made.first))
    wanted = (adjacency @ made.second(hidden))[torch.tensor([2, 0])]
    assert torch.allclose(made(torch.tensor([2, 0])), wanted, atol=1e-6)
