"""Which given labels are wrong, from losses and features of a network that was trained on them.

Small losses: Arazo et al. 2019, arXiv 1904.11238. Linear separation: Albert et al. 2024, arXiv 2407.05528.
Weights of guessed labels (PLS): Albert et al. 2023, arXiv 2210.04578. In all functions N items have given
labels, and `noisy` [N] says of which they are taken to be wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from selfstudy.core.machine import one_blas_thread
from selfstudy.signals.mixtures import Mixture, two_gaussians

CAP = 0.999  # quantile at which losses are capped, so that one extreme loss does not squeeze all others
SURE = 0.95  # least posterior of the component of large losses
PENALTY = 1e-6  # of |w|^2 / 2 beside the mean loss of the linear separation, which else diverges
ITERATIONS = 1000  # of the linear separation
LEAST_NOISY = 50  # items, of fewer a mixture says nothing
KEPT = 0.1  # share of a class that stays where all of it is taken to be wrong


class Detected(NamedTuple):
    """What a detector says.

    Attributes:
        noisy: [N], whose label it takes to be wrong.
        score: [N], how likely that is, 0 to 1.
        mixture: of the scaled losses; None where there is none, or it has collapsed.
    """

    noisy: np.ndarray
    score: np.ndarray
    mixture: Mixture | None = None


def unit_range(values: np.ndarray, cap: float = 1.0) -> np.ndarray:
    """Return values [N] stretched to 0 to 1, after those above the quantile `cap` were brought down to it.

    Infinite ones count as the largest finite one; equal ones become 0.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.zeros_like(values)
    values = np.clip(values, finite.min(), np.quantile(finite, cap))
    width = values.max() - values.min()
    return (values - values.min()) / width if width > 0 else np.zeros_like(values)


def small_loss(losses: np.ndarray, *, sure: float = SURE) -> Detected:
    """Take items of large loss to be noisy: those of the higher of two Gaussians.

    Where the mixture collapses nothing is.

    Args:
        losses: [N], cross-entropies of the given labels.
        sure: least posterior.
    """
    scaled = unit_range(losses, CAP)
    mixture = two_gaussians(scaled)
    if mixture.collapsed:
        return Detected(np.zeros(len(scaled), dtype=bool), np.zeros(len(scaled)))
    score = _upper(mixture, scaled)
    return Detected(score > sure, score, mixture)


def _upper(mixture: Mixture, values: np.ndarray) -> np.ndarray:
    """Return how likely values are of the higher component; beyond both means the nearer one has them."""
    score = mixture.posterior_high(values)
    # A wide component would win again on the far side of a narrow one.
    return np.where(values < mixture.means.min(), 0.0, np.where(values > mixture.means.max(), 1.0, score))


def linear_separation(features: np.ndarray, noisy: np.ndarray) -> Detected:
    """Separate trusted clean and noisy items by a hyperplane, and take its side for the truth.

    It is the class-balanced logistic regression of standardised features, all but unpenalised.

    Args:
        features: [N, D], of a middle layer.
        noisy: [N], what is trusted, such as of `small_loss`; where all are alike, that stands.
    """
    noisy = np.asarray(noisy, dtype=bool)
    if noisy.all() or not noisy.any():
        return Detected(noisy.copy(), noisy.astype(float))
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    features = np.asarray(features, dtype=np.float64)
    deviation = features.std(0)
    inputs = (features - features.mean(0)) / np.where(deviation > 0, deviation, 1.0)
    fitted = LogisticRegression(C=1 / (PENALTY * len(inputs)), class_weight="balanced", max_iter=ITERATIONS)
    with warnings.catch_warnings(), one_blas_thread():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable classes never converge
        fitted.fit(inputs, noisy)
    score = fitted.predict_proba(inputs)[:, 1]
    return Detected(score > 0.5, score)


def pseudo_loss_weights(
    pseudo_losses: np.ndarray, noisy: np.ndarray, *, least: int = LEAST_NOISY
) -> np.ndarray:
    """Return the weight [N] of each item's label, given or guessed, 0 to 1.

    A clean item weighs 1. A noisy one weighs as much as its pseudo-loss is likely to be of the lower of two
    Gaussians; 1 where there are fewer than `least`, or one group.

    Args:
        pseudo_losses: [N], cross-entropies of the guessed labels.
        noisy: [N].
        least: noisy items, of fewer there is no telling.
    """
    weights = np.ones(len(noisy))
    if noisy.sum() < max(least, 2):
        return weights
    scaled = unit_range(np.asarray(pseudo_losses)[noisy])
    mixture = two_gaussians(scaled)
    if not mixture.collapsed:
        weights[noisy] = 1 - _upper(mixture, scaled)
    return weights


def kept_in_each_class(
    noisy: np.ndarray, losses: np.ndarray, labels: np.ndarray, *, share: float = KEPT
) -> np.ndarray:
    """Return `noisy`, with the items of least loss taken out of a class that is noisy as a whole.

    Args:
        noisy: [N].
        losses: [N], cross-entropies of the given labels.
        labels: [N], given, from 0.
        share: of the class that stays, one item or more.
    """
    kept = noisy.copy()
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        if noisy[of_class].all():
            order = np.argsort(losses[of_class], kind="stable")
            kept[of_class[order[: max(1, round(share * len(of_class)))]]] = False
    return kept


def agreed(noisy: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return what several networks agree on: noisy for all of them, and weights [N], a mean, 1 if clean."""
    both = np.logical_and.reduce(list(noisy))
    return both, np.where(both, np.mean(list(weights), axis=0), 1.0)
