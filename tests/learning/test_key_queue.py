"""The queue of keys: what is in it, and what follows what."""

from __future__ import annotations

import torch
from torch import nn

from selfstudy.learning.key_queue import KeyQueue


def queue(network: nn.Module, **changed: float) -> KeyQueue:
    return KeyQueue(network, **{"size": 4, "width": 3, "key": 8, "keep": 0.9, **changed})  # type: ignore[arg-type]


def test_the_newest_come_first_and_the_oldest_go() -> None:
    """Oracle: two batches of three in a queue of four, written out; rows of length 1."""
    made = queue(nn.Linear(2, 3))
    assert torch.allclose(made.keys.norm(dim=1), torch.ones(4))
    first, second = torch.eye(3), 5 * torch.eye(3).flip(0)
    made.push(first)
    made.push(second)
    assert torch.equal(made.keys, torch.cat((torch.eye(3).flip(0), torch.eye(3)[:1])))


def test_the_slow_copy_follows() -> None:
    """Oracle: 0.9 of its weights and 0.1 of the network's, before it embeds; without gradient."""
    network = nn.Linear(2, 3)
    made = queue(network)
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    found = made.embed(torch.ones(1, 2), network)
    expected = start + 0.1
    assert torch.allclose(made.network.weight, expected)
    assert torch.allclose(found, torch.ones(1, 2) @ expected.T + network.bias) and not found.requires_grad
    assert not any(weight.requires_grad for weight in made.parameters())


def test_a_state_goes_on() -> None:
    """Oracle: the queue that was not saved and loaded."""
    network = nn.Linear(2, 3)
    made, other = queue(network), queue(network, key=9)
    made.push(torch.eye(3))
    other.load_state_dict(made.state_dict())
    assert torch.equal(made.keys, other.keys)
