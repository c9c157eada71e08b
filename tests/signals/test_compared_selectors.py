"""The strategies that HAST is compared with: closed forms, laws, and plain second implementations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from selfstudy.signals.compared_selectors import least_uncertain, neighbour_divergence, variance_weights
from selfstudy.signals.evidence import Evidence, PseudoLabels
from selfstudy.signals.pseudo_labels import select


def evidence(count: int = 300, classes: int = 3, seed: int = 0, sharp: float = 0.2, **more: Any) -> Evidence:
    rng = np.random.default_rng(seed)

    def told(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.dirichlet(np.full(classes, sharp), shape)).float()

    probabilities, labelled = told(count), told(12)
    many = told(count, 10), told(12, 10)
    fields: dict[str, Any] = {
        "probabilities": probabilities,
        "features": torch.from_numpy(rng.normal(size=(count, 5))).float(),
        "groups": np.arange(count),
        "labels": np.arange(12) % classes,
        "labelled_probabilities": labelled,
        "labelled_features": torch.from_numpy(rng.normal(size=(12, 5))).float(),
        "passes": lambda: many,
        "verified": lambda: probabilities.argmax(1).numpy(),
        "earlier": None,
        "progress": 0.0,
        "rng": np.random.default_rng(seed + 1),
    }
    return Evidence(**{**fields, **more})


# UST


def test_weights_of_variances() -> None:
    """Oracle: closed forms. No variance: 0.1 log(1e8); a variance of e^-4 or more: 0.4; e^-5: 0.5."""

    def passes(variance: float) -> torch.Tensor:
        p = torch.full((1, 10, 2), 0.5)
        p[0, ::2, 0] += math.sqrt(variance)
        p[0, 1::2, 0] -= math.sqrt(variance)
        return p

    found = [variance_weights(passes(v), np.array([0]))[0] for v in (0.0, math.exp(-5), math.exp(-4), 0.25)]
    assert found == pytest.approx([0.1 * math.log(1e8), 0.5, 0.4, 0.4], abs=1e-5)


def test_ust_draws_as_many_of_each_class() -> None:
    """Oracle: laws. 30 C items, once each, all classes even with the labelled ones; weights of both kinds are
    those of variances; its student is trained with dropout."""
    seen = evidence(600, labels=np.array([0] * 8 + [1] * 3 + [2]))
    found, status = select(seen, PseudoLabels(selector="ust"))
    assert status == "chosen" and found.dropout and len(set(found.places.tolist())) == 90 == len(found.places)
    counts = np.bincount(found.labels) + np.bincount(seen.labels)
    assert counts.tolist() == [34, 34, 34]
    passes, labelled = seen.passes()
    assert (passes.mean(1).argmax(1).numpy()[found.places] == found.labels).all()
    assert found.weights == pytest.approx(variance_weights(passes[found.places], found.labels))
    assert found.labelled_weights == pytest.approx(variance_weights(labelled, seen.labels))


def test_ust_prefers_what_passes_agree_on() -> None:
    """Oracle: by hand. Of two halves alike but for their passes - equal ones, or sure of one class and of
    another in turn, with a BALD of 1 bit - only the first is ever drawn."""
    easy = torch.tensor([0.9, 0.1]).expand(200, 10, 2).clone()
    easy[100:] = torch.eye(2).repeat(5, 1)
    easy[::2] = easy[::2].flip(2)
    seen = evidence(200, 2, labels=np.array([0, 1]), passes=lambda: (easy, easy[:2]))
    found, _ = select(seen, PseudoLabels(selector="ust"))
    assert len(found.places) == 60 and found.places.max() < 100


# AcTune


def test_actune_takes_five_of_five_regions() -> None:
    """Oracle: 25 where regions are large; weights 1 / l and 1 / n."""
    found, _ = select(evidence(800), PseudoLabels(selector="actune"))
    assert len(found.places) == 25 and found.weights == pytest.approx(1 / 25)
    assert found.labelled_weights == pytest.approx(1 / 12)


def test_actune_looks_at_sure_items_alone() -> None:
    """Oracle: by hand: where no probability exceeds 0.6 there is none; else all are above."""
    flat = torch.full((50, 3), 0.3)
    flat[torch.arange(50), torch.arange(50) % 3] = 0.4
    _, status = select(evidence(50, probabilities=flat), PseudoLabels(selector="actune"))
    assert status == "none_passed"
    seen = evidence(800)
    found, _ = select(seen, PseudoLabels(selector="actune"))
    assert (seen.probabilities[found.places].max(1).values > 0.6).all()


def test_regions_by_hand() -> None:
    """Oracle: by hand. Seven regions by mean uncertainty and mixture of classes; a shortage goes on."""
    sizes = [8, 2, 9, 20, 6, 6, 6]
    regions = np.repeat(np.arange(7), sizes)
    means = np.array([0.01, 0.02, 0.03, 0.04, 0.5, 0.05, 0.6])
    unsure = means[regions] + 1e-4 * np.arange(57) / 57
    labels = np.zeros(57, dtype=np.int64)
    labels[regions == 0] = [0, 1] * 4  # the surest region, but its classes are mixed: score 0.01 + 0.35
    found = least_uncertain(regions, unsure, labels)
    starts = np.cumsum([0, *sizes])
    # In order: 1 (2 of 5, so 3 are owed), 2 (8), 3, 5, 0 (5 each).
    wanted = [
        *range(starts[1], starts[1] + 2),
        *range(starts[2], starts[2] + 8),
        *range(starts[3], starts[3] + 5),
        *range(starts[5], starts[5] + 5),
        *range(starts[0], starts[0] + 5),
    ]
    assert found.tolist() == sorted(wanted)


def test_actune_mixes_with_the_last_round() -> None:
    """Oracle: 0.8 to 0.9 of the new probabilities, by progress; where nothing is remembered they are new."""
    seen = evidence()
    last = torch.roll(seen.probabilities, 1, 0)
    last[:10] = torch.nan
    for progress, share in ((0.0, 0.8), (0.5, 0.85), (1.0, 0.9)):
        found, _ = select(evidence(earlier=last, progress=progress), PseudoLabels(selector="actune"))
        assert found.remembered is not None
        assert torch.equal(found.remembered[:10], seen.probabilities[:10])
        wanted = share * seen.probabilities[10:] + (1 - share) * last[10:]
        assert torch.allclose(found.remembered[10:], wanted)
        assert (found.labels == found.remembered.argmax(1).numpy()[found.places]).all()


# VERIPS


@pytest.mark.parametrize("certainty", ["entropy", "margin"])
def test_verips_keeps_what_both_tell(certainty: Any) -> None:
    """Oracle: all candidates where both classifiers are one, by the formula; none where they never agree;
    weights of 1."""
    seen, chosen = evidence(), PseudoLabels(selector="verips", certainty=certainty)
    p = seen.probabilities.double().numpy()
    if certainty == "entropy":
        certain = 1 + np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0), 1) / math.log(3)
    else:
        certain = np.sort(p, 1)[:, -1] - np.sort(p, 1)[:, -2]
    found, _ = select(seen, chosen)
    assert found.places.tolist() == np.flatnonzero(certain >= 0.9).tolist() and len(found.places) > 10
    assert set(found.weights.tolist()) == set(found.labelled_weights.tolist()) == {1.0}
    _, status = select(evidence(verified=lambda: (seen.told + 1) % 3), chosen)
    assert status == "none_passed"


# NeST


def test_divergence_of_equal_neighbours_is_0() -> None:
    """Oracle: D = 0 where all probabilities are equal."""
    rng = np.random.default_rng(0)
    same = torch.tensor([[0.7, 0.2, 0.1]])
    features = [torch.from_numpy(rng.normal(size=(n, 4))).float() for n in (9, 12)]
    found = neighbour_divergence(same.expand(9, -1), features[0], same.expand(12, -1), features[1])
    assert torch.allclose(found, torch.zeros(9), atol=1e-6)


@pytest.mark.parametrize("labelled", [1, 5, 12])
def test_divergence_an_item_at_a_time(labelled: int) -> None:
    """Oracle: a plain second implementation with scipy's divergence; fewer than seven neighbours are all."""
    seen = evidence(40)
    q, y = seen.labelled_probabilities[:labelled], seen.labelled_features[:labelled]
    found = neighbour_divergence(seen.probabilities, seen.features, q, y)
    p, many = seen.probabilities.double().numpy(), q.double().numpy()
    for at in range(40):
        near = (y - seen.features[at]).norm(dim=1).argsort()[:7].tolist()
        own = np.mean([rel_entr(p[at], many[j]).sum() for j in near])
        pairs = [(a, b) for i, a in enumerate(near) for b in near[i + 1 :]]
        among = [float(rel_entr(many[a], many[b]).sum()) for a, b in pairs]
        assert found[at].item() == pytest.approx(own + 0.1 * (np.mean(among) if among else 0), rel=1e-3)


