"""HAST's vote and weights, thresholds, and how a selection ends."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.signals.evidence import Evidence, PseudoLabels
from selfstudy.signals.pseudo_labels import class_weights, neighbour_vote, select


def evidence(probabilities: Any, features: Any, **more: Any) -> Evidence:
    """What is seen of items; without copies unless `groups` says so, and with two labelled ones."""
    told = torch.as_tensor(probabilities, dtype=torch.float32)
    classes = told.shape[1]
    fields: dict[str, Any] = {
        "probabilities": told,
        "features": torch.as_tensor(features, dtype=torch.float32),
        "groups": np.arange(len(told)),
        "labels": np.arange(classes),
        "labelled_probabilities": torch.eye(classes),
        "labelled_features": torch.eye(classes, torch.as_tensor(features).shape[1]),
        "passes": lambda: (told[:, None].expand(-1, 10, -1), torch.eye(classes)[:, None].expand(-1, 10, -1)),
        "verified": lambda: told.argmax(1).numpy(),
        "earlier": None,
        "progress": 0.0,
        "rng": np.random.default_rng(0),
    }
    return Evidence(**{**fields, **more})


def sure_of(labels: Any, classes: int = 2, likely: float = 0.9) -> np.ndarray:
    rest = (1 - likely) / (classes - 1)
    return np.where(np.eye(classes)[np.asarray(labels)] > 0, likely, rest)


def drawn(count: int = 200, classes: int = 3, seed: int = 0) -> Evidence:
    """Probabilities of all kinds, features that lean towards the class told."""
    rng = np.random.default_rng(seed)
    told = rng.dirichlet(np.full(classes, 0.3), count)
    features = rng.normal(size=(count, 6))
    features[:, :classes] += 2 * told
    labelled = rng.dirichlet(np.full(classes, 0.3), 12)
    return evidence(
        told,
        features,
        labels=np.arange(12) % classes,
        labelled_probabilities=torch.from_numpy(labelled).float(),
        labelled_features=torch.from_numpy(rng.normal(size=(12, 6))).float(),
        passes=lambda: (
            torch.from_numpy(told).float()[:, None].expand(-1, 4, -1),
            torch.full((12, 4, 3), 1 / 3),
        ),
    )


def test_a_vote_of_equal_labels() -> None:
    """Oracle: by hand. 15 items told the same: every share is 1; one told otherwise among them has none."""
    features = np.random.default_rng(0).normal(size=(15, 3)) + 5
    labels, share = neighbour_vote(evidence(sure_of([1] * 15), features), PseudoLabels())
    assert (labels == 1).all() and (share == 1).all()
    labels, share = neighbour_vote(evidence(sure_of([1] * 14 + [0]), features), PseudoLabels())
    assert labels[14] == 1 and share[14] == 1 and (share[:14] == 13 / 14).all()


@pytest.mark.parametrize(("agreeing", "kept"), [(7, False), (8, True)])
def test_half_of_the_neighbours_are_not_enough(agreeing: int, kept: bool) -> None:
    """Oracle: by hand. The first of 15 items has all others as neighbours; 7 of 14 agree: a share of exactly
    0.5 is rejected."""
    labels = [0] + [0] * agreeing + [1] * (14 - agreeing)
    angles = np.linspace(0, 0.5, 15)
    found, _ = select(
        evidence(sure_of(labels), np.stack([np.cos(angles), np.sin(angles)], 1)), PseudoLabels()
    )
    assert (0 in found.places) == kept


def test_the_three_conditions() -> None:
    """Oracle: by hand. An item that its neighbours contradict, one that is not likely enough, one that is."""
    rng = np.random.default_rng(0)
    features = 0.1 * rng.normal(size=(40, 2)) + np.repeat([[5.0, 0.0], [0.0, 5.0]], 20, axis=0)
    labels = np.repeat([0, 1], 20)
    told = sure_of(labels, 3, 0.8)
    told[3] = [0.1, 0.8, 0.1]  # class 1 among class 0
    told[5] = [0.5, 0.3, 0.2]  # not above 0.5
    told[7] = [0.51, 0.3, 0.19]
    found, status = select(evidence(told, features), PseudoLabels())
    assert status == "chosen" and set(range(40)) - set(found.places.tolist()) == {3, 5}
    assert found.labels.tolist() == labels[found.places].tolist()


def slowly(seen: Evidence, k: int = 15) -> tuple[list[int], list[int]]:
    """HAST's selection again, an item at a time."""
    p, x = seen.probabilities.double().numpy(), seen.features.double().numpy()
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    places = []
    for at, row in enumerate(p):
        near = np.argsort(((x - x[at]) ** 2).sum(1), kind="stable")
        votes = np.bincount([p[other].argmax() for other in near[1:k]], minlength=p.shape[1])
        if votes.argmax() == row.argmax() and row.max() > 0.5 and votes.max() / (k - 1) > 0.5:
            places.append(at)
    return places, [int(p[at].argmax()) for at in places]


@pytest.mark.parametrize("seed", range(3))
def test_against_an_item_at_a_time(seed: int) -> None:
    """Oracle: a plain second implementation."""
    seen = drawn(seed=seed)
    found, _ = select(seen, PseudoLabels())
    assert (found.places.tolist(), found.labels.tolist()) == slowly(seen) and len(found.places) > 20


