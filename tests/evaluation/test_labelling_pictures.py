"""Pictures of labelling."""

from __future__ import annotations

import numpy as np

from selfstudy.data.label_table import GIVEN, PREDICTED, PSEUDO, LabelTable
from selfstudy.evaluation.labelling_pictures import doubtful_items, learning_curve


def table(suspect: np.ndarray | None = None) -> LabelTable:
    return LabelTable(
        ids=("0", "1", "2", "3"),
        shown=("a", "b<i>", "c", "d"),
        labels=np.array([0, 1, 1, 0]),
        confidence=np.array([0.1, 0.6, 0.4, 0.9]),
        sources=(GIVEN, PSEUDO, PREDICTED, PREDICTED),
        classes=("x", "y"),
        suspect=suspect,
    )


def cells(picture: dict) -> list[list[str]]:
    return picture["traces"][0]["cells"]["values"]


def test_the_least_sure_come_first_and_given_ones_do_not() -> None:
    """Oracle: by hand: item 0 is given, so 2 is the least sure; text stays text."""
    found = cells(doubtful_items(table(), count=2))
    assert found[0] == ["2", "1"] and found[1] == ["y", "y"] and found[4] == ["c", "b&lt;i>"]
    assert cells(doubtful_items(table(), count=9))[0] == ["2", "1", "3"]


def test_suspects_are_those_most_likely_wrong() -> None:
    """Oracle: by hand."""
    found = cells(doubtful_items(table(np.array([0.2, 0.1, 0.8, 0.3])), count=2))
    assert found[0] == ["2", "3"] and found[2] == ["0.80", "0.30"]


def test_a_curve_has_its_points() -> None:
    """Oracle: the points themselves."""
    picture = learning_curve({"hast": ([10, 20], [0.5, 0.75]), "random": ([10], [0.4])})
    traces = picture["traces"]
    assert [trace["name"] for trace in traces] == ["hast", "random"]
    assert traces[0]["x"] == [10, 20] and traces[0]["y"] == [0.5, 0.75]
