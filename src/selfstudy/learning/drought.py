"""Training on rationales of which none is right, or for which there is no need: warnings and errors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from selfstudy.core.errors import DataError

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import ReasoningTask

BARREN = 50  # steps in a row without a right rationale in the minibatch, before the training gives up
MOST = 0.5  # share of unread or visible answers above which there is a warning


class Drought:
    """Counts steps in a row whose minibatch held no right rationale; a state for checkpoints.

    Args:
        most: steps after which there is no hope.
    """

    def __init__(self, most: int) -> None:
        self._most, self._steps = most, 0

    def look(self, held: np.ndarray) -> None:
        """Count a step, given which chains hold a right rationale.

        Raises:
            DataError: it is one too many.
        """
        self._steps = 0 if held.any() else self._steps + 1
        if self._steps == self._most:
            raise DataError(
                f"For {self._most} steps in a row no rationale of the {len(held)} problems of a step has led "
                "to a right answer, so there is nothing to learn. Take easier problems, a better starting "
                "model, or a guide that is shown the answers (--guide answer)."
            )

    def state_dict(self) -> dict[str, int]:
        """Return the count."""
        return {"steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take the count over."""
        self._steps = state_dict["steps"]


def warn_of_rationales(records: Sequence[Mapping[str, Any]], task: str) -> None:
    """Warn where the first rationales say that something is wrong.

    Args:
        records: each with "text", "right" and "answered".
        task: its name.
    """
    unread = sum(not record["answered"] for record in records)
    if unread > MOST * len(records):
        warnings.warn(
            f"{unread} of {len(records)} first rationales of {task!r} state no answer that can be read "
            f"({records[0]['text'][:80]!r}, for one). They count as wrong. Check how answers are marked, and "
            "whether solutions have enough tokens.",
            stacklevel=2,
        )
    if not any(record["right"] for record in records):
        warnings.warn(
            f"None of {len(records)} first rationales of {task!r} leads to a right answer: all chains "
            "start wrong, and nothing is learnt before the model solves a problem by itself.",
            stacklevel=2,
        )


def warn_of_shown_answers(task: ReasoningTask) -> None:
    """Warn where most answers stand in the questions; among choices they always do."""
    shown = task.answers_shown() if task.verifier != "choice" else 0.0
    if shown > MOST:
        warnings.warn(
            f"The right answer stands in {shown:.0%} of the training questions of {task.name!r}: it can be "
            "copied, and no rationale is needed.",
            stacklevel=2,
        )
