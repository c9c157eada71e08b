"""Probes of frozen features, against scikit-learn's and against loops."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

from selfstudy.core.errors import DataError
from selfstudy.evaluation import probes
from selfstudy.evaluation.probes import linear_probe, nearest_neighbours, recognised, ridge_probe


def groups(
    count: int = 300, width: int = 8, classes: int = 4, apart: float = 1.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features of overlapping classes, on scales from 1 to 100 and off 0, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    features = rng.normal(size=(classes, width))[labels] * apart + rng.normal(size=(count, width))
    mixed = features @ rng.normal(size=(width, width)) * np.logspace(0, 2, width) + 5
    return torch.from_numpy(mixed).float(), torch.from_numpy(labels)


def standardised(features: torch.Tensor) -> np.ndarray:
    return ((features - features.mean(0)) / features.std(0, correction=0)).double().numpy()


@pytest.mark.parametrize("penalty", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize(("count", "width", "classes"), [(300, 8, 4), (200, 8, 2), (40, 100, 3)])
def test_the_fit_is_scikit_learns(count: int, width: int, classes: int, penalty: float) -> None:
    """Oracle: LogisticRegression on standardised features, whose penalty is 1 / (C N): the same weights."""
    features, labels = groups(count, width, classes)
    probe = linear_probe(features, labels, classes, penalties=(penalty,))
    peer = LogisticRegression(C=1 / (penalty * count), tol=1e-8, max_iter=5000)
    if classes == 2:
        # Two columns of weights, W and -W, have half the penalty of one, 2W.
        peer.set_params(C=2 / (penalty * count))
    peer.fit(standardised(features), labels.numpy())
    weight = probe.weight.numpy() if classes > 2 else (probe.weight[1:] - probe.weight[:1]).numpy()
    # With more features than inputs the loss is so flat that fits which stop at 1e-7 lie further apart.
    near = 0.01 if count > width else 0.1
    np.testing.assert_allclose(weight, peer.coef_, atol=near * np.abs(peer.coef_).max())
    told = probe.predict(features).numpy()
    assert (told == peer.predict(standardised(features))).mean() > 0.995
    assert probe.penalty == penalty


def test_the_gradient_at_the_fit_is_next_to_nothing() -> None:
    """Oracle: the objective by autograd, at the weights found and around them."""
    features, labels = groups()
    probe = linear_probe(features, labels, 4, penalties=(0.01,))
    inputs = torch.from_numpy(standardised(features))
    weights = [part.double().requires_grad_() for part in (probe.weight, probe.bias)]
    loss = torch.nn.functional.cross_entropy(inputs @ weights[0].T + weights[1], labels)
    loss = loss + 0.01 / 2 * weights[0].square().sum()
    for slope in torch.autograd.grad(loss, weights):
        assert slope.abs().max() < 1e-3


def test_the_penalty_is_chosen_by_a_fifth() -> None:
    """Oracle: every penalty alone on the same four fifths, judged on it; ties by cross-entropy."""
    features, labels = groups(apart=0.5)
    fit, held = probes._held_out(labels)
    assert sorted(torch.cat([fit, held]).tolist()) == list(range(300))
    for label in range(4):
        assert abs(int((labels[held] == label).sum()) - 0.2 * int((labels == label).sum())) <= 0.5
    judged = {}
    for penalty in probes.PENALTIES:
        scores = linear_probe(features[fit], labels[fit], 4, penalties=(penalty,)).scores(features[held])
        right = (scores.argmax(1) == labels[held]).sum().item()
        judged[penalty] = (right, -torch.nn.functional.cross_entropy(scores, labels[held]).item())
    expected = max(judged, key=judged.__getitem__)
    shuffled = tuple(np.random.default_rng(0).permutation(probes.PENALTIES))
    probe = linear_probe(features, labels, 4, penalties=shuffled)
    alone = linear_probe(features, labels, 4, penalties=(expected,))
    assert probe.penalty == expected
    assert (probe.predict(features) == alone.predict(features)).float().mean() > 0.99


def test_few_and_uneven_labels_do_not_end_in_the_most_frequent_class() -> None:
    """Oracle: 16 and 4 inputs of classes that lie far apart, where the fifth is told right by almost all
    penalties, also by those under which only the most frequent class is ever told."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        labels = torch.tensor([0] * 16 + [1] * 4)
        features = torch.from_numpy(rng.normal(size=(20, 6)) + 3 * labels.numpy()[:, None]).float()
        assert (linear_probe(features, labels, 2).predict(features) == labels).all()


