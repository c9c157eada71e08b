"""What a search walks through: the three questions a search asks, and the checked way to ask them.

A search knows nothing of text, programs or networks. It sees states, and for whole batches of them asks
a `Domain` what could come next, how good they are, and whether they are finished.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from selfstudy.core.errors import DataError, UsageError

Action = Any  # mypy knows no type "any hashable" that a list of str would fit
"""One step of a path: anything hashable; a JSON value (or tuple of them) if trees are to be saved."""

State = tuple[int, tuple[Action, ...]]
"""A problem's index and the path of actions taken from its start."""


class Domain(Protocol):
    """The questions of a search, each asked for many states of many problems at once.

    The searches never ask for the value of one node twice, but different problems may share states:
    caching by state, if worth it, is the domain's business.
    """

    def propose(self, states: Sequence[State], n: int, keys: np.ndarray) -> list[list[Action]]:
        """Draw up to `n` valid next actions for each state.

        Args:
            states: B states.
            n: how many draws per state.
            keys: uint64 [B], the random stream of each state; the draws may depend on nothing else, so
                that a state draws the same in every batch.

        Returns:
            B lists of at most `n` actions; duplicates are allowed, an empty list means none was valid.
        """

    def values(self, states: Sequence[State]) -> np.ndarray:
        """Return how promising each state is: [B], in the `low` to `high` of the search."""

    def ended(self, states: Sequence[State]) -> np.ndarray:
        """Tell for each state whether its path is finished (the self-critic): bool [B]."""


def proposals(domain: Domain, states: Sequence[State], n: int, keys: np.ndarray) -> list[list[Action]]:
    """Return at most `n` distinct actions per state, in the order drawn; duplicates are merged."""
    if not states:
        return []
    drawn = domain.propose(states, n, keys)
    if len(drawn) != len(states):
        raise DataError(
            f"propose() was given {len(states)} states and gave {len(drawn)} lists; give one each."
        )
    return [list(dict.fromkeys(actions))[:n] for actions in drawn]


def assess(domain: Domain, states: Sequence[State], low: float, high: float) -> np.ndarray:
    """Return the domain's values of `states` as float64 [B], clamped to `low` and `high`.

    Raises:
        DataError: a wrong number of values, or one that is not a number.
    """
    if not states:
        return np.zeros(0)
    values = np.asarray(domain.values(states), dtype=np.float64)
    if values.shape != (len(states),) or np.isnan(values).any():
        raise DataError(
            f"values() was given {len(states)} states and gave an array of shape {values.shape} with "
            f"{np.isnan(values).sum()} entries that are no numbers; give one number for each state."
        )
    return np.clip(values, low, high)


def finished(domain: Domain, states: Sequence[State]) -> np.ndarray:
    """Return the domain's verdict on which of `states` are finished: bool [B].

    Raises:
        DataError: a wrong number of verdicts.
    """
    if not states:
        return np.zeros(0, dtype=bool)
    verdicts = np.asarray(domain.ended(states), dtype=bool)
    if verdicts.shape != (len(states),):
        raise DataError(
            f"ended() was given {len(states)} states and gave an array of shape {verdicts.shape}; "
            "give one verdict for each state."
        )
    return verdicts


def check_number(name: str, value: float, *, least: float, most: float = math.inf) -> None:
    """Raise `UsageError` unless `value` is finite and from `least` to `most`."""
    if not (math.isfinite(value) and least <= value <= most):
        allowed = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise UsageError(f"The search was given {name}={value}; it must be {allowed} and finite.")


def check_range(low: float, high: float, end_gate: float) -> None:
    """Raise `UsageError` unless `low` < `end_gate` <= `high`, all finite."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            f"The search was given values from low={low} to high={high}; low must be below high."
        )
    if not low < end_gate <= high:
        raise UsageError(
            f"The search was given end_gate={end_gate}; it must be above low={low} and at most high={high}."
        )
