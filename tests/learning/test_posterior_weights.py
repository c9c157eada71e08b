"""Weights of rationales in the gradient of log p(y | x), on models that can be enumerated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.learning.posterior_weights import leave_one_out, posterior_weights, subsample

LOGITS = np.array([0.5, 0.0, -0.5, 0.3, 0.1, 0.0, -0.2, -0.4])  # of eight rationales
RIGHT = np.array([1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
M, STEPS = 64, 4000


def toy(shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p, grad log p of each rationale with respect to the logits [8, 8], and the exact gradient."""
    p = np.exp(LOGITS + shift * RIGHT)
    p /= p.sum()
    gradients = np.eye(8) - p
    return p, gradients, (p * RIGHT / (p @ RIGHT)) @ gradients


def estimates(shift: float, kind: str, terms: int | None = None) -> np.ndarray:
    """Return the estimates [STEPS, 8] of a run of M chains in equilibrium."""
    rng = np.random.default_rng(1)
    p, gradients, _ = toy(shift)
    chains = rng.choice(8, M, p=p * RIGHT / (p @ RIGHT))
    found = []
    for proposals in rng.choice(8, (STEPS, M), p=p):
        accepted = RIGHT[proposals]
        chains = np.where(accepted, proposals, chains)
        weights = posterior_weights(RIGHT[chains], accepted, kind)
        both = np.concatenate([weights.memory, weights.proposal])
        if terms:
            both = subsample(both, terms, rng.random())
        found.append(both @ gradients[np.concatenate([chains, proposals])])
    return np.array(found)


@pytest.mark.parametrize("terms", [None, 20])
@pytest.mark.parametrize("kind", ["basic", "control-variate"])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_the_mean_is_the_exact_gradient(shift: float, kind: str, terms: int | None) -> None:
    """Oracle: grad log sum p c in closed form, within 3.5 standard errors of every coordinate."""
    found, (_, _, exact) = estimates(shift, kind, terms), toy(shift)
    # Steps share what chains still hold: errors from means of 40 blocks.
    blocks = found.reshape(40, -1, 8).mean(1)
    error = blocks.std(0, ddof=1) / np.sqrt(40)
    assert (np.abs(found.mean(0) - exact) < 3.5 * error + 1e-12).all()


@pytest.mark.parametrize(
    ("accuracy", "ratio"), [(0.23, 0.97), (0.47, 0.88), (0.75, 0.60), (0.93, 0.21), (0.98, 0.05)]
)
def test_variance_goes_with_the_errors(accuracy: float, ratio: float) -> None:
    """Oracle: ratios of variances computed by a separate program for this toy, to two digits."""
    wrong = np.exp(LOGITS[~RIGHT]).sum() / np.exp(LOGITS[RIGHT]).sum()
    shift = np.log(wrong * accuracy / (1 - accuracy))
    variances = [estimates(shift, kind).var(0).sum() for kind in ("control-variate", "basic")]
    assert variances[0] / variances[1] == pytest.approx(ratio, abs=0.03)


def test_no_noise_without_errors() -> None:
    """Oracle: the limit: all proposals right makes beta 1 and every weight 0."""
    everything = np.ones(5, dtype=bool)
    weights = posterior_weights(everything, everything)
    assert (weights.beta == 1).all() and not weights.memory.any() and not weights.proposal.any()


VERDICTS = st.lists(st.sampled_from([(False, False), (True, False), (True, True)]), min_size=1, max_size=12)


@given(VERDICTS, st.sampled_from(["C", "M"]))
def test_weights_case_by_case(verdicts: list[tuple[bool, bool]], normalise: str) -> None:
    """Oracle: the table of cases, beta by a plain loop; no weight is above 1 / C."""
    held, accepted = np.array(verdicts).T
    weights = posterior_weights(held, accepted, "control-variate", normalise)
    scale = max(1, held.sum()) if normalise == "C" else len(held)
    for m, (c, a) in enumerate(verdicts):
        others = [x for n, (c_n, x) in enumerate(verdicts) if n != m and c_n]
        beta = sum(others) / len(others) if others else 0.0
        # A right proposal is one merged term; a wrong one counts against; nothing where the chain is wrong.
        memory, proposal = (0, 1 - beta) if a else (1, -beta) if c else (0, 0)
        assert weights.memory[m] * scale == pytest.approx(memory)
        assert weights.proposal[m] * scale == pytest.approx(proposal)
    assert np.abs(np.concatenate(weights[:2])).max() <= 1 / scale + 1e-12


@given(VERDICTS, st.data())
def test_beta_does_not_know_its_own_proposal(verdicts: list[tuple[bool, bool]], data: st.DataObject) -> None:
    """Oracle: the same beta when the example's own proposal turns out otherwise."""
    held, accepted = np.array(verdicts).T
    m = data.draw(st.integers(0, len(held) - 1))
    other = accepted.copy()
    other[m] = held[m] and not accepted[m]
    assert leave_one_out(held, accepted)[m] == leave_one_out(held, other)[m]


@given(st.lists(st.floats(-1, 1).map(lambda w: round(w, 3)), min_size=1, max_size=30), st.integers(1, 12))
def test_subsampling_keeps_the_sum(values: list[float], terms: int) -> None:
    """Oracle: at most L terms, signs and the sum of sizes kept; few enough weights stay as they are."""
    weights = np.array(values)
    kept = subsample(weights, terms, 0.37)
    assert np.count_nonzero(kept) <= max(terms, 0)
    assert np.abs(kept).sum() == pytest.approx(np.abs(weights).sum())
    assert (kept * weights >= 0).all() and not kept[weights == 0].any()
    if np.count_nonzero(weights) <= terms:
        assert (kept == weights).all()
