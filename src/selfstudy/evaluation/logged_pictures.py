"""Curves of what a run logged step by step, beside the loss that every report draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfstudy.evaluation.pictures import Picture, line, picture

MOST_POINTS = 500  # of a curve; more are thinned evenly


def logged_picture(
    lines: Sequence[Mapping[str, Any]],
    stage: str,
    names: Mapping[str, str],
    title: str,
    *,
    note: str = "",
    scales: Mapping[str, float] | None = None,
    shares: bool = False,
) -> Picture:
    """Return one curve over the steps for each logged figure.

    Args:
        lines: of the log, as `run.metrics()` gives them.
        stage: whose lines are drawn.
        names: from the key of a figure in the log to the name of its curve.
        title: above the picture.
        note: what is to be seen.
        scales: factors of figures, by key; 1 unless given.
        shares: whether the axis goes from 0 to 1; else it is logarithmic.
    """
    of_stage = [logged for logged in lines if logged["stage"] == stage and names.keys() <= logged.keys()]
    shown = of_stage[:: max(1, len(of_stage) // MOST_POINTS)]
    steps = [logged["step"] for logged in shown]
    factors = scales or {}
    curves = [
        line(name, steps, [factors.get(key, 1.0) * logged[key] for logged in shown])
        for key, name in names.items()
    ]
    axis = {"range": [0, 1.02]} if shares else {"type": "log"}
    return picture(title, curves, x="step", note=note, layout={"yaxis": axis})