@pytest.mark.parametrize("direction", ["low", "high"])
def test_nest_takes_what_diverges_least(direction: Any) -> None:
    """Oracle: by hand. The 120 lowest scores (or highest), of them those above 0.9; half of the weight each;
    half of the last score stays."""
    chosen = PseudoLabels(selector="nest", nest_direction=direction)
    seen = evidence()
    scores = neighbour_divergence(
        seen.probabilities, seen.features, seen.labelled_probabilities, seen.labelled_features
    )
    last = torch.rand(300, 1, generator=torch.Generator().manual_seed(0))
    last[5] = torch.nan
    for earlier, mixed in (
        (None, scores),
        (last, torch.where(last[:, 0].isnan(), scores, (scores + last[:, 0]) / 2)),
    ):
        found, _ = select(evidence(earlier=earlier), chosen)
        order = (mixed if direction == "low" else -mixed).argsort(stable=True)[:120].tolist()
        wanted = sorted(place for place in order if seen.probabilities[place].max() > 0.9)
        assert found.places.tolist() == wanted and len(wanted) > 5
        assert found.remembered is not None and torch.allclose(found.remembered[:, 0], mixed)
        assert found.weights.sum() == pytest.approx(0.5) and found.labelled_weights.sum() == pytest.approx(
            0.5
        )
