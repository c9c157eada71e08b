"""Pictures of self-paced machines: who claims the items that have no label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfstudy.evaluation.pictures import Picture, bars, line, picture

CLAIMS = {
    "claimed_by_one": "one",
    "claimed_by_several": "several",
    "claimed_by_none": "none",
}


def claims_picture(curve: Sequence[Mapping[str, Any]]) -> Picture:
    """Return how many items without a label were claimed by how many machines.

    Args:
        curve: a row for each round: "labels", "pseudo_labels" and the keys of `CLAIMS`.
    """
    labels = [str(row["labels"]) for row in curve]
    traces = [bars(name, labels, [row[key] for row in curve]) for key, name in CLAIMS.items()]
    pseudo = line("pseudo-labels", labels, [row["pseudo_labels"] for row in curve])
    return picture(
        "Who claims the items without a label",
        [*traces, pseudo],
        x="labels",
        y="items",
        note="An item that one machine claims may get a pseudo-label; one that several claim is asked for "
        "first, then one that none does, which may be of a class without a name.",
        layout={"barmode": "stack", "xaxis": {"type": "category"}},
    )
