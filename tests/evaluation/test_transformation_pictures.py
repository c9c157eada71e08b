"""Pictures of a classifier that knows transformations."""

from __future__ import annotations

import pytest
import torch

import selfstudy
from selfstudy.data.transformations import SETS
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.evaluation.transformation_pictures import mode_picture, told_picture, transformations_told
from selfstudy.models.encoders.classifier import JOINT, TRANSFORMATION, ImageClassifier


def constant(head: str, scores: list[float]) -> ImageClassifier:
    """A classifier of two classes and two turns whose head always says the same."""
    encoder = selfstudy.model("conv?channels=1&size=8&first=4&stages=2").eval()
    heads = {"class": 2, head: len(scores)} if head == TRANSFORMATION else {head: len(scores)}
    made = ImageClassifier(encoder, ("a", "b"), heads, transformed=SETS["rotation2"]).eval()
    with torch.no_grad():
        for weight in made.heads.parameters():
            weight.zero_()
        made.get_parameter(f"heads.{head}.bias").copy_(torch.tensor(scores))
    return made


@pytest.mark.parametrize(
    ("head", "scores"),
    [
        (JOINT, [1.0, 0.9, -5.0, 0.5]),  # over classes the second turn has the larger sum
        (TRANSFORMATION, [0.0, 1.0]),
    ],
)
def test_what_is_told_of_turns(head: str, scores: list[float]) -> None:
    """Oracle: whoever always tells class a and the second turn is never right on the first, always on the
    second, and there is no figure of class b."""
    found = transformations_told(constant(head, scores), torch.rand(5, 1, 8, 8))
    assert found[0].tolist() == [0.0, 1.0] and bool(found[1].isnan().all())
    drawn = told_picture(constant(head, scores), torch.rand(5, 1, 8, 8))
    trace = drawn["traces"][0]
    assert trace["x"] == ["0 degrees", "180 degrees"] and trace["y"] == ["a", "b"]


def test_ways_have_their_intervals() -> None:
    """Oracle: the rows' own bounds, as distances from the figure."""
    rows = {"single": ACCURACY.row([True, False]), "aggregate": ACCURACY.row([True, True])}
    trace = mode_picture(ACCURACY, rows)["traces"][0]
    assert trace["x"] == ["single", "aggregate"] and trace["y"] == [0.5, 1.0]
    for place, row in enumerate(rows.values()):
        assert trace["y"][place] - trace["error_y"]["arrayminus"][place] == pytest.approx(row["low"])
        assert trace["y"][place] + trace["error_y"]["array"][place] == pytest.approx(row["high"])
