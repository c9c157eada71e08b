"""Preferences over few outputs as a game on a table: its equilibrium, and where learning rules lead.

wins [n, n] holds the probability that output i is preferred to output j, with wins + wins.T = 1; a policy is
a distribution [n]. Small enough for exact arithmetic, so that what holds for direct Nash optimisation can be
seen without sampling (Rosset et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Policy = np.ndarray
ROCK_PAPER_SCISSORS = np.array([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])


def random_game(rng: np.random.Generator, outputs: int) -> np.ndarray:
    """Return random wins [n, n]: uniform in [0, 1] above the diagonal."""
    upper = np.triu(rng.random((outputs, outputs)), 1)
    return upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(outputs)


def biased_rock_paper_scissors(a: float, b: float, c: float) -> tuple[np.ndarray, Policy]:
    """Return wins [3, 3] in which 1 beats 0 by a, 2 beats 1 by b and 0 beats 2 by c, and the equilibrium [3].

    The lead of a winner over 1/2 is a, b or c, each in (0, 1/2]; the equilibrium is (b, c, a) / (a + b + c).
    """
    leads = np.array([[0, -a, c], [a, 0, -b], [-c, b, 0]])
    return 0.5 + leads, np.array([b, c, a]) / (a + b + c)


def exploitability(wins: np.ndarray, policy: Policy) -> float:
    """Return max over outputs y of P(y beats a draw of the policy) - 1/2; 0 at an equilibrium."""
    return float((wins @ policy).max() - 0.5)


def equilibrium(wins: np.ndarray) -> Policy:
    """Return a Nash equilibrium [n] by linear programming: a policy that wins at least 1/2 against all."""
    from scipy.optimize import linprog

    n = len(wins)
    # Maximise v subject to (policy @ wins)_j >= v for all j.
    found = linprog(
        np.r_[np.zeros(n), -1.0],
        A_ub=np.c_[-wins.T, np.ones(n)],
        b_ub=np.zeros(n),
        A_eq=np.r_[np.ones(n), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, 1)] * n + [(None, None)],
    )
    return found.x[:n]


def nash_step(wins: np.ndarray, policy: Policy, eta: float) -> Policy:
    """Return pi_t(y) exp(r_t(y) / eta) / Z, r_t the win rate against pi_t: the target of soft DNO."""
    logits = np.log(policy) + wins @ policy / eta
    tilted = np.exp(logits - logits.max())
    return tilted / tilted.sum()


def iterates(step: Callable[[Policy], Policy], start: Policy, rounds: int) -> np.ndarray:
    """Return the policies [rounds, n] before each step: pi_1 .. pi_T."""
    policies = [np.asarray(start, dtype=float)]
    for _ in range(rounds - 1):
        policies.append(step(policies[-1]))
    return np.array(policies)


def monotone_lead(wins: np.ndarray, policy: Policy, eta: float) -> float:
    """Return P(pi* beats pi) - 1/2 - eta KL(pi* || pi) for the target pi* of `policy`; never below 0."""
    target = nash_step(wins, policy, eta)
    won = float(target @ wins @ policy)
    return won - 0.5 - eta * float((target * np.log(target / policy)).sum())


def regressed(wins: np.ndarray, policy: Policy, eta: float, *, steps: int = 60) -> Policy:
    """Return the minimiser of the soft loss over all pairs of outputs, by Newton steps from `policy`.

    The loss is that of `preference_loss` with targets sigmoid(r_t(y1) - r_t(y2)), over a softmax policy.
    """
    rewards = wins @ policy
    gaps = rewards[:, None] - rewards[None, :]
    targets = 1 / (1 + np.exp(-gaps))
    logits, n = np.log(policy), len(policy)
    for _ in range(steps):
        ratio = logits - np.log(policy)
        chances = 1 / (1 + np.exp(-eta * (ratio[:, None] - ratio[None, :])))
        slope = eta * (chances - targets)
        gradient = slope.sum(1) - slope.sum(0)
        weights = eta**2 * chances * (1 - chances)
        both = weights + weights.T
        hessian = np.diag(both.sum(1)) - both
        # Adding a constant to all logits changes nothing: the mean is pinned.
        logits = logits - np.linalg.solve(hessian + np.ones((n, n)), gradient)
    tilted = np.exp(logits - logits.max())
    return tilted / tilted.sum()


def bradley_terry_step(wins: np.ndarray, policy: Policy, start: Policy, beta: float) -> Policy:
    """Return the KL-optimal policy for a Bradley-Terry reward fitted to comparisons of the policy's draws.

    The reward minimises the cross-entropy over pairs drawn from `policy`; the result is start(y)
    exp(reward(y) / beta) / Z. What reinforcement learning from a reward model would reach exactly.
    """
    n = len(policy)
    pairs = np.outer(policy, policy) + 1e-12
    rewards = np.zeros(n)
    for _ in range(60):
        chances = 1 / (1 + np.exp(-(rewards[:, None] - rewards[None, :])))
        gradient = (pairs * (chances - wins)).sum(1) * 2
        weights = 2 * pairs * chances * (1 - chances)
        hessian = np.diag(weights.sum(1)) - weights
        rewards = rewards - np.linalg.solve(hessian + np.ones((n, n)) + 1e-9 * np.eye(n), gradient)
        rewards = np.clip(rewards, -30, 30)  # separable comparisons have no finite fit
    logits = np.log(start) + (rewards - rewards.mean()) / beta
    tilted = np.exp(logits - logits.max())
    return tilted / tilted.sum()
