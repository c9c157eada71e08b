"""Query strategies: against plain second implementations, with ties, and on what they cannot have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from scipy.stats import entropy as scipy_entropy

from selfstudy.signals.queries import QUERIES, Candidates, bald, divergence, entropy, query


def candidates(count: int = 40, classes: int = 3, labelled: int = 12, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)

    def told(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.dirichlet(np.full(classes, 0.5), shape).astype(np.float32))

    def placed(size: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=(size, 4)).astype(np.float32))

    passes = told(count, 5)
    return Candidates(
        probabilities=told(count),
        features=placed(count),
        labelled_probabilities=told(labelled),
        labelled_features=placed(labelled),
        passes=lambda: passes,
        rng=np.random.default_rng(seed + 1),
    )


def slowly(name: str, seen: Candidates, count: int) -> list[int]:
    """The strategies again, an item at a time."""
    p, x = seen.probabilities.double().numpy(), seen.features.double().numpy()
    q, y = seen.labelled_probabilities.double().numpy(), seen.labelled_features.double().numpy()
    if name == "core-set":
        chosen: list[int] = []
        for _ in range(count):
            centres = [*y, *(x[place] for place in chosen)]
            apart = [min(np.linalg.norm(row - one) for one in centres) for row in x]
            chosen.append(int(np.argmax([-1 if at in chosen else far for at, far in enumerate(apart)])))
        return chosen
    scores = []
    for at, row in enumerate(p):
        first, second = sorted(row)[::-1][:2]
        near = np.argsort(np.linalg.norm(y - x[at], axis=1))[:10]
        many = seen.passes()[at].double().numpy()
        scores.append(
            {
                "breaking-ties": first - second,
                "entropy": -scipy_entropy(row),
                "least-confidence": first,
                "cal": -np.mean([rel_entr(q[j], row).sum() for j in near]),
                "bald": -(scipy_entropy(many.mean(0)) - np.mean([scipy_entropy(one) for one in many])),
            }[name]
        )
    return sorted(range(len(p)), key=lambda at: (scores[at], at))[:count]


@pytest.mark.parametrize("name", sorted(set(QUERIES) - {"random"}))
@pytest.mark.parametrize("seed", [0, 1])
def test_against_an_item_at_a_time(name: Any, seed: int) -> None:
    """Oracle: a plain second implementation, with scipy's entropy and divergence."""
    seen = candidates(seed=seed)
    assert query(name, seen, 8).tolist() == slowly(name, seen, 8)


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_query_has_different_items_and_no_more_than_there_are(name: Any) -> None:
    """Oracle: a law."""
    for count, wanted in ((7, 7), (99, 40), (0, 0)):
        found = query(name, candidates(), count)
        assert len(found) == wanted == len(set(found.tolist())) and set(found) <= set(range(40))
        assert found.dtype == np.int64


@pytest.mark.parametrize("name", ["breaking-ties", "entropy", "least-confidence", "cal", "bald"])
def test_of_equal_items_the_first(name: Any) -> None:
    """Oracle: by hand; all items are the same."""
    seen = candidates()
    same = seen.probabilities[:1].expand(40, -1)
    equal = Candidates(
        **{
            **vars(seen),
            "probabilities": same,
            "features": seen.features[:1].expand(40, -1),
            "passes": lambda: same[:, None].expand(-1, 5, -1),
        }
    )
    assert query(name, equal, 5).tolist() == [0, 1, 2, 3, 4]


def test_random_is_a_function_of_its_generator() -> None:
    """Oracle: the same generator again, and over many draws each item as often as the others."""
    assert query("random", candidates(), 9).tolist() == query("random", candidates(), 9).tolist()
    counts = np.zeros(40)
    seen = candidates()
    for _ in range(2000):
        counts[query("random", seen, 4)] += 1
    assert abs(counts - 200).max() < 5 * math.sqrt(200)


def test_disagreement() -> None:
    """Oracle: closed forms. Equal passes give 0; passes sure of C classes in turn give log2 C."""
    assert bald(torch.full((2, 5, 4), 0.25)).tolist() == [0, 0]
    assert bald(torch.eye(4)[None]).tolist() == pytest.approx([2.0])


@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_bounds(seed: int, classes: int, passes: int) -> None:
    """Oracle: 0 <= BALD <= log2 C, 0 <= H <= log C and KL >= 0 with zeros in both, KL(p || p) = 0."""
    drawn = np.random.default_rng(seed).dirichlet(np.full(classes, 0.1), (9, passes))
    p = torch.from_numpy(np.where(drawn < 0.05, 0, drawn)).float()
    p = p / p.sum(-1, keepdim=True)
    assert (bald(p) >= 0).all() and (bald(p) <= math.log2(classes) + 1e-5).all()
    assert (entropy(p) >= 0).all() and (entropy(p) <= math.log(classes) + 1e-5).all()
    between = divergence(p[:, :, None], p[:, None])
    assert torch.isfinite(between).all() and (between >= 0).all()
    assert torch.allclose(divergence(p, p), torch.zeros(9, passes), atol=1e-6)
