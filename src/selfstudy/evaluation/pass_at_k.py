"""How often k samples hold a right answer, how often their vote is right, and what training gained of it.

pass@k is the estimator of Chen et al. 2021, arXiv 2107.03374. The split of gains is that of Nath et al. 2025,
arXiv 2506.13923.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.core.random import stream_key
from selfstudy.search.best_of import majority
from selfstudy.search.solvers import voting_solver

if TYPE_CHECKING:
    from selfstudy.models.language.backends import Policy
    from selfstudy.tasks.reasoning import ReasoningTask


def pass_at_k(right: Any, samples: int, k: int) -> np.ndarray:
    """Return the chance that k of a problem's samples, drawn without replacement, hold a right one.

    1 - C(n - c, k) / C(n, k), the unbiased estimate from c right ones of n samples.

    Args:
        right: c, of any shape: right samples of each problem.
        samples: n, of each problem.
        k: 1 to n.

    Raises:
        UsageError: k or c out of range.

    >>> pass_at_k([0, 1, 10], 10, 5).tolist()
    [0.0, 0.5, 1.0]
    """
    right = np.asarray(right)
    if not 1 <= k <= samples:
        raise UsageError(f"pass@{k} cannot be estimated from {samples} samples; k must be 1 to {samples}.")
    if right.size and (right.min() < 0 or right.max() > samples):
        raise UsageError(
            f"Of {samples} samples 0 to {samples} are right, not {right.min()} to {right.max()}."
        )
    i = np.arange(k)
    # Factor by factor: the binomials themselves leave the range of floats.
    missed = (np.clip(samples - right[..., None] - i, 0, None) / (samples - i)).prod(-1)
    return 1 - missed


def majority_at_k(answers: Sequence[Sequence[str | None]], right: Any, k: int) -> np.ndarray:
    """Return the share [P] of votes over k samples that are right: maj@k, over blocks of k samples in turn.

    Args:
        answers: [P, n] stated answers; None has no vote.
        right: [P, n] whether each is right.
        k: 1 to n; samples beyond the last whole block are left out.

    Raises:
        UsageError: k out of range.

    >>> majority_at_k([["4", "4", "5", "5"]], [[1, 1, 0, 0]], 2).tolist()
    [0.5]
    """
    verdicts = np.asarray(right, dtype=bool)
    samples = verdicts.shape[1]
    if not 1 <= k <= samples:
        raise UsageError(f"maj@{k} cannot be estimated from {samples} samples; k must be 1 to {samples}.")
    starts = range(0, samples - k + 1, k)
    return np.array(
        [
            np.mean([_vote_is_right(row[i : i + k], known[i : i + k]) for i in starts])
            for row, known in zip(answers, verdicts, strict=True)
        ]
    )


def sampled_verdicts(
    task: ReasoningTask,
    policy: Policy,
    *,
    samples: int,
    seed: int,
    temperature: float = 1.0,
    split: str = "test",
    limit: int | None = None,
    meter: Meter | None = None,
) -> np.ndarray:
    """Return whether each of `samples` answers to each problem of a split is right, [P, samples].

    Args:
        task: the problems.
        policy: draws the answers.
        samples: of each problem.
        seed: of the draws.
        temperature: of the draws.
        split: train, validation or test.
        limit: so many problems; None is all.
        meter: charged with what is drawn and checked.
    """
    columns = []
    for i in range(samples):
        solver = voting_solver(
            policy,
            task,
            samples=1,
            vote="majority",
            seed=stream_key(seed, "pass", i),
            temperature=temperature,
        )
        columns.append(task.evaluate(solver, split=split, limit=limit, meter=meter).correct)
    return np.array(columns, dtype=bool).T


@dataclass(frozen=True, slots=True)
class Gains:
    """What training changed at each problem, from the same number of samples before and after."""

    self_distilled: np.ndarray
    """[P] some sample was right before, and more of them are now: pass@k became pass@1."""
    capability: np.ndarray
    """[P] no sample was right before, and some are now."""
    lost: np.ndarray
    """[P] some sample was right before, and none is now."""
    before: dict[int, float]
    """pass@k by k, for powers of 2 up to the number of samples."""
    after: dict[int, float]
    """The same after training."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts and the curves."""
        return {
            "problems": len(self.lost),
            "self_distilled": int(self.self_distilled.sum()),
            "capability": int(self.capability.sum()),
            "lost": int(self.lost.sum()),
            "before": {str(k): value for k, value in self.before.items()},
            "after": {str(k): value for k, value in self.after.items()},
        }


def gains(before: Any, after: Any) -> Gains:
    """Split what training gained into likelier answers and newly solved problems (Nath et al. 2025).

    Args:
        before: [P, n] whether each sample was right before.
        after: [P, n] the same after training, on the same problems.

    Raises:
        UsageError: different shapes, or no samples.

    >>> found = gains([[0, 0], [1, 0], [1, 0]], [[0, 1], [1, 1], [0, 0]])
    >>> found.capability.tolist(), found.self_distilled.tolist(), found.lost.tolist()
    ([True, False, False], [False, True, False], [False, False, True])
    """
    old, new = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if old.shape != new.shape or old.ndim != 2 or not old.size:
        raise UsageError(
            f"Gains compare as many samples of the same problems: {old.shape} before, {new.shape} after."
        )
    c_old, c_new = old.sum(1), new.sum(1)
    samples = old.shape[1]
    ks = [2**i for i in range(samples.bit_length()) if 2**i <= samples]
    return Gains(
        self_distilled=(c_old > 0) & (c_new > c_old),
        capability=(c_old == 0) & (c_new > 0),
        lost=(c_old > 0) & (c_new == 0),
        before={k: float(pass_at_k(c_old, samples, k).mean()) for k in ks},
        after={k: float(pass_at_k(c_new, samples, k).mean()) for k in ks},
    )


def _vote_is_right(answers: Sequence[str | None], right: np.ndarray) -> bool:
    chosen = majority(answers)
    return chosen is not None and bool(right[list(answers).index(chosen)])
