"""Loki's rule: predict the label that is nearest to all probable ones, in the place of the most probable."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.models.labels.locus import next_classes, reachable
from selfstudy.models.labels.spaces import AT_ONCE, AnySpace, Targets
from selfstudy.models.temperature_scaling import tempered

if TYPE_CHECKING:
    from selfstudy.models.labels.classifier import Classifier, LokiClassifier

SUM_OFF = 1e-3  # most that probabilities may add up to beside 1
TIE = 1e-9  # of the mean cost among observed labels; costs this near are equal
FLOAT_FROM = 2**24  # distances on a tree or graph that are kept, from which on float32 is enough
ROWS = 64  # labels from which the distances on a tree or graph are found at a time


class LokiRule:
    """The Frechet mean of observed labels, weighted by a classifier's probabilities, among all labels.

        rule = LokiRule(edges_space(edges), observed=[3, 5, 8])
        labels = rule.predict(probabilities)  # argmin over y of sum_i p_i d(y, l_i)^2

    Probabilities [B, K] have their columns in the order of `observed`; arrays give arrays, tensors give
    tensors. Of equal costs an observed label is preferred, then the more probable, then the smaller number.
    All N labels are gone through in blocks: no table of N by N is made, and that of K by N is kept for trees
    and graphs alone.

    Args:
        space: the N labels and their distances.
        observed: numbers of the K labels that the classifier knows, or their names.
        exponent: 2 for the mean, 1 for the median.
        temperature: that the classifier's logits are divided by, see `fitted_temperature`.

    Raises:
        UsageError: another exponent, or a temperature that is not above 0.
        DataError: an observed label that there is not, one given twice, or none.
    """

    def __init__(
        self,
        space: AnySpace,
        observed: Sequence[int] | Sequence[str] | np.ndarray,
        *,
        exponent: Literal[1, 2] = 2,
        temperature: float = 1.0,
    ) -> None:
        if exponent not in (1, 2) or not temperature > 0:
            raise UsageError(
                f"The exponent is {exponent} and the temperature {temperature}: the exponent must be 1 or 2, "
                "the temperature above 0."
            )
        self.space, self.exponent, self.temperature = space, exponent, temperature
        self.observed = numbers_of(space, observed)
        if len(self.observed) == 1:
            warnings.warn(
                f"One label is observed, {space.names[self.observed[0]]!r}: it is predicted always.",
                stacklevel=2,
            )
        self._column = np.full(len(space.names), -1)
        self._column[self.observed] = np.arange(len(self.observed))
        self._rows = _all_rows(space, self.observed) if space.by_rows else None
        self._own = self.costs_to(self.observed)  # [K, K]
        self._step = TIE * (float(self._own.mean()) or 1.0)

    def __repr__(self) -> str:
        return (
            f"LokiRule({len(self.space.names)} labels, {len(self.observed)} observed, "
            f"exponent={self.exponent}, temperature={self.temperature:g})"
        )

    def predict(self, probabilities: Any) -> Any:
        """Return the label [B] with the least cost."""
        p = self._checked(probabilities)
        best = torch.full((len(p),), torch.inf, dtype=torch.float64)
        found = torch.zeros(len(p), dtype=torch.long)
        for start, costs in self._blocks(p):
            least, at = self._ranked(costs, p, start).min(1)
            better = least < best
            best, found = torch.where(better, least, best), torch.where(better, at + start, found)
        return _like(found, probabilities)

    def top(self, probabilities: Any, count: int) -> Any:
        """Return the `count` labels [B, count] with the least costs, the least first."""
        p = self._checked(probabilities)
        best = torch.empty((len(p), 0), dtype=torch.float64)
        found = torch.empty((len(p), 0), dtype=torch.long)
        for start, costs in self._blocks(p):
            ranked = torch.cat([best, self._ranked(costs, p, start)], 1)
            here = torch.arange(start, start + costs.shape[1]).expand(len(p), -1)
            best, order = (part[:, :count] for part in ranked.sort(dim=1, stable=True))
            found = torch.cat([found, here], 1).gather(1, order)
        return _like(found, probabilities)

    def scores(self, probabilities: Any) -> Any:
        """Return the scores [B, N], the costs below 0: more is better. Gradients go through it.

        Temperature included; they are all N in memory.
        """
        p = self._checked(probabilities)
        return _like(-torch.cat([costs for _, costs in self._blocks(p)], 1), probabilities)

    def restricted(self, probabilities: Any) -> Any:
        """Return the label [B] with the least cost among the observed ones: the Bayes rule of these costs."""
        p = self._checked(probabilities)
        costs = self._ranked(p @ self._own, p, at=self.observed)
        order = np.argsort(self.observed)  # so that the first of equal ones has the smaller number
        found = torch.from_numpy(self.observed[order])[costs[:, torch.from_numpy(order)].argmin(1)]
        return _like(found, probabilities)

    def most_probable(self, probabilities: Any) -> Any:
        """Return the label [B] that the classifier gives: the argmax."""
        return _like(torch.from_numpy(self.observed)[self._checked(probabilities).argmax(1)], probabilities)

    def medoid(self) -> int:
        """Return the one label that is nearest to all observed ones."""
        return int(self.predict(np.full((1, len(self.observed)), 1 / len(self.observed)))[0])

    def reachable(self) -> np.ndarray | None:
        """Return which labels [N] some probabilities lead to; None where that is too much to find out."""
        return reachable(self.space, self.observed, self.exponent)

    def next_class(self, count: int = 1) -> list[int]:
        """Return the labels to observe next, so that more can be reached; fewer where all are."""
        return next_classes(self.space, self.observed, count, self.exponent)

    def wrap(self, classifier: Classifier) -> LokiClassifier:
        """Return the classifier with this rule in the place of its argmax; its classes are matched by name.

        Raises:
            UsageError: its classes are not the observed labels.
        """
        from selfstudy.models.labels.classifier import LokiClassifier

        return LokiClassifier(classifier, self)

    def costs_to(self, labels: Targets) -> torch.Tensor:
        """Return d(l_i, y)^exponent [K, n] from the observed labels to some."""
        if self._rows is not None:
            found = self._rows[:, labels]
        else:
            found = self.space.distances(self.observed, labels)
        return torch.from_numpy(found.astype(np.float64)) ** self.exponent

    def _blocks(self, p: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the first label of each block of labels, and their costs [B, n]."""
        size = max(1, AT_ONCE // max(p.shape))
        for start in range(0, len(self.space.names), size):
            yield start, p @ self.costs_to(slice(start, start + size))

    def _ranked(
        self, costs: torch.Tensor, p: torch.Tensor, start: int = 0, *, at: np.ndarray | None = None
    ) -> torch.Tensor:
        """Return keys [B, n], the least of which is predicted: whole steps of cost, ties broken between."""
        column = self._column[start : start + costs.shape[1]] if at is None else self._column[at]
        known = torch.from_numpy(np.flatnonzero(column >= 0))
        keys = (costs / self._step).round_().mul_(4)
        keys[:, known] -= 1 + p[:, torch.from_numpy(column[column >= 0])]
        return keys

    def _checked(self, probabilities: Any) -> torch.Tensor:
        p = torch.as_tensor(probabilities)
        p = p.to(device="cpu", dtype=torch.float64)
        if p.ndim != 2 or p.shape[1] != len(self.observed):
            raise DataError(
                f"The probabilities have the shape {tuple(p.shape)}; give [items, {len(self.observed)}], a "
                "column for each observed label, in their order."
            )
        bad = (~torch.isfinite(p)).any(1).nonzero()[:, 0].tolist()
        if bad:
            raise DataError(
                f"The probabilities of row {bad[0]} are not finite numbers, as of {len(bad)} rows."
            )
        off = ((p < 0).any(1) | ((p.sum(1) - 1).abs() > SUM_OFF)).nonzero()[:, 0].tolist()
        if off:
            raise DataError(
                f"Row {off[0]} has no probabilities: it adds up to {float(p[off[0]].sum()):.4g}, the least "
                f"is {float(p[off[0]].min()):.4g}. It is one of {len(off)} rows. Are they logits? Then take "
                "their softmax."
            )
        return tempered(p, self.temperature)


def numbers_of(space: AnySpace, labels: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
    """Return the numbers of labels in a space; they may be names.

    Raises:
        DataError: one that there is not, one given twice, or none.
    """
    given = list(labels)
    if given and isinstance(given[0], str):
        codes = {name: code for code, name in enumerate(space.names)}
        missing = next((name for name in given if name not in codes), None)
        if missing is not None:
            raise DataError(f"The metric has no label {missing!r}. {nearest(str(missing), space.names)}")
        given = [codes[str(name)] for name in given]
    found = np.asarray(given, dtype=np.int64)
    outside = found[(found < 0) | (found >= len(space.names))]
    if not len(found) or len(outside):
        said = f"{outside[0]} is none" if len(outside) else "None is observed"
        raise DataError(f"{said} of the {len(space.names)} labels, which are numbered from 0.")
    if len(np.unique(found)) < len(found):
        twice = next(label for place, label in enumerate(given) if label in given[:place])
        raise DataError(f"The observed label {space.names[int(twice)]!r} is given twice.")
    return found


def _all_rows(space: AnySpace, sources: np.ndarray) -> np.ndarray:
    """Return the distances [k, N], found from some labels at a time."""
    kind = np.float32 if len(sources) * len(space.names) > FLOAT_FROM else np.float64
    found = np.empty((len(sources), len(space.names)), dtype=kind)
    for start in range(0, len(sources), ROWS):
        found[start : start + ROWS] = space.distances(sources[start : start + ROWS])
    return found


def _like(found: torch.Tensor, given: Any) -> Any:
    if isinstance(given, torch.Tensor):
        return found.to(given.device)
    return found.numpy()