def test_where_nothing_can_be_held_out_the_penalty_is_the_middle_one() -> None:
    """Oracle: two inputs of each class, of which a fifth is none."""
    features, _ = groups(8)
    assert linear_probe(features, torch.arange(8) % 4, 4).penalty == sorted(probes.PENALTIES)[4]


def test_scales_and_offsets_of_features_do_not_matter() -> None:
    """Oracle: the same predictions for features of other units; a dead feature changes nothing."""
    features, labels = groups()
    told = linear_probe(features, labels, 4).predict(features)
    other = features * torch.logspace(-2, 2, 8) - 3
    assert (linear_probe(other, labels, 4).predict(other) == told).float().mean() > 0.99
    dead = torch.cat([features, torch.full((300, 1), 7.0)], 1)
    assert torch.equal(linear_probe(dead, labels, 4).predict(dead), told)


def test_classes_without_an_input_are_never_told() -> None:
    """Oracle: labels 0 and 2 of four classes; two inputs suffice."""
    features, labels = groups(classes=2)
    assert set(linear_probe(features, 2 * labels, 4).predict(features).tolist()) <= {0, 2}
    two = linear_probe(torch.eye(2), torch.tensor([0, 1]), 2)
    assert two.predict(torch.eye(2)).tolist() == [0, 1]


def test_the_time_of_a_probe() -> None:
    """Oracle: two seconds of the processor for 1,000 inputs of 64 features in ten classes; 0.1 measured."""
    features, labels = groups(1000, 64, 10)
    start = time.process_time()
    linear_probe(features, labels, 10)
    assert time.process_time() - start < 2


def test_what_cannot_be_fitted() -> None:
    """Oracle: the message names the fault and the row."""
    features, labels = groups()
    with pytest.raises(DataError, match="one class"):
        linear_probe(features, torch.zeros(300, dtype=torch.int64), 4)
    features[17, 3] = math.nan
    with pytest.raises(DataError, match="features of input 17 are not finite"):
        linear_probe(features, labels, 4)
    with pytest.raises(DataError, match="features of input 17"):
        ridge_probe(features, labels.float())
    targets = torch.zeros(300)
    targets[5] = math.inf
    with pytest.raises(DataError, match="targets of input 5"):
        ridge_probe(torch.ones(300, 2), targets)


@pytest.mark.parametrize("penalty", [1e-4, 0.1, 10.0])
@pytest.mark.parametrize(("count", "width"), [(200, 8), (20, 50)])
def test_the_ridge_is_scikit_learns(count: int, width: int, penalty: float) -> None:
    """Oracle: Ridge on standardised features, whose alpha is N times ours."""
    features, _ = groups(count, width)
    targets = torch.from_numpy(np.random.default_rng(1).normal(3, 2, count)).float()
    probe = ridge_probe(features, targets, penalties=(penalty,))
    peer = Ridge(alpha=count * penalty).fit(standardised(features), targets.double().numpy())
    np.testing.assert_allclose(probe.weight, peer.coef_, atol=1e-4)
    np.testing.assert_allclose(probe.predict(features), peer.predict(standardised(features)), atol=1e-3)


