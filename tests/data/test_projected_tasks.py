"""Projections and orders of labels out of whole numbers."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selfstudy.core.errors import UsageError
from selfstudy.data.projected_tasks import FIRST_TEST_ID, TaskAugmenter


def augmenter(**fields: Any) -> TaskAugmenter:
    return TaskAugmenter(**{"features": 12, "inputs": 8, "classes": 3, "tasks": 100, **fields})


DIGEST = """
import hashlib, numpy as np
from selfstudy.data.projected_tasks import TaskAugmenter
made = TaskAugmenter(features=12, inputs=8, classes=3, tasks=100)
ids = np.array([0, 7, 2**30])
told = made.projections(ids).numpy().tobytes() + made.permutations(ids).numpy().tobytes()
print(hashlib.sha256(told).hexdigest())
"""


def test_ids_mean_the_same_everywhere() -> None:
    """Oracle: the same ids in another process, whose hashes are salted otherwise."""
    made, ids = augmenter(), np.array([0, 7, 2**30])
    here = made.projections(ids).numpy().tobytes() + made.permutations(ids).numpy().tobytes()
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
    assert there.strip() == hashlib.sha256(here).hexdigest()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=6, unique=True), st.integers(0, 3))
def test_an_id_alone(ids: list[int], seed: int) -> None:
    """Oracle: each id by itself; different ids differ, and so does the same id of another seed."""
    made = augmenter(seed=seed)
    together = made.projections(np.array(ids))
    for i, single in enumerate(ids):
        assert torch.equal(together[i], made.projections(np.array([single]))[0])
    assert len({matrix.numpy().tobytes() for matrix in together}) == len(ids)
    assert not torch.equal(augmenter(seed=seed + 1).projections(np.array(ids)), together)


def test_moments_of_projections() -> None:
    """Oracle: N(0, 1/m): a Kolmogorov-Smirnov test, and E[A A^T] = 1 within 4.5 standard errors.

    36 entries at 4.5 standard errors and one test at 1 in 10,000: a false alarm in about 3,000 seeds.
    """
    matrices = augmenter(inputs=8, features=12).projections(np.arange(2000))
    scaled = matrices.flatten().numpy() * np.sqrt(12)
    assert stats.kstest(scaled[:20_000], "norm").pvalue > 1e-4
    squares = matrices @ matrices.transpose(1, 2)
    errors = (squares.mean(0) - torch.eye(8)) / (squares.std(0) / 2000**0.5)
    assert errors.abs().max() < 4.5
    odd = augmenter(inputs=3, features=5).projections(np.arange(3))  # 15 numbers out of pairs
    assert odd.shape == (3, 3, 5) and odd.isfinite().all()


def test_orders_of_labels() -> None:
    """Oracle: the uniform distribution over all orders (chi-square, 1 in 1,000); p = 1 keeps every label."""
    ids = np.arange(6000)
    found = Counter(map(tuple, augmenter().permutations(ids).tolist()))
    counts = [found[order] for order in itertools.permutations(range(3))]
    assert sum(counts) == 6000 and stats.chisquare(counts).pvalue > 1e-3
    assert torch.equal(augmenter(bias=1.0).permutations(ids), torch.arange(3).expand(6000, -1))


def test_the_bias_is_a_share_of_the_ids() -> None:
    """Oracle: p + (1 - p) / C! of the ids keep all labels, within 4 standard errors; `bias` overrides."""
    ids, made = FIRST_TEST_ID + np.arange(4000), augmenter(bias=0.5)
    kept = (made.permutations(ids) == torch.arange(3)).all(1).double().mean().item()
    expected = 0.5 + 0.5 / 6
    assert abs(kept - expected) < 4 * (expected * (1 - expected) / 4000) ** 0.5
    assert torch.equal(made.permutations(ids, bias=0.0), augmenter().permutations(ids))


def test_a_task_by_hand() -> None:
    """Oracle: A x and rho[y], one example at a time."""
    made, ids = augmenter(), np.array([3, 99])
    inputs, labels = (
        torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]]),
    )
    shown, told = made(ids, inputs, labels)
    for b, j in itertools.product(range(2), range(4)):
        by_hand = made.projections(ids)[b] @ inputs[b, j]
        assert torch.allclose(shown[b, j], by_hand, atol=1e-5)
        assert told[b, j] == made.permutations(ids)[b, labels[b, j]]


def test_the_identity() -> None:
    """Oracle: the first task leaves all as it is, and the others do not."""
    made = augmenter(features=8, identity=True, tasks=1)
    inputs, labels = torch.randn(2, 3, 8), torch.tensor([[0, 1, 2], [2, 1, 0]])
    shown, told = made(np.array([0, 0]), inputs, labels)
    assert torch.equal(shown, inputs) and torch.equal(told, labels)
    assert not torch.equal(made(np.array([1, 1]), inputs, labels)[0], inputs)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tasks": 0}, "from 1 to"),
        ({"tasks": 2**29 + 1}, "from 1 to"),
        ({"bias": 1.5}, "from 0 to 1"),
        ({"bias": float("nan")}, "from 0 to 1"),
        ({"identity": True}, "as long as the 12 features"),
    ],
)
def test_families_that_cannot_be(fields: dict[str, Any], words: str) -> None:
    """Oracle: each is refused with what is allowed."""
    with pytest.raises(UsageError, match=words):
        augmenter(**fields)
