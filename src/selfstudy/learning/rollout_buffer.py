"""What a step has collected beyond its batch, kept for the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfstudy.learning.policy_gradient import Rollout


class RolloutBuffer:
    """Groups of answers that wait, and how often problems were drawn: a state for checkpoints.

    Attributes:
        groups: those that wait, oldest first. Answers that are learnt from later than they were drawn need
            the log-probabilities of then (`Rollout.behaviour`).
        draws: how often problems were drawn, so that the next draw is of the next problems.
    """

    def __init__(self) -> None:
        self.groups: list[list[Rollout]] = []
        self.draws = 0

    def take(self, count: int) -> list[list[Rollout]]:
        """Remove and return up to `count` groups."""
        taken, self.groups = self.groups[:count], self.groups[count:]
        return taken

    def keep(self, groups: Sequence[Sequence[Rollout]]) -> None:
        """Add groups."""
        self.groups += [list(group) for group in groups]

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as arrays and plain values."""
        return {"groups": [[_saved(one) for one in group] for group in self.groups], "draws": self.draws}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it over."""
        self.groups = [[_rollout(one) for one in group] for group in state_dict["groups"]]
        self.draws = state_dict["draws"]


def _saved(rollout: Rollout) -> dict[str, Any]:
    behaviour = rollout.behaviour
    return {
        "prompt": np.array(rollout.prompt, dtype=np.int64),
        "tokens": np.array(rollout.tokens, dtype=np.int64),
        "advantage": rollout.advantage,
        "behaviour": None if behaviour is None else np.array(behaviour, dtype=np.float64),
        "elsewhere": rollout.elsewhere,
    }


def _rollout(saved: dict[str, Any]) -> Rollout:
    behaviour = saved["behaviour"]
    return Rollout(
        tuple(saved["prompt"].tolist()),
        tuple(saved["tokens"].tolist()),
        saved["advantage"],
        None if behaviour is None else tuple(behaviour.tolist()),
        saved["elsewhere"],
    )
