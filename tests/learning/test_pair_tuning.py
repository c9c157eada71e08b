"""Pairs, their loss and weights, the adapter and its logistic head, Monte Carlo passes."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from selfstudy.core.errors import UsageError
from selfstudy.learning.pair_tuning import (
    PairTuning,
    draw_pairs,
    dropout_passes,
    pair_loss,
    scaled,
    self_training_rounds,
    set_logistic,
    starting_adapter,
    tune_adapter,
)
from selfstudy.models.encoders.feature_heads import AdapterHead


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_pairs(labels: list[int], rounds: int, seed: int) -> None:
    """Oracle: laws. Each item is first in R pairs of its class and in R across, with itself only where it is
    alone; targets say which; a single class has no pairs across."""
    known = np.array(labels)
    found = draw_pairs(known, rounds, np.random.default_rng(seed))
    several = len(set(labels)) > 1
    assert len(found.first) == (2 if several else 1) * rounds * len(labels)
    same = known[found.first] == known[found.second]
    assert np.array_equal(found.targets, same.astype(np.float32)) and found.targets.dtype == np.float32
    for kind in (True, False) if several else (True,):
        assert Counter(found.first[same == kind].tolist()) == dict.fromkeys(range(len(labels)), rounds)
    sizes = Counter(labels)
    itself = found.first == found.second
    assert all(sizes[known[place]] == 1 for place in found.first[itself])
    assert all(itself[at] for at in np.flatnonzero(same) if sizes[known[found.first[at]]] == 1)


def test_the_other_item_is_drawn_uniformly() -> None:
    """Oracle: counts of a binomial: within the class each of the others, across each item of another."""
    labels = np.array([0, 1, 0, 2, 0, 1])
    found = draw_pairs(labels, 6000, np.random.default_rng(0))
    of_first = found.first == 2
    for target, others in ((1.0, [0, 4]), (0.0, [1, 3, 5])):
        counts = Counter(found.second[of_first & (found.targets == target)].tolist())
        assert sorted(counts) == others
        assert all(abs(count - 6000 / len(others)) < 5 * 6000**0.5 / 2 for count in counts.values())
    assert len(set(found.targets[:20].tolist())) == 2, "the order is not drawn"


@pytest.mark.parametrize(
    ("labelled", "pseudo", "rounds"), [(100, 0, 5), (100, 900, 1), (100, 25, 4), (30, 20, 3), (30, 10_000, 1)]
)
def test_rounds_of_self_training(labelled: int, pseudo: int, rounds: int) -> None:
    """Oracle: max(1, ceil(10 l / (2 (l + n)))) by hand."""
    assert self_training_rounds(labelled, pseudo) == rounds
    assert PairTuning(pairs=None).pair_count(labelled, pseudo) == 2 * rounds * (labelled + pseudo)
    assert PairTuning(pairs=640).pair_count(labelled, pseudo) == 640


def test_loss_of_pairs() -> None:
    """Oracle: by hand. Cosines of 1, 0 and -1 against targets of 0, 0 and 1, weighed 2, 5 and 1."""
    u = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
    v = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    found = pair_loss(u, v, torch.tensor([0.0, 0.0, 1.0]), torch.tensor([2.0, 5.0, 1.0]))
    assert found.item() == pytest.approx((2 * 1 + 5 * 0 + 1 * 4) / 3)


def test_weights_are_scaled() -> None:
    """Oracle: a mean of 1, or a sum of 1; proportions stay."""
    weights = np.array([1.0, 1.0, 0.5])
    assert scaled(weights, "mean").mean() == pytest.approx(1) and scaled(
        weights, "sum"
    ).sum() == pytest.approx(1)
    assert scaled(weights, "sum")[2] / scaled(weights, "sum")[0] == pytest.approx(0.5)


def made(count: int = 60, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Three classes that differ in 3 of 20 directions, which are quieter than the others."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    features = rng.normal(size=(count, 20))
    features[:, :3] = 0.5 * rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels]
    return torch.from_numpy(features.astype(np.float32)), labels


def tuned(
    labels: np.ndarray, features: torch.Tensor, weights: np.ndarray | None = None, **more: Any
) -> AdapterHead:
    settings_of = PairTuning(adapted=20, learning_rate=1e-2)
    start = starting_adapter(features, 3, settings_of)
    weights = np.ones(len(labels)) if weights is None else weights
    fields = {"pairs": 1200, **more}
    return tune_adapter(start, features, labels, weights, settings_of, np.random.default_rng(1), **fields)


def test_tuning_brings_classes_together() -> None:
    """Oracle: on new items of the same classes cosines within a class rise over those across."""
    features, labels = made()
    fresh, truth = made(300, seed=1)
    head = tuned(labels, features, pairs=6400)
    same = torch.from_numpy(truth[:, None] == truth[None])

    def gap(vectors: torch.Tensor) -> float:
        cosines = torch.nn.functional.normalize(vectors, dim=1)
        cosines = cosines @ cosines.T
        return float(cosines[same].mean() - cosines[~same].mean())

    with torch.no_grad():
        assert gap(head.adapt(fresh)) > gap(fresh) + 0.1


def test_a_fit_is_a_function_of_its_start_and_generator() -> None:
    """Oracle: the same weights again, bit for bit; the start stays as it was."""
    features, labels = made()
    start = starting_adapter(features, 3, PairTuning(adapted=8))
    before = {name: value.clone() for name, value in start.state_dict().items()}
    fits = [
        tune_adapter(
            start, features, labels, np.ones(60), PairTuning(), np.random.default_rng(seed), pairs=300
        )
        for seed in (0, 0, 1)
    ]
    one, same, other = (fit.state_dict() for fit in fits)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(before[name], value) for name, value in start.state_dict().items())


def test_a_step_by_hand() -> None:
    """Oracle: one step of AdamW on the loss of the same pairs, written out; a pair weighs the mean of its
    items' scaled weights. Other weights give another adapter."""
    features, labels = made(40)
    weights = np.linspace(0.1, 3, 40)
    plan = PairTuning(adapted=20, learning_rate=1e-2, batch=160)
    start = starting_adapter(features, 3, plan)
    found = tune_adapter(start, features, labels, weights, plan, np.random.default_rng(4), pairs=160)
    pairs = draw_pairs(labels, 2, np.random.default_rng(4))
    assert len(pairs.first) == 160
    by_hand = copy.deepcopy(start)
    optimizer = torch.optim.AdamW(by_hand.adapter.parameters(), lr=1e-2, weight_decay=0.01)
    loss = torch.zeros(())
    for a, b, target in zip(*(column.tolist() for column in pairs), strict=True):
        u, v = by_hand.adapter(features[a]), by_hand.adapter(features[b])
        weight = (weights[a] + weights[b]) / 2 / weights.mean()
        loss = loss + weight * (u @ v / u.norm() / v.norm() - target) ** 2 / 160
    loss.backward()
    torch.nn.utils.clip_grad_norm_(by_hand.adapter.parameters(), 1.0)
    optimizer.step()
    assert torch.allclose(found.adapter.weight, by_hand.adapter.weight, atol=1e-4)
    even = tune_adapter(start, features, labels, np.ones(40), plan, np.random.default_rng(4), pairs=160)
    assert not torch.allclose(found.adapter.weight, even.adapter.weight, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_logistic_head(classes: int, weighted: bool) -> None:
    """Oracle: scikit-learn's probabilities, to the tolerance of both; a class without items is never told."""
    features, labels = made()
    labels = np.where(labels == 2, 0, labels) if classes == 2 else labels
    weights = np.random.default_rng(0).random(60) if weighted else None
    linear = torch.nn.Linear(20, 5)
    set_logistic(linear, features.numpy(), labels + 1, weights)
    mean_one = None if weights is None else weights / weights.mean()
    wanted = LogisticRegression(max_iter=1000).fit(features.numpy(), labels, sample_weight=mean_one)
    with torch.no_grad():
        found = linear(features).softmax(1).numpy()
    assert np.allclose(found[:, 1 : classes + 1], wanted.predict_proba(features.numpy()), atol=5e-4)
    assert found[:, 0].max() < 1e-6


def test_a_single_class_is_told_everywhere() -> None:
    """Oracle: by hand."""
    features, _ = made()
    head = tuned(np.full(60, 1), features)
    assert (head(features).argmax(1) == 1).all()


def test_the_start_keeps_the_features() -> None:
    """Oracle: as many directions as the features have keep all cosines; fewer keep those of the largest."""
    features, _ = made()
    unit = torch.nn.functional.normalize(features, dim=1)
    with torch.no_grad():
        whole = starting_adapter(features, 3, PairTuning(adapted=50)).adapt(features)
        assert torch.allclose(whole @ whole.T, unit @ unit.T, atol=1e-5)
        low = features @ torch.diag(torch.tensor([5.0, 5.0] + [1e-4] * 18))
        kept = starting_adapter(low, 3, PairTuning(adapted=2)).adapt(low)
        lower = torch.nn.functional.normalize(low, dim=1)
        assert torch.allclose(kept @ kept.T, lower @ lower.T, atol=1e-3)


def test_monte_carlo_passes() -> None:
    """Oracle: without dropout each pass is the head itself; with it the passes differ, and the share of
    features left out, seen through a head that counts them, is what was asked for."""
    features, labels = made()
    head = tuned(labels, features)
    plain = head(features).softmax(1)
    still = dropout_passes(head, features, 3, 0.0, np.random.default_rng(0))
    assert all(torch.allclose(still[:, t], plain, atol=1e-6) for t in range(3))
    moved = dropout_passes(head, features, 40, 0.3, np.random.default_rng(0))
    assert moved.shape == (60, 40, 3) and (moved.var(1) > 0).any()
    assert torch.equal(moved, dropout_passes(head, features, 40, 0.3, np.random.default_rng(0)))

    class Counting(torch.nn.Module):
        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            shares = (seen == 0).float().mean(1, keepdim=True)
            assert torch.allclose(seen[seen != 0], torch.tensor(1 / 0.7))
            return torch.cat([shares, 1 - shares], 1).log()

    seen = dropout_passes(Counting(), torch.ones(2, 500), 20, 0.3, np.random.default_rng(0))  # type: ignore[arg-type]
    assert abs(float(seen[:, :, 0].mean()) - 0.3) < 0.03


def test_dropout_in_training_changes_the_fit() -> None:
    """Oracle: the same pairs with features left out give another adapter."""
    features, labels = made()
    one, other = tuned(labels, features), tuned(labels, features, dropout=0.5)
    assert not torch.equal(one.adapter.weight, other.adapter.weight)


@pytest.mark.parametrize(
    "fields",
    [
        {"pairs": 0},
        {"batch": 0},
        {"adapted": 0},
        {"dropout": 1.0},
        {"head_scale": 0.0},
        {"weight_decay": -1.0},
    ],
)
def test_fields_that_cannot_be(fields: dict[str, Any]) -> None:
    """Oracle: each is named."""
    with pytest.raises(UsageError, match=next(iter(fields)).replace("_", "[-_]")):
        PairTuning(**fields).validate()
