"""The proxy's training: its gradient, its draws, and its guards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.random import generator
from selfstudy.search.proxy_tasks import PerceptronProxy, fitness_of, standardised
from selfstudy.search.update_programs import ADAMW, LION, parse_program

HEAD = "def train(w, g, m, v, lr):\n"


def proxy(**fields: Any) -> PerceptronProxy:
    rng = generator("proxy test")
    inputs = rng.standard_normal((80, 4))
    labels = torch.tensor((inputs[:, 0] * inputs[:, 1] > 0).astype(int))
    train, held = standardised(inputs[:50], inputs[50:])
    given: dict[str, Any] = {"hidden": 6, "steps": 30, "batch": 16, "name": "xor", **fields}
    return PerceptronProxy(train=(train, labels[:50]), held=(held, labels[50:]), **given)


def test_a_training_is_that_of_torch() -> None:
    """Oracle: two linear layers of torch with plain gradient descent along half a cosine, same batches."""
    task = proxy()
    program = parse_program(
        HEAD + "  r = multiply(lr, 0.5)\n  update = multiply(g, r)\n  return update, m, v"
    )
    first, order = task._start(3)
    layers = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)
    with torch.no_grad():
        parts = first.split(task.sizes)
        layers[0].weight.copy_(parts[0].view(4, 6).T)
        layers[0].bias.copy_(parts[1])
        layers[1].weight.copy_(parts[2].view(6, 2).T)
        layers[1].bias.copy_(parts[3])
    net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for step in range(30):
        optimizer.param_groups[0]["lr"] = 0.5 * (1 + math.cos(math.pi * step / 30)) / 2
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            net(task.train[0][order[step]]), task.train[1][order[step]]
        ).backward()
        optimizer.step()
    wanted = torch.nn.functional.cross_entropy(net(task.held[0]), task.held[1]).item()
    assert task.loss(program, 3) == pytest.approx(wanted, abs=1e-5)


def test_losses_depend_on_the_seed_alone() -> None:
    """Oracle: the same figure from another object; another figure for another seed."""
    assert proxy().loss(LION, 1) == proxy().loss(LION, 1) != proxy().loss(LION, 2)


def test_batches_are_passes_over_the_data() -> None:
    """Oracle: every input once in each pass of 50."""
    _, order = proxy()._start(0)
    assert sorted(order.reshape(-1)[:50]) == list(range(50)) and order.shape == (30, 16)


def test_a_training_that_comes_to_nothing() -> None:
    """Oracle: infinite where weights are no numbers, and where the clock has run out."""
    text = HEAD + "  x = log(g)\n  update = multiply(x, lr)\n  return update, m, v"
    assert proxy().loss(parse_program(text), 0) == math.inf
    assert proxy(seconds=0.0).loss(ADAMW, 0) == math.inf
    assert fitness_of([proxy()], (0, 1))(parse_program(text)) == -math.inf


def test_fitness_is_the_mean() -> None:
    """Oracle: the losses one by one."""
    losses = [task.loss(ADAMW, seed) for task in (proxy(), proxy(hidden=5)) for seed in (0, 4)]
    assert fitness_of([proxy(), proxy(hidden=5)], (0, 4))(ADAMW) == -np.mean(losses)


def test_what_a_training_costs() -> None:
    """Oracle: 30 steps of 16 inputs; six operations a weight of the two matrices and an input."""
    assert proxy().samples == 480 and proxy().flops == 6 * 480 * (4 * 6 + 6 * 2)


def test_standardised() -> None:
    """Oracle: mean 0 and deviation 1 of the first; a constant column is divided by no 0."""
    rng = generator("scale")
    inputs = np.concatenate([5 + 3 * rng.standard_normal((50, 2)), np.ones((50, 1))], axis=1)
    found, same = standardised(inputs, inputs)
    assert torch.allclose(found[:, :2].std(0, correction=0), torch.ones(2), atol=1e-5)
    assert torch.equal(found, same) and torch.equal(found[:, 2], torch.zeros(50))
