"""What Markov chains over rationales did: how often they moved, what they held, and for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selfstudy.evaluation.logged_pictures import MOST_POINTS
from selfstudy.evaluation.pictures import Picture, bars, line, picture

_CURVES = {
    "acceptance": "fresh rationales that are right",
    "held": "chains that hold a right one",
    "beta": "beta",
}
BINS = 30


def chain_pictures(lines: Sequence[Mapping[str, Any]], ages: Sequence[int]) -> list[Picture]:
    """Return pictures of the chains' moves, the gradient's noise, and the ages of what they hold in the end.

    Args:
        lines: of the log; those with "acceptance", "held", "beta" and "noise" by "step" are drawn.
        ages: in steps, of right rationales.
    """
    logged = [one for one in lines if _CURVES.keys() <= one.keys()]
    shown = logged[:: max(1, len(logged) // MOST_POINTS)]
    steps = [one["step"] for one in shown]
    counts, edges = np.histogram(ages, bins=min(BINS, max(1, len(set(ages)))))
    middles = (edges[:-1] + edges[1:]) / 2
    return [
        picture(
            "Chains over rationales",
            [line(name, steps, [one[key] for one in shown]) for key, name in _CURVES.items()],
            x="step",
            y="share",
            note="Of the problems of each step. beta is the factor of the control variate.",
            layout={"yaxis": {"range": [0, 1.02]}},
        ),
        picture(
            "Noise of the gradient",
            [line("squared weights", steps, [one["noise"] for one in shown])],
            x="step",
            y="of the basic estimate's",
            note="The sum of the squared weights of all terms, as a share of that without control variate "
            "and subsampling: the noise, if all rationales had independent gradients of one size.",
            layout={"yaxis": {"rangemode": "tozero"}},
        ),
        picture(
            "Ages of the right rationales held in the end",
            [bars("problems", middles, counts)],
            x="steps since it was drawn",
            y="problems",
            note="A chain of a hard problem keeps its state long; it is a valid state all the same.",
        ),
    ]
