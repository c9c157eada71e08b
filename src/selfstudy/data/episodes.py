"""Episodes of few-shot classification: a few labelled items of some classes, and queries of the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive, generator, stream_key, uniforms

BLOCK = 1 << 22  # random numbers held at a time


class Drawn(NamedTuple):
    """B episodes as places within a labelled set; classes are numbered from 0 within each episode."""

    support: np.ndarray
    """[B, W * S], places."""
    support_labels: np.ndarray
    """[W * S], the same in all episodes: W zeros and so on."""
    queries: np.ndarray
    """[B, q], places."""
    query_labels: np.ndarray
    """[B, q]."""


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """What an episode is.

    Attributes:
        ways: W, classes of an episode.
        shots: S, labelled items a class.
        queries: items to label, a class.
        imbalance: None has as many queries of each class; else they are W * queries in all, and the shares of
            the classes are drawn from a symmetric Dirichlet distribution with this parameter. 2 is mild; the
            smaller, the less even.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 15
    imbalance: float | None = None

    def draw(
        self, labels: np.ndarray, count: int, *, seed: int = 0, classes: np.ndarray | None = None
    ) -> Drawn:
        """Return `count` episodes; the i-th depends on the seed and i alone.

        Args:
            labels: [N], from 0; below 0 is unknown.
            count: B.
            seed: of the draw.
            classes: that episodes are drawn from; None is all that there are.

        Raises:
            UsageError: numbers below 1, fewer classes than ways, or a class with too few items.
        """
        chosen = np.unique(labels[labels >= 0]) if classes is None else np.asarray(classes)
        most = self.queries if self.imbalance is None else self.queries * self.ways
        self._check(labels, chosen, count, most)
        sizes = np.array([(labels == label).sum() for label in chosen])
        table = np.zeros((len(chosen), sizes.max()), dtype=np.int64)
        for row, label in enumerate(chosen):
            table[row, : sizes[row]] = np.flatnonzero(labels == label)
        keys = derive(np.array(stream_key("episodes", seed), dtype=np.uint64), np.arange(count))
        rows = uniforms(keys[:, None], np.arange(len(chosen))).argsort(1)[:, : self.ways]  # [B, W]
        counts = self._counts(count, seed)
        at_once = max(1, BLOCK // (self.ways * table.shape[1]))
        blocks = [slice(start, start + at_once) for start in range(0, count, at_once)]
        orders = [self._orders(keys[block], rows[block], table, sizes, self.shots + most) for block in blocks]
        places = np.concatenate(orders)  # [B, W, S + most]
        ends = counts.cumsum(1)
        slots = np.arange(self.ways * self.queries)
        told = (slots[None, :, None] >= ends[:, None, :]).sum(2)  # [B, q], the class of each query
        turn = slots - np.take_along_axis(ends - counts, told, 1)
        queries = places[np.arange(count)[:, None], told, self.shots + turn]
        support = places[:, :, : self.shots].reshape(count, -1)
        return Drawn(support, np.repeat(np.arange(self.ways), self.shots), queries, told)

    @staticmethod
    def _orders(
        keys: np.ndarray, rows: np.ndarray, table: np.ndarray, sizes: np.ndarray, needed: int
    ) -> np.ndarray:
        """Return for each episode and class `needed` different items: [B, W, needed]."""
        own = derive(keys[:, None], rows + (1 << 32))[:, :, None]  # apart from the draw of classes
        items = np.arange(table.shape[1])
        drawn = np.where(items < sizes[rows][:, :, None], uniforms(own, items), np.inf)
        return np.take_along_axis(table[rows], drawn.argsort(2)[:, :, :needed], 2)

    def _counts(self, count: int, seed: int) -> np.ndarray:
        """Return how many queries each class of each episode has: [B, W]."""
        if self.imbalance is None:
            return np.full((count, self.ways), self.queries)
        rngs = [generator("shares of episodes", seed, number) for number in range(count)]
        total = self.ways * self.queries
        return np.array([rng.multinomial(total, rng.dirichlet([self.imbalance] * self.ways)) for rng in rngs])

    def _check(self, labels: np.ndarray, classes: np.ndarray, count: int, most: int) -> None:
        if min(self.ways, self.shots, self.queries, count) < 1 or (
            self.imbalance is not None and self.imbalance <= 0
        ):
            raise UsageError(
                f"Episodes need ways={self.ways}, shots={self.shots}, queries={self.queries} and their "
                f"number {count} of 1 or more, and imbalance={self.imbalance} above 0 or None."
            )
        if self.ways > len(classes):
            raise UsageError(f"{self.ways} ways are asked for and there are {len(classes)} classes.")
        few = [int(label) for label in classes if (labels == label).sum() < self.shots + most]
        if few:
            raise UsageError(
                f"Class {few[0]} has {(labels == few[0]).sum()} items; episodes may need {self.shots} to "
                f"show and {most} to ask for. Leave out classes with fewer, or ask for fewer."
            )
