"""Advantages: how much better an answer is than the others to the same problem, or a token than expected."""

from __future__ import annotations

import numpy as np

from selfstudy.core.errors import UsageError, nearest
from selfstudy.signals.rewards import require_finite

KINDS = ("grpo", "dr-grpo", "leave-one-out")
EPS = 1e-6


def group_advantages(rewards: np.ndarray, kind: str = "grpo", *, eps: float = EPS) -> np.ndarray:
    """Return the advantages [P, G] of G answers to each of P problems.

    grpo: (r - mean) / (std + eps), with the sample standard deviation (Shao et al., 2024).
    dr-grpo: r - mean; without the division, easy and hard problems weigh the same (Liu et al., 2025).
    leave-one-out: r less the mean of the others; unbiased (Ahmadian et al., 2024).

    >>> group_advantages(np.array([[1.0, 0.0]])).round(4).tolist()
    [[0.7071, -0.7071]]
    >>> group_advantages(np.array([[1.0, 0.0, 0.0]]), "leave-one-out").tolist()
    [[1.0, -0.5, -0.5]]

    Args:
        rewards: [P, G], G at least 2.
        kind: one of `KINDS`.
        eps: keeps the quotient finite where all rewards are the same.

    Raises:
        UsageError: another kind, or a group of one.
        DataError: a reward that is not a number.
    """
    if kind not in KINDS:
        raise UsageError(f"Unknown advantages {kind!r}. {nearest(kind, KINDS)}")
    rewards = np.asarray(rewards, dtype=np.float64)
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise UsageError(f"Rewards of shape {rewards.shape} have no groups of at least 2 answers.")
    require_finite(rewards)
    centred = rewards - rewards.mean(1, keepdims=True)
    if kind == "grpo":
        return centred / (rewards.std(1, ddof=1, keepdims=True) + eps)
    return centred if kind == "dr-grpo" else centred * (rewards.shape[1] / (rewards.shape[1] - 1))


def token_advantages(reward: float, values: np.ndarray, *, discount: float, trace: float) -> np.ndarray:
    """Return the advantages [T] of the tokens of an answer by values (GAE, Schulman et al., 2016).

    The reward comes with the last token. d_t = r_t + discount * V_t+1 - V_t, and nothing is expected after
    the end; the advantage of token t is the sum of (discount * trace) ** l * d_t+l.

    >>> token_advantages(1.0, np.array([0.25, 0.5]), discount=1.0, trace=1.0).tolist()
    [0.75, 0.5]
    >>> token_advantages(1.0, np.array([0.25, 0.5]), discount=1.0, trace=0.0).tolist()
    [0.25, 0.5]

    Args:
        reward: of the answer.
        values: [T], what is expected before each token.
        discount: of what comes a token later.
        trace: lambda; 0 trusts the next value, 1 the reward alone.
    """
    rewards = np.zeros(len(values))
    rewards[-1] = reward
    surprise = rewards + discount * np.append(values[1:], 0.0) - values
    found, following = np.zeros(len(values)), 0.0
    for t in reversed(range(len(values))):
        found[t] = following = surprise[t] + discount * trace * following
    return found


def constant_groups(rewards: np.ndarray) -> np.ndarray:
    """Tell for each group [P] of rewards [P, G] whether all are the same, so that nothing can be learned.

    >>> constant_groups(np.array([[1, 1], [0, 1]])).tolist()
    [True, False]
    """
    rewards = np.asarray(rewards)
    return (rewards == rewards[:, :1]).all(1)