def test_the_ridge_in_its_limits() -> None:
    """Oracle: an exact line is found; pure noise gives the mean; one input gives its own target."""
    features, _ = groups()
    line = features @ torch.linspace(-1, 1, 8) + 4
    found = ridge_probe(features, line)
    assert found.penalty == min(probes.PENALTIES)
    assert (found.predict(features) - line).abs().max() < 1e-3 * line.std()
    noise = torch.from_numpy(np.random.default_rng(2).normal(3, 2, 300)).float()
    strong = ridge_probe(features, noise, penalties=(1e6,))
    torch.testing.assert_close(strong.predict(features), noise.mean().expand(300), rtol=0, atol=1e-3)
    assert ridge_probe(torch.ones(1, 3), torch.tensor([2.5])).predict(torch.zeros(1, 3)).item() == 2.5


def test_the_ridges_penalty_is_chosen_by_a_fifth() -> None:
    """Oracle: scikit-learn's Ridge for each penalty on the same four fifths, judged on the fifth."""
    features, _ = groups()
    rng = np.random.default_rng(3)
    targets = features[:, 0] / features[:, 0].std() + torch.from_numpy(rng.normal(0, 3, 300)).float()
    fit, held = probes._held_out(torch.zeros(300))
    mean, deviation = features[fit].mean(0), features[fit].std(0, correction=0)
    scaled = ((features - mean) / deviation).numpy()
    errors = {
        penalty: np.square(
            Ridge(alpha=len(fit) * penalty).fit(scaled[fit], targets[fit]).predict(scaled[held])
            - targets[held].numpy()
        ).mean()
        for penalty in probes.PENALTIES
    }
    assert ridge_probe(features, targets).penalty == min(errors, key=errors.__getitem__)


def plain_neighbours(
    features: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    classes: int,
    count: int,
    temperature: float,
) -> list[int]:
    told = []
    for query in queries:
        cosines = [
            float(query @ known / max(np.linalg.norm(query) * np.linalg.norm(known), 1e-12))
            for known in features
        ]
        votes = [0.0] * classes
        for at in sorted(range(len(cosines)), key=lambda place: -cosines[place])[:count]:
            votes[labels[at]] += math.exp(cosines[at] / temperature)
        told.append(int(np.argmax(votes)))
    return told


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 30),
    neighbours=st.integers(1, 40),
    temperature=st.floats(0.05, 2.0),
    seed=st.integers(0, 1000),
)
def test_neighbours_vote_as_a_loop_says(count: int, neighbours: int, temperature: float, seed: int) -> None:
    """Oracle: a plain loop over inputs."""
    rng = np.random.default_rng(seed)
    features, queries = rng.normal(size=(count, 3)), rng.normal(size=(7, 3))
    labels = rng.integers(0, 4, count)
    told = nearest_neighbours(
        torch.from_numpy(features),
        torch.from_numpy(labels),
        torch.from_numpy(queries),
        4,
        neighbours=neighbours,
        temperature=temperature,
    )
    assert told.tolist() == plain_neighbours(features, labels, queries, 4, neighbours, temperature)


def test_neighbours_are_scikit_learns() -> None:
    """Oracle: KNeighborsClassifier with the cosine and our weights, for more queries than one part."""
    features, labels = groups(500)
    queries, _ = groups(2100, seed=1)
    told = nearest_neighbours(features, labels, queries, 4, neighbours=11, temperature=0.5)
    peer = KNeighborsClassifier(
        11, metric="cosine", algorithm="brute", weights=lambda apart: np.exp((1 - apart) / 0.5)
    ).fit(features.double(), labels)
    assert (told.numpy() == peer.predict(queries.double())).mean() > 0.999


def test_recognised_views() -> None:
    """Oracle: by hand; lengths do not matter; parts of 2,048 inputs are compared with all first views."""
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert recognised(first, 3 * first).tolist() == [True, True, True]
    assert recognised(first, first[[1, 0, 2]]).tolist() == [False, False, True]
    circle = torch.linspace(0, 6, 2500)
    points = torch.stack([circle.cos(), circle.sin()], 1).double()
    assert recognised(points, points).all()
