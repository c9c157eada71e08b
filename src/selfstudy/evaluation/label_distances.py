"""What predictions cost where labels have distances: Loki's rule beside what it is compared with."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from selfstudy.models.labels.rule import LokiRule
from selfstudy.models.labels.spaces import AnySpace, paired_distances

ARGMAX, RESTRICTED, LOKI = "most probable class", "restricted Bayes rule", "Loki"
FITTED, MEDIAN, MEDOID = "Loki, fitted temperature", "Loki, median", "the medoid always"


class LabelCosts(NamedTuple):
    """How predictions went."""

    squared: np.ndarray
    """[M], the squared distance of each prediction from the truth."""
    right: np.ndarray
    """[M], whether it is the truth."""
    unseen: np.ndarray
    """[M], whether the truth is a label that was not observed."""

    @property
    def accuracy(self) -> float:
        """The share of right predictions."""
        return float(self.right.mean())

    @property
    def unseen_accuracy(self) -> float:
        """The share of right ones among labels that were not observed; nan where no item has such a one."""
        return float(self.right[self.unseen].mean()) if self.unseen.any() else float("nan")


def label_costs(space: AnySpace, truth: np.ndarray, told: Any, observed: np.ndarray) -> LabelCosts:
    """Return how predictions [M] of labels went, against the truth [M]."""
    told = np.asarray(told)
    squared = paired_distances(space, truth, told) ** 2
    return LabelCosts(squared, told == truth, ~np.isin(truth, observed))


def compared_rules(
    space: AnySpace,
    observed: np.ndarray,
    probabilities: torch.Tensor,
    truth: np.ndarray,
    *,
    fitted: float | None = None,
) -> dict[str, LabelCosts]:
    """Return how each way of predicting from the same probabilities [M, K] went.

    The gain of Loki over the restricted Bayes rule is due to labels that were not observed; that over the
    most probable class is in part what any rule gains that minds distances.

    Args:
        space: all labels.
        observed: [K], in the order of the columns.
        probabilities: [M, K].
        truth: [M].
        fitted: a temperature fitted on other items; None leaves that rule out.
    """
    rule = LokiRule(space, observed)
    median = LokiRule(space, observed, exponent=1)
    told = {
        ARGMAX: rule.most_probable(probabilities),
        RESTRICTED: rule.restricted(probabilities),
        LOKI: rule.predict(probabilities),
        MEDIAN: median.predict(probabilities),
        MEDOID: np.full(len(truth), rule.medoid()),
    }
    if fitted is not None:
        told[FITTED] = LokiRule(space, observed, temperature=fitted).predict(probabilities)
    return {way: label_costs(space, truth, labels, observed) for way, labels in told.items()}
