"""Laws of sharpening on tables of responses: exact optima, exact chances, and the estimates of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.evaluation.sharpness import (
    Coverage,
    best_of_curve,
    best_of_law,
    coverage_report,
    found,
    tempered,
)
from selfstudy.learning.preference_losses import log_ratio_margin, squared_loss

BASE = np.array([0.35, 0.25, 0.15, 0.12, 0.08, 0.05])


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_regression_over_all_pairs_ends_at_the_tempered_model(beta: float) -> None:
    """Oracle: p^(1 + 1/beta) / Z in closed form; descent on a table of six responses from another start."""
    reference = torch.tensor(BASE).log()
    reward = reference  # r = log p
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    i, j = (torch.tensor(side) for side in zip(*itertools.combinations(range(6), 2), strict=True))
    optimiser = torch.optim.LBFGS([theta], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        policy = theta.log_softmax(0)
        margin = log_ratio_margin(policy[i], policy[j], reference[i], reference[j])
        value = squared_loss(margin, reward[i] - reward[j], beta).mean()
        value.backward()
        return value

    optimiser.step(loss)
    policy = theta.softmax(0).detach().numpy()
    expected = BASE ** (1 + 1 / beta) / (BASE ** (1 + 1 / beta)).sum()
    assert np.abs(policy - expected).max() < 1e-4
    assert np.abs(tempered(np.log(BASE), beta) - expected).max() < 1e-12


def test_less_beta_is_sharper() -> None:
    """Oracle: the limits, all mass on the mode for beta to 0, the base itself for beta to infinity."""
    assert tempered(np.log(BASE), 1e-3)[0] > 1 - 1e-12
    np.testing.assert_allclose(tempered(np.log(BASE), 1e9), BASE, atol=1e-8)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_law_of_the_best_of_n(n: int) -> None:
    """Oracle: simulation within three standard errors; all n-fold draws enumerated; n = 1 is the base."""
    rewards = np.array([0.3, -1.0, 2.0, 0.9, 0.1, 5.0])
    law = best_of_law(BASE, rewards, n)
    draws = np.random.default_rng(1).choice(6, size=(20_000, n), p=BASE)
    best = draws[np.arange(len(draws)), rewards[draws].argmax(1)]
    share = np.bincount(best, minlength=6) / len(draws)
    error = np.sqrt(law * (1 - law) / len(draws))
    assert (np.abs(share - law) <= 3 * error + 1e-12).all()
    exact = np.zeros(6)
    for many in itertools.product(range(6), repeat=min(n, 2)):
        exact[max(many, key=lambda y: rewards[y])] += BASE[list(many)].prod()
    np.testing.assert_allclose(best_of_law(BASE, rewards, min(n, 2)), exact, atol=1e-12)


def test_fine_tuning_on_the_best_of_n_has_its_optimum_at_that_law() -> None:
    """Oracle: the law itself; descent on the expected log-likelihood of a table."""
    law = torch.tensor(best_of_law(BASE, np.log(BASE), 4))
    theta = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = -(law * theta.log_softmax(0)).sum()
        value.backward()
        return value

    optimiser.step(loss)
    assert (theta.softmax(0).detach() - law).abs().max() < 1e-4


def test_the_number_of_samples_grows_with_the_coverage() -> None:
    """Oracle: log(1/delta) / p by hand: 0.1 and 44 give 0.990; a tenth of p needs ten times as many."""
    assert found(0.1, 44) == pytest.approx(0.990, abs=5e-4)
    for p in (0.1, 0.01, 0.001):
        enough = math.ceil(math.log(1 / 0.05) / p)
        assert found(p, enough) >= 0.95 > found(p, enough // 2)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-2, 2)), min_size=1, max_size=7), st.data())
def test_a_curve_is_the_mean_over_all_choices(samples, data) -> None:
    """Oracle: every choice of n samples enumerated; of equal rewards the first sample."""
    n = data.draw(st.integers(1, len(samples)))
    rewards, values = zip(*samples, strict=True)
    choices = list(itertools.combinations(range(len(samples)), n))
    expected = np.mean([values[max(some, key=lambda i: (rewards[i], -i))] for some in choices])
    assert best_of_curve(rewards, values, n) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [0, 3])
def test_more_than_was_drawn_is_refused(n: int) -> None:
    """Oracle: 1 to N is the range."""
    with pytest.raises(UsageError, match="best of"):
        best_of_curve([0.1, 0.2], [1.0, 0.0], n)


def test_coverage_by_hand() -> None:
    """Oracle: p = 1/10 from 20 samples is covered, 1/1000 from 10 is not; mean and median of 1/p."""
    coverage = Coverage(np.array([20, 10, 10]), np.log([0.1, 0.001, 0.5]))
    told = coverage.to_json()
    assert told["covered"] == pytest.approx(2 / 3)
    assert 10 ** told["log10_coverage"] == pytest.approx((10 + 1000 + 2) / 3)
    assert 10 ** told["log10_coverage_median"] == pytest.approx(10)
    edges, counts = told["histogram"]["from"], told["histogram"]["prompts"]
    assert sum(counts) == 3 and counts[edges.index(0.0)] == 1 and counts[edges.index(-2.0)] == 1
    assert sum(coverage.picture()["traces"][0]["y"]) == 3


def test_what_lies_beyond_the_histogram_is_counted() -> None:
    """Oracle: probabilities of e^-800 are in the outermost bin, and no figure overflows."""
    told = Coverage(np.array([4]), np.array([-800.0])).to_json()
    assert told["histogram"]["prompts"][0] == 1
    assert told["log10_coverage"] == pytest.approx(800 / math.log(10))


def test_a_report_by_hand() -> None:
    """Oracle: two prompts by hand; rewards that order right before wrong have an AUC of 1."""
    counts = {"samples": 2, "cut": 0, "empty": 0, "unanswered": 0}
    drawn = [
        {**counts, "distinct": 2, "rewards": [-1.0, -3.0], "logprobs": [-1.0, -3.0], "grades": [1.0, 0.0]},
        {**counts, "distinct": 1, "rewards": [-2.0, -2.0], "logprobs": [-2.0, -2.0], "grades": [0.0, 0.0]},
        {**counts, "cut": 2, "distinct": 0, "rewards": [], "logprobs": [], "grades": []},
    ]
    report, pictures = coverage_report(drawn)
    assert (report["prompts"], report["sharp"], report["samples"], report["cut"]) == (2, 1, 6, 2)
    assert report["best_of"] == {"n": [1, 2], "log-likelihood": [-2.0, -1.5], "accuracy": [0.25, 0.5]}
    assert report["auc"] == pytest.approx(1.0)
    assert len(pictures) == 3
    for record in drawn:
        record["grades"] = []
    report, pictures = coverage_report(drawn)
    assert "auc" not in report and "accuracy" not in report["best_of"] and len(pictures) == 2
