"""Estimates from samples: pass@k, maj@k, and what training gained."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.data.chains import solve
from selfstudy.evaluation.pass_at_k import gains, majority_at_k, pass_at_k, sampled_verdicts


@pytest.mark.parametrize("k", range(1, 11))
def test_pass_at_k_is_the_share_of_subsets(k: int) -> None:
    """Oracle: brute force over all subsets of k of 10 samples, for every count of right ones."""
    for right in range(11):
        samples = [i < right for i in range(10)]
        expected = np.mean([any(subset) for subset in combinations(samples, k)])
        assert pass_at_k(right, 10, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_of_many_samples() -> None:
    """Oracle: the limit of drawing with replacement; the binomials alone would overflow."""
    assert pass_at_k([5_000], 100_000, 100)[0] == pytest.approx(1 - 0.95**100, abs=1e-4)


@given(st.integers(1, 30), st.data())
def test_pass_at_k_laws(samples: int, data: st.DataObject) -> None:
    """Oracle: laws: pass@1 is the share that is right, it never falls with k, and pass@n asks for one."""
    right = data.draw(st.integers(0, samples))
    curve = [float(pass_at_k(right, samples, k)) for k in range(1, samples + 1)]
    assert curve[0] == pytest.approx(right / samples)
    assert all(b >= a - 1e-12 for a, b in pairwise(curve))
    assert curve[-1] == (right > 0)


@pytest.mark.parametrize(("right", "k"), [(3, 0), (3, 11), (11, 1), (-1, 1)])
def test_pass_at_k_refuses(right: int, k: int) -> None:
    """Oracle: an error that names the numbers."""
    with pytest.raises(UsageError, match=r"10 samples"):
        pass_at_k(right, 10, k)


def test_majority_at_k_by_hand() -> None:
    """Oracle: by hand: blocks in turn, the first of equals, no vote for None, the rest left out."""
    answers = [["7", "8", "8", None, "7", "7", "8"], [None, None, None, "1", "2", "1", "9"]]
    right = [[answer == "8" for answer in answers[0]], [answer == "1" for answer in answers[1]]]
    assert majority_at_k(answers, right, 3).tolist() == [0.5, 0.5]
    assert majority_at_k(answers, right, 1).tolist() == pytest.approx([3 / 7, 2 / 7])
    with pytest.raises(UsageError, match="maj@8"):
        majority_at_k(answers, right, 8)


def test_gains_split() -> None:
    """Oracle: the paper's two cases by hand, and that each problem is at most one of three."""
    before = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=bool)
    after = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    found = gains(before, after)
    assert found.self_distilled.tolist() == [True, False, False, False, False]
    assert found.capability.tolist() == [False, True, False, False, False]
    assert found.lost.tolist() == [False, False, False, True, False]
    assert found.to_json() == {
        "problems": 5,
        "self_distilled": 1,
        "capability": 1,
        "lost": 1,
        "before": {"1": 0.35, "2": pytest.approx((0.5 + 5 / 6 + 1) / 5), "4": 0.6},
        "after": {"1": 0.35, "2": pytest.approx((5 / 6 + 0.5 + 1) / 5), "4": 0.6},
    }
    with pytest.raises(UsageError, match=r"\(5, 3\) after"):
        gains(before, after[:, :3])


def test_sampled_verdicts() -> None:
    """Oracle: charged tokens and checks by count; samples differ, and a seed gives the same again."""
    task = selfstudy.task("chain100?steps=2-4&train=1&validation=0&test=12")
    meter = Meter()
    model = selfstudy.model("tiny-lm")
    found = sampled_verdicts(task, model, samples=4, seed=3, meter=meter)
    assert found.shape == (12, 4)
    assert 0 < found.mean() < 1 and len({tuple(column) for column in found.T.tolist()}) > 1
    assert (sampled_verdicts(task, model, samples=4, seed=3) == found).all()
    lines = sum(len("".join(line + "\n" for line in solve(p.prompt))) for p in task.test)
    assert meter.snapshot()["generated_tokens"] == 4 * lines
    assert meter.snapshot()["verifier_calls"] == 48
