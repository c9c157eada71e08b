"""What each rationale weighs in the gradient of log p(y | x), where the rationale z is a latent variable.

The gradient is the mean of grad log p(z | x) over the posterior p(z | x, y), which is p(z | x) restricted to
rationales with the right answer. A chain per example holds one such z; its proposal is a fresh draw from
p(z | x), and is taken over exactly if it is right.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from selfstudy.learning.resampling import systematic_counts

Estimate = Literal["control-variate", "basic"]
Normalise = Literal["C", "M"]


class Weights(NamedTuple):
    """Weights of the gradients of log p of M examples' rationales, and the factor beta; all [M]."""

    memory: np.ndarray
    """Of what the chain holds; 0 where that is the proposal itself."""
    proposal: np.ndarray
    beta: np.ndarray


def leave_one_out(held: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """Return beta [M]: among the other examples whose chain is right, the share with a right proposal.

    It is 0 where there are no others, and never depends on the example's own proposal.

    Args:
        held: [M] bool, whether the chain, after the proposal was looked at, holds a right rationale.
        accepted: [M] bool, whether the proposal is right; implies `held`.

    >>> leave_one_out(np.array([True, True, True, False]), np.array([True, False, True, False])).tolist()
    [0.5, 1.0, 0.5, 0.6666666666666666]
    """
    others = held.sum() - held
    return np.divide(
        (held & accepted).sum() - (held & accepted), others, where=others > 0, out=np.zeros(len(held))
    )


def posterior_weights(
    held: np.ndarray, accepted: np.ndarray, estimate: Estimate = "control-variate", normalise: Normalise = "C"
) -> Weights:
    """Return the weights of one step's estimate of the gradient.

    The basic estimate is (1/C) sum_m c_m grad log p(z_m). As grad log p has mean 0 under the model itself,
    that of the proposal may be subtracted: the control-variate estimate is
    (1/C) sum_m c_m (grad log p(z_m) - beta_m grad log p(z~_m)). Where the proposal was taken over, both terms
    are of one rationale and are merged, with the weight (1 - beta_m) / C. No weight exceeds 1/C.

    It is unbiased once a chain holds a right rationale. In the step in which one first becomes right, c_m
    depends on the proposal, and the example weighs 1 - beta_m; its direction is right all the same.

    Args:
        held: [M] bool, c_m: whether the chain holds a right rationale after the proposal was looked at.
        accepted: [M] bool, whether the proposal is right.
        estimate: with or without the control variate.
        normalise: divide by C = sum of c_m, or by M.

    >>> weights = posterior_weights(np.array([True, True, False]), np.array([True, False, False]))
    >>> weights.memory.tolist(), weights.proposal.tolist()
    ([0.0, 0.5, 0.0], [0.5, -0.5, 0.0])
    """
    beta = leave_one_out(held, accepted) if estimate == "control-variate" else np.zeros(len(held))
    scale = max(1, held.sum()) if normalise == "C" else len(held)
    memory = held & ~accepted
    return Weights(memory / scale, (accepted * (1 - beta) - memory * beta) / scale, beta)


def subsample(weights: np.ndarray, terms: int, uniform: float) -> np.ndarray:
    """Return weights [J] of which at most `terms` are not 0, and whose expectation is `weights`.

    L terms are drawn with probabilities |w_j| / W by systematic resampling; a term drawn k times weighs
    k sign(w_j) W / L. Where no more than L weights differ from 0 they stay as they are, which costs no more
    and adds no noise.

    Args:
        weights: [J], signed.
        terms: L.
        uniform: in [0, 1).
    """
    if np.count_nonzero(weights) <= terms:
        return weights
    size = np.abs(weights)
    return np.sign(weights) * systematic_counts(size, terms, uniform) * (size.sum() / terms)
