"""Which tokens come with which next token: P(l | m, n), and sequences drawn from it.

Tian, Wang, Chen, Du 2023, arXiv 2305.16380. A class is a pair of a last token m and a next token n. The
tokens before m are drawn independently from the class's distribution over tokens l.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from selfstudy.core.errors import DataError

_ONE = 1 << 32  # probabilities are drawn in units of 2^-32, which are exact in integers


class Sequences(NamedTuple):
    """Tokens and what comes after them."""

    tokens: torch.Tensor  # [B, T] ids
    targets: torch.Tensor  # [B, Q] ids: the tokens after the last Q positions


@dataclass(frozen=True, kw_only=True)
class Cooccurrence:
    """P(l | m, n) of K classes (m, n) over M tokens.

    Raises:
        DataError: shapes that do not agree, or rows that are no distribution.
    """

    last: np.ndarray  # [K] token m of each class
    next: np.ndarray  # [K] token n of each class
    probabilities: np.ndarray  # [K, M] rows sum to 1
    common: np.ndarray  # [K, M] whether l comes with several next tokens
    words: tuple[str, ...] = field(default=())  # [M] how people call the tokens

    def __post_init__(self) -> None:
        p = self.probabilities
        shapes = {len(self.last), len(self.next), len(p), len(self.common)}
        if p.ndim != 2 or len(p) == 0 or len(shapes) != 1 or self.common.shape != p.shape:
            raise DataError(
                "A table of K classes over M tokens needs last [K], next [K], probabilities [K, M] and "
                f"common [K, M]; given: {self.last.shape}, {self.next.shape}, {p.shape}, {self.common.shape}."
            )
        if not np.isfinite(p).all() or (p < 0).any() or not np.allclose(p.sum(1), 1):
            raise DataError("Each row of probabilities must be finite, at least 0, and sum to 1.")
        tokens = np.concatenate([self.last, self.next])
        if tokens.min() < 0 or tokens.max() >= p.shape[1]:
            raise DataError(f"Last and next tokens must be among the {p.shape[1]} tokens of the table.")

    @property
    def vocabulary(self) -> int:
        """M."""
        return self.probabilities.shape[1]

    @property
    def distinct(self) -> np.ndarray:
        """Whether l comes with this class and is not common, [K, M]."""
        return (self.probabilities > 0) & ~self.common

    def word(self, token: int) -> str:
        """Return how people call a token."""
        return self.words[token] if self.words else f"token {token}"

    def watched(self, most: int) -> list[int]:
        """Return the first class of each of the first `most` last tokens, for pictures."""
        _, first = np.unique(self.last, return_index=True)
        return sorted(int(i) for i in first)[:most]


def synthetic(
    *, last: int = 2, next: int = 1, common: int = 10, own: int = 10, least: float = 0.1, most: float = 1.0
) -> Cooccurrence:
    """Return the table of the paper's experiments.

    Common tokens have weight 1 in every class; each class has tokens of its own with weights spaced evenly
    from `least` to `most`. Tokens: last ones m1, m2, ..., next ones n1, ..., common ones c1, ..., and such as
    d2.7, the seventh of those that come with n2 alone.

    >>> table = synthetic()
    >>> table.vocabulary, round(float(table.probabilities[0] @ table.common[0]), 3)
    (34, 0.645)

    Args:
        last: last tokens.
        next: next tokens of each last token; no two last tokens share any.
        common: tokens that come with every class.
        own: tokens of each class alone.
        least: weight of the rarest own token.
        most: weight of the most frequent one.

    Raises:
        DataError: a count below its least, or weights that are not 0 < least <= most.
    """
    if min(last, next, own) < 1 or common < 0:
        raise DataError(
            f"The table needs last, next and own of at least 1 and common of at least 0; given: last={last}, "
            f"next={next}, own={own}, common={common}."
        )
    if not 0 < least <= most < float("inf"):
        raise DataError(f"Weights of own tokens need 0 < least <= most, not least={least} and most={most}.")
    classes = last * next
    start = last + classes
    weights = np.zeros((classes, start + common + classes * own))
    weights[:, start : start + common] = 1.0
    places = start + common + np.arange(classes * own).reshape(classes, own)
    np.put_along_axis(weights, places, np.linspace(least, most, own)[None], axis=1)
    shared = (weights > 0).sum(0) > 1
    named = (("m", last), ("n", classes), ("c", common))
    words = [f"{letter}{i + 1}" for letter, count in named for i in range(count)]
    words += [f"d{k + 1}.{i + 1}" for k in range(classes) for i in range(own)]
    return Cooccurrence(
        last=np.repeat(np.arange(last), next),
        next=last + np.arange(classes),
        probabilities=weights / weights.sum(1, keepdims=True),
        common=np.broadcast_to(shared, weights.shape) & (weights > 0),
        words=tuple(words),
    )


def draw(table: Cooccurrence, size: int, length: int, rng: np.random.Generator) -> Sequences:
    """Return sequences of `length` tokens: context from P(l | m, n), then m; the target is n.

    Args:
        table: classes are drawn evenly.
        size: B.
        length: T, of which T - 1 are context.
        rng: draws them.
    """
    classes = rng.integers(len(table.last), size=size)
    # One search over all rows: row k lies between k and k + 1, in whole units so that nothing is rounded.
    shares = table.probabilities.cumsum(1)
    steps = np.rint(shares / shares[:, -1:] * _ONE).astype(np.int64) + _ONE * np.arange(len(shares))[:, None]
    at = rng.integers(_ONE, size=(size, length - 1)) + _ONE * classes[:, None]
    context = np.searchsorted(steps.ravel(), at, side="right") - table.vocabulary * classes[:, None]
    tokens = np.concatenate([context, table.last[classes, None]], axis=1)
    return Sequences(torch.from_numpy(tokens), torch.from_numpy(table.next[classes, None]))
