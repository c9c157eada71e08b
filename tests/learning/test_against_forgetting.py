"""Importance of weights, distance of features, and a memory of windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from selfstudy.learning.against_forgetting import (
    Importance,
    balanced_memory,
    feature_guard,
    importance_guard,
    memory_importance,
)
from selfstudy.models.language.bytes import byte_lm

TOKENS = torch.arange(24).reshape(3, 8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_importance_is_the_slope_of_the_squared_length_of_the_scores(tmp_path: Path) -> None:
    """Oracle: a finite difference in one weight; two equal batches weigh as one; earlier tasks add up."""
    model = byte_lm(layers=1, width=8, context=8)
    found = memory_importance(model, [TOKENS, TOKENS])
    weight = model.module.model.norm.weight

    def length() -> float:
        with torch.no_grad():
            return float(model.module(input_ids=TOKENS).logits.double().square().sum(-1).mean())

    values, gap = [], 1e-2
    for sign in (1, -1):
        with torch.no_grad():
            weight[3] += sign * gap
            values.append(length())
            weight[3] -= sign * gap
    slope = abs(values[0] - values[1]) / (2 * gap)
    assert float(found.by_weight["model.norm.weight"][3]) == pytest.approx(slope, rel=1e-3)
    twice = memory_importance(model, [TOKENS], found)
    torch.testing.assert_close(twice.by_weight["model.norm.weight"], 2 * found.by_weight["model.norm.weight"])
    found.save(tmp_path)
    loaded = Importance.load(tmp_path)
    assert all(torch.equal(loaded.by_weight[name], value) for name, value in found.by_weight.items())


def test_guards_are_nothing_at_the_start_and_grow_from_there() -> None:
    """Oracle: MAS is importance times the squared way; both are 0 where nothing has moved."""
    start = byte_lm(layers=1, width=8, context=8)
    moved = start.copy()
    with torch.no_grad():
        moved.module.model.norm.weight += 0.5
    ones = Importance({name: torch.full_like(w, 3.0) for name, w in start.module.named_parameters()})
    guard, features = importance_guard(ones, start), feature_guard(start)
    for model, far in ((start, False), (moved, True)):
        with torch.no_grad():
            hidden = model.module(input_ids=TOKENS, output_hidden_states=True).hidden_states[-1]
            importance, distance = (float(g(model.module, TOKENS, hidden)) for g in (guard, features))
        assert importance == pytest.approx(3.0 * 8 * 0.25 * far)
        assert (distance > 1e-3) == far


def test_the_memory_is_shared_evenly() -> None:
    """Oracle: a third each, and every window inside its task."""
    found = balanced_memory([20, 30, 25], 31, 9, lambda task: np.random.default_rng(task))
    assert [len(starts) for starts in found] == [10, 10, 10]
    assert all(
        starts.min() >= 0 and starts.max() <= n - 9 for starts, n in zip(found, [20, 30, 25], strict=True)
    )
