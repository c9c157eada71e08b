"""What an evaluation measures, and how it went: one figure for each test item, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfstudy.evaluation.statistics import Difference, paired_bootstrap, paired_interval, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure by which models are judged."""

    name: str
    """In words: "accuracy", "squared error"."""
    lower_is_better: bool = False
    """Whether a loss."""
    share: bool = False
    """Whether a share of right items, shown in percent and with Wilson's interval."""

    def gain(self, after: Sequence[float], before: Sequence[float]) -> Difference:
        """Return by how much `after` is better than `before` on the same items; above 0 is better."""
        return paired_bootstrap(*((before, after) if self.lower_is_better else (after, before)))

    def row(self, values: Sequence[float], **more: Any) -> dict[str, Any]:
        """Return one row of results: the mean under the metric's name, its count and its 95 % interval.

        >>> row = ACCURACY.row([True, True, False, True])
        >>> row["accuracy"], row["count"], round(row["low"], 2), round(row["high"], 2)
        (0.75, 4, 0.3, 0.95)

        Args:
            values: one an item.
            more: what else the row says, such as generated_tokens.
        """
        count = len(values)
        if self.share:
            low, high = wilson(sum(values), count)
            return {self.name: sum(values) / count, "count": count, "low": low, "high": high, **more}
        found = paired_interval(values).to_json()
        return {self.name: found["mean"], "count": count, "low": found["low"], "high": found["high"], **more}

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"name": self.name, "lower_is_better": self.lower_is_better, "share": self.share}


ACCURACY = Metric(name="accuracy", share=True)


@dataclass(frozen=True, slots=True)
class Measured:
    """The outcome of an evaluation without generated tokens: one figure for each item."""

    values: tuple[float, ...]
