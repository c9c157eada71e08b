"""What happened in rounds of comparing and preferring: who won, and how long outputs got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from selfstudy.evaluation.pictures import Picture, bars, line, picture
from selfstudy.evaluation.tournament import cyclic_share
from selfstudy.learning.preference_pairs import KINDS, win_rates


def round_figures(records: Sequence[dict[str, Any]], kinds: Sequence[str]) -> dict[str, Any]:
    """Return what a round's comparisons and pairs say, as JSON data.

    Args:
        records: by prompt: the outputs' token `ids` (drawn ones first), the place of the reference as `gold`
            (None without one), `wins` [m, m] (None where nothing was compared) and `defective` outputs.
        kinds: of the pairs.
    """
    drawn = [ids for record in records for ids in record["ids"][: record["samples"]]]
    compared = [record for record in records if record["wins"] is not None]
    against_gold = [
        float(win_rates(np.array(record["wins"]))[record["gold"]])
        for record in compared
        if record["gold"] is not None
    ]
    counts = Counter(kinds)
    return {
        "prompts": len(records),
        "pairs": len(kinds),
        **{kind: counts[kind] for kind in KINDS},
        "length": float(np.mean([len(ids) for ids in drawn])),
        "generated_tokens": sum(map(len, drawn)),
        "defective": float(np.mean([one for record in records for one in record["defective"]])),
        "student_over_gold": 1 - float(np.mean(against_gold)) if against_gold else None,
        "cyclic": float(np.mean([cyclic_share(np.array(r["wins"])) for r in compared])) if compared else None,
    }


def round_pictures(rounds: Sequence[dict[str, Any]]) -> list[Picture]:
    """Return pictures of the rounds: kinds of pairs, lengths, and wins over the first model where known."""
    numbers = [i + 1 for i in range(len(rounds))]
    whole = {"xaxis": {"dtick": 1}}
    pictures = [
        picture(
            "Pairs of each round, by who won",
            [bars(kind, numbers, [one[kind] for one in rounds]) for kind in KINDS],
            x="round",
            y="pairs",
            note="Where a sample wins over the reference, the model learns to overtake it.",
            layout={"barmode": "stack", **whole},
        ),
        picture(
            "Length of the outputs drawn in each round",
            [line("mean length", numbers, [one["length"] for one in rounds], mode="lines+markers")],
            x="round",
            y="tokens",
            note="Lengths often grow though nobody asks for it: a side effect of learning from preferences.",
            layout=whole,
        ),
    ]
    known = [(n, one) for n, one in zip(numbers, rounds, strict=True) if one["win_rate"] is not None]
    if known:
        traces = [
            line(name, [n for n, _ in known], [one[key] for _, one in known], mode="lines+markers")
            for name, key in (("wins", "win_rate"), ("wins at equal lengths", "length_controlled"))
        ]
        pictures.append(
            picture(
                "Wins over the untrained model on validation prompts",
                traces,
                x="after round",
                y="share",
                note="Judged by the judge that training used; 0.5 is no difference.",
                layout={**whole, "yaxis": {"range": [0, 1]}},
            )
        )
    return pictures
