"""Pictures of communities that are found while an encoder of nodes is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from selfstudy.evaluation.pictures import Picture, bars, line, picture

TERMS = {
    "node_contrast": "contrast of nodes",
    "community_contrast": "contrast of communities",
    "detection": "detection",
}


def community_pictures(logged: Sequence[dict[str, Any]], sizes: np.ndarray) -> list[Picture]:
    """Return the terms of the loss, how much communities counted, how clear they were, and their sizes.

    Args:
        logged: of each epoch "step", the terms, "community_weight", "entropy" and "largest".
        sizes: [K], nodes of each community in the end.
    """
    if not logged:
        return []
    terms = []
    for term, name in TERMS.items():
        of_term = [(row["step"], row[term]) for row in logged if term in row]
        if of_term:
            terms.append(line(name, *zip(*of_term, strict=True)))
    epochs = [row["step"] for row in logged]
    most = math.log(len(sizes))
    return [
        picture("Terms of the loss", terms, x="epoch", y="loss"),
        picture(
            "Communities during training",
            [
                line("weight of their contrast", epochs, [row["community_weight"] for row in logged]),
                line("entropy of memberships / log K", epochs, [row["entropy"] / most for row in logged]),
                line("share of the largest", epochs, [row["largest"] for row in logged]),
            ],
            x="epoch",
            note="An entropy of 1: each node belongs to all communities alike; 0: to one. A largest share "
            "near 1: nearly all nodes are in one community.",
            layout={"yaxis": {"rangemode": "tozero"}},
        ),
        picture(
            "Sizes of the communities",
            [bars("nodes", [str(at + 1) for at in range(len(sizes))], sizes.tolist())],
            x="community",
            y="nodes",
        ),
    ]
