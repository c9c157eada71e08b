"""Outputs to one prompt with what a judge says of them, as records, and the pairs that they make.

A record is JSON data: the `prompt` as the model sees it, the `texts` and token `ids` of m outputs, of which
the first `samples` were drawn and the one at `gold` (None without one) is the reference, which of them are
`defective`, and what `judged` adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.learning.preference_pairs import (
    PAIRINGS,
    Kind,
    Margins,
    different,
    kind_of,
    win_rates,
    wins_of_scores,
    with_defects,
)
from selfstudy.learning.preferences import Pair
from selfstudy.signals.judges import asymmetry, symmetric

Record = dict[str, Any]


def judged(record: Record, verdict: np.ndarray | None, unit: str = "wins") -> Record:
    """Return `wins` [m, m], the `scores` [m] that margins are measured in, and the judge's `asymmetry`.

    Args:
        record: the outputs.
        verdict: scores [m] or wins [m, m]; None where nobody was asked: then wins and scores are None too.
        unit: "wins" measures by the share of the other outputs that one beats, "scores" by the judge's own
            scores; a defective output gets one point less than the lowest.

    Raises:
        UsageError: the unit is scores, and the judge gave wins.
    """
    if verdict is None:
        return {"wins": None, "scores": None, "asymmetry": 0.0}
    square = verdict.ndim == 2
    wins = with_defects(symmetric(verdict) if square else wins_of_scores(verdict), record["defective"])
    scores = win_rates(wins)
    if unit == "scores":
        if square:
            raise UsageError(
                "Margins in the unit scores need a judge that gives a score for each output; this one gives "
                "wins of every two. Take unit wins."
            )
        scores = np.where(record["defective"], verdict.min() - 1, verdict)
    return {
        "wins": wins.tolist(),
        "scores": scores.tolist(),
        "asymmetry": asymmetry(verdict) if square else 0.0,
    }


def pairs_of(record: Record, pairing: str, margins: Margins, *, soft: bool) -> list[tuple[Pair, Kind]]:
    """Return the pairs that a record makes, each with who won against whom; none of two equal texts.

    Args:
        record: outputs with what the judge said.
        pairing: a key of `PAIRINGS`.
        margins: what counts as clear-cut.
        soft: hold each pair to sigmoid(r_t(y1) - r_t(y2)) of its win rates against the samples, instead of 1.
    """
    gold, texts = record["gold"], record["texts"]
    scores = np.zeros(len(texts)) if record["scores"] is None else np.array(record["scores"])
    rewards = sample_rewards(record) if soft else None
    pairs = []
    for i, j in PAIRINGS[pairing](scores, gold, margins):
        if different(texts[i], texts[j]):
            target = 1.0 if rewards is None else float(1 / (1 + np.exp(rewards[j] - rewards[i])))
            pair = Pair(record["prompt"], tuple(record["ids"][i]), tuple(record["ids"][j]), target)
            pairs.append((pair, kind_of((i, j), gold)))
    return pairs


def sample_rewards(record: Record) -> np.ndarray:
    """Return the win rate of each output against the drawn ones, itself aside, [m]: r_t(x, y)."""
    wins, samples = np.array(record["wins"]), record["samples"]
    own = np.arange(len(wins)) < samples
    return (wins[:, :samples].sum(1) - 0.5 * own) / (samples - own)


def histogram(records: Sequence[Record], bins: int = 5) -> str:
    """Return in words how many outputs have which scores.

    >>> histogram([{"scores": [0.0, 0.0, 1.0]}], bins=2)
    '2 from 0.00 to 0.50, 1 from 0.50 to 1.00'
    """
    counts, edges = np.histogram(np.concatenate([record["scores"] for record in records]), bins=bins)
    return ", ".join(
        f"{count} from {low:.2f} to {high:.2f}"
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    )
