"""Steps of a training that had nothing to learn from: a word at the first, an error at too many."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from selfstudy.core.errors import DataError

if TYPE_CHECKING:
    from selfstudy.learning.policy_gradient import Collection

MOSTLY = 0.9  # share of groups of equal rewards that is worth a warning
BARREN = 20  # steps in a row without anything to learn from, before the training gives up


class Barren:
    """Counts steps in a row that had nothing to learn from; a state for checkpoints."""

    def __init__(self, name: str) -> None:
        self._name, self._steps, self._learnt, self._rewards = name, 0, False, ""

    def look(self, collection: Collection, step: int) -> None:
        """Count a step.

        Raises:
            DataError: it is the twentieth in a row.
        """
        rewards = collection.rewards
        constant = float((rewards == rewards[:, :1]).all(1).mean())
        if step == 0 and constant >= MOSTLY:
            warnings.warn(
                f"In the first step of {self._name!r} the answers to a problem all got the same reward in "
                f"{constant:.0%} of the {len(rewards)} groups (mean reward {rewards.mean():.3g}): there is "
                "little to learn from them.",
                stacklevel=2,
            )
        values, counts = np.unique(np.round(rewards.mean(-1), 2), return_counts=True)
        self._rewards = ", ".join(f"{n} of {value:g}" for value, n in zip(values, counts, strict=True))
        self._steps = 0 if collection.rollouts else self._steps + 1
        self._learnt |= bool(collection.rollouts)
        if self._steps == BARREN:
            raise self._error(f"{BARREN} steps of {self._name!r} in a row")

    def require_learnt(self) -> None:
        """Raise `DataError` when there were steps, and nothing to learn from in any of them."""
        if self._steps and not self._learnt:
            raise self._error(f"any of the {self._steps} steps of {self._name!r}")

    def _error(self, where: str) -> DataError:
        return DataError(
            f"Nothing could be learnt in {where}: the answers to every problem got the same reward. Mean "
            f"rewards of the problems of the last step: {self._rewards}. Take easier problems where they are "
            "0, harder ones where they are 1, or more answers to each problem."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"steps": self._steps, "learnt": self._learnt, "rewards": self._rewards}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the counts over."""
        self._steps, self._learnt = state_dict["steps"], state_dict["learnt"]
        self._rewards = state_dict["rewards"]