@pytest.mark.parametrize("selector", ["hast", "verips", "nest", "threshold"])
def test_the_order_of_the_pool_does_not_matter(selector: Any) -> None:
    """Oracle: the same items in another order."""
    seen, chosen = drawn(), PseudoLabels(selector=selector, sure=0.7)
    order = np.random.default_rng(1).permutation(len(seen.told))
    moved = evidence(
        seen.probabilities[order],
        seen.features[order],
        labels=seen.labels,
        labelled_probabilities=seen.labelled_probabilities,
        labelled_features=seen.labelled_features,
    )
    one, other = select(seen, chosen)[0], select(moved, chosen)[0]
    assert len(one.places) and sorted(order[other.places].tolist()) == one.places.tolist()
    weights = dict(zip(order[other.places].tolist(), other.weights.tolist(), strict=True))
    assert [weights[place] for place in one.places.tolist()] == pytest.approx(one.weights.tolist())


def test_copies_do_not_vote_for_themselves() -> None:
    """Oracle: by hand. 20 copies of one text, told class 0 amid class 1, would elect each other; counted
    once, they are contradicted."""
    rng = np.random.default_rng(0)
    features = np.concatenate([np.repeat([[1.0, 1.0]], 20, axis=0), rng.normal(size=(20, 2)) * 0.1 + 1])
    told = sure_of([0] * 20 + [1] * 20)
    copies = np.concatenate([np.zeros(20, dtype=np.int64), np.arange(20, 40)])
    kept, _ = select(evidence(told, features), PseudoLabels())
    assert set(range(20)) <= set(kept.places.tolist())
    kept, _ = select(evidence(told, features, groups=copies), PseudoLabels())
    assert kept.places.tolist() == list(range(20, 40))


def test_balanced_weights() -> None:
    """Oracle: closed forms. Counts of 10 and 30: 10 sigmoid(1) and 10 sigmoid(-1/3); equal counts: 5."""
    found = class_weights(np.repeat([0, 1], [10, 30]), 2)
    assert found[:10] == pytest.approx(7.311, abs=5e-4) and found[10:] == pytest.approx(4.174, abs=5e-4)
    assert class_weights(np.repeat([0, 1, 2], 7), 3).tolist() == [5.0] * 21
    assert class_weights(np.array([0, 1, 1]), 2, balanced=False).tolist() == [1.0] * 3


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_bounds_of_weights(labels: list[int]) -> None:
    """Oracle: 10 sigmoid(-1) = 2.689... < alpha < 10, and rarer classes weigh more."""
    found = class_weights(np.array(labels), 5)
    assert (found > 2.689).all() and (found <= 10).all()
    counts = np.bincount(labels, minlength=5)[labels]
    assert (np.diff(found[np.argsort(counts, kind="stable")]) <= 1e-12).all()


def test_weights_of_a_selection() -> None:
    """Oracle: by hand: beta alpha for a pseudo-label, 1 for a label; a threshold weighs them the same."""
    seen = drawn()
    found, _ = select(seen, PseudoLabels(weight=0.2))
    assert found.weights == pytest.approx(0.2 * class_weights(found.labels, 3))
    assert found.labelled_weights.tolist() == [1.0] * 12
    above, _ = select(seen, PseudoLabels(selector="threshold", sure=0.8))
    assert above.places.tolist() == np.flatnonzero(seen.probabilities.max(1).values > 0.8).tolist()
    assert set(above.weights.tolist()) == {1.0}


def test_how_a_selection_ends() -> None:
    """Oracle: by hand: none passed, one class alone, none wanted."""
    seen = drawn(40)
    flat = evidence(np.full((40, 3), 1 / 3) + 0.01 * np.eye(3)[np.arange(40) % 3], seen.features)
    for chosen, shown, status in (
        (PseudoLabels(), flat, "none_passed"),
        (PseudoLabels(), evidence(sure_of([1] * 40, 3), seen.features), "one_class"),
        (PseudoLabels(selector="threshold"), evidence(sure_of([1] * 40, 3), seen.features), "one_class"),
        (PseudoLabels(selector="none"), seen, "chosen"),
    ):
        found, said = select(shown, chosen)
        assert said == status and not len(found.places) and not len(found.weights)
        assert found.labelled_weights.tolist() == [1.0] * len(shown.labels)


@pytest.mark.parametrize(("count", "voters"), [(10, 9), (2, 1), (1, 0)])
def test_a_pool_that_is_too_small(count: int, voters: int) -> None:
    """Oracle: all others vote, and it is said; alone there is no vote."""
    features = np.random.default_rng(0).normal(size=(count, 3))
    with pytest.warns(UserWarning, match=f"{count} different unlabelled items, too few.*: {voters} vote"):
        _, share = neighbour_vote(evidence(sure_of([1] * count), features), PseudoLabels())
    assert (share == (1 if voters else 0)).all()


def test_enough_items_are_not_worth_a_warning() -> None:
    """Oracle: 15 items have 14 others."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neighbour_vote(evidence(sure_of([1] * 15), np.eye(15)), PseudoLabels())


@pytest.mark.parametrize(
    "fields",
    [{"neighbours": 1}, {"passes": 1}, {"vote": 1.5}, {"confidence": -1.0}, {"sure": 2.0}, {"weight": 0.0}],
)
def test_fields_that_cannot_be(fields: dict[str, Any]) -> None:
    """Oracle: each is named."""
    with pytest.raises(UsageError, match=next(iter(fields))):
        PseudoLabels(**fields).validate()
