"""A round of active learning with self-training: what is known of a pool, and what came of the round."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.files import read_json, write_json
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.learning.pool_learners import Learner
from selfstudy.signals.evidence import Evidence, Selection
from selfstudy.signals.queries import Candidates

TRAINED, ARRAYS, REST = "trained", "round.safetensors", "round.json"


@dataclass(frozen=True)
class Known:
    """What is known of a pool's N items before a round.

    Attributes:
        labels: [N]; `UNKNOWN` where there is none.
        refused: [N], whether somebody was asked and was not sure.
        same: [N], place of the first item with the same input.
        remembered: [N, m], what the selector remembers; nan where nothing, None before the first round.
    """

    labels: np.ndarray
    refused: np.ndarray
    same: np.ndarray
    remembered: torch.Tensor | None = None

    @property
    def labelled(self) -> np.ndarray:
        """Places of the items with a label."""
        return np.flatnonzero(self.labels != UNKNOWN)

    @property
    def unlabelled(self) -> np.ndarray:
        """Places of the others."""
        return np.flatnonzero(self.labels == UNKNOWN)

    @property
    def open(self) -> np.ndarray:
        """Places of the items that may still be asked for."""
        return np.flatnonzero((self.labels == UNKNOWN) & ~self.refused)

    def answered(self, places: np.ndarray, answers: np.ndarray) -> Known:
        """Return what is known with these answers too; `UNKNOWN` is "not sure"."""
        labels, refused = self.labels.copy(), self.refused.copy()
        labels[places], refused[places] = answers, answers == UNKNOWN
        return replace(self, labels=labels, refused=refused)

    def memory(self, selection: Selection, sample: np.ndarray) -> torch.Tensor | None:
        """Return what the selector remembers after a selection from the items of `sample`."""
        if selection.remembered is None:
            return self.remembered
        if self.remembered is None:
            whole = torch.full((len(self.labels), selection.remembered.shape[1]), torch.nan)
        else:
            whole = self.remembered.clone()
        whole[sample] = selection.remembered
        return whole


@dataclass(frozen=True, kw_only=True)
class Round:
    """What came of a round.

    Attributes:
        trained: what was learnt from labels and pseudo-labels.
        labelled: l, how many labels there were.
        places: [K], of the items with pseudo-labels.
        labels: [K], those.
        status: how their selection ended.
        accuracy: on validation items; None where there are none.
        asked: [B], places of the items to ask for; none after the last round.
        guesses: [B, C], probabilities of their classes.
        remembered: [N, m], of the selector.
    """

    trained: Any
    labelled: int
    places: np.ndarray
    labels: np.ndarray
    status: str
    accuracy: float | None
    asked: np.ndarray
    guesses: torch.Tensor
    remembered: torch.Tensor | None = None

    def save(self, folder: Path) -> None:
        """Write it: the trained part in a folder of its own, arrays as safetensors, the rest as JSON."""
        self.trained.save(folder / TRAINED)
        arrays = {name: torch.from_numpy(getattr(self, name)) for name in ("places", "labels", "asked")}
        arrays["guesses"] = self.guesses.contiguous()
        if self.remembered is not None:
            arrays["remembered"] = self.remembered
        safetensors.torch.save_file(arrays, folder / ARRAYS)
        rest = {name: getattr(self, name) for name in ("labelled", "status", "accuracy")}
        write_json(folder / REST, {**rest, "trained": name_class(type(self.trained))})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        found: dict[str, Any] = read_json(folder / REST)
        found["trained"] = find_class(found["trained"], folder / REST).load(folder / TRAINED)
        arrays: dict[str, Any] = safetensors.torch.load_file(folder / ARRAYS)
        for name in ("places", "labels", "asked"):
            found[name] = arrays.pop(name).numpy()
        return cls(**found, **arrays)


def evidence_of(
    learner: Learner,
    trained: Any,
    known: Known,
    sample: np.ndarray,
    run: Run,
    number: int,
    *,
    progress: float,
    passes: int,
) -> Evidence:
    """Return what a selector may look at.

    Args:
        learner: trains and looks.
        trained: on the labels alone.
        known: before the round.
        sample: [S], places of the unlabelled items to choose from.
        run: gives the random streams.
        number: of the round.
        progress: from 0 at the first round to 1 at the last.
        passes: T, of Monte Carlo.
    """
    at = known.labelled
    labels = known.labels[at]
    seen, seen_labelled = learner.look(trained, sample), learner.look(trained, at)
    _, first, group = np.unique(known.same[sample], return_index=True, return_inverse=True)

    def verified() -> np.ndarray:
        other = learner.train(at, labels, np.ones(len(at)), run, ("verification", number))
        return learner.look(other, sample).probabilities.argmax(1).numpy()

    def both_passes() -> tuple[torch.Tensor, torch.Tensor]:
        both = learner.passes(trained, np.concatenate([sample, at]), passes, run, ("passes", number))
        return both[: len(sample)], both[len(sample) :]

    return Evidence(
        probabilities=seen.probabilities,
        features=seen.features,
        groups=first[group],
        labels=labels,
        labelled_probabilities=seen_labelled.probabilities,
        labelled_features=seen_labelled.features,
        passes=both_passes,
        verified=verified,
        earlier=None if known.remembered is None else known.remembered[sample],
        progress=progress,
        rng=run.rng("selection", number),
    )


def candidates_of(
    learner: Learner, trained: Any, known: Known, run: Run, number: int, *, passes: int
) -> Candidates:
    """Return what a query strategy may look at: the items that are open.

    Args:
        learner: looks.
        trained: the classifier that asks.
        known: before the round.
        run: gives the random streams.
        number: of the round.
        passes: T, of Monte Carlo.
    """
    seen, seen_labelled = learner.look(trained, known.open), learner.look(trained, known.labelled)
    return Candidates(
        probabilities=seen.probabilities,
        features=seen.features,
        labelled_probabilities=seen_labelled.probabilities,
        labelled_features=seen_labelled.features,
        passes=lambda: learner.passes(trained, known.open, passes, run, ("query passes", number)),
        rng=run.rng("query", number),
    )
