"""The map of embeddings: what lies near, and what the picture holds."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.evaluation.embedding_map import embedding_map, flat


def clusters(count: int = 90, width: int = 16, apart: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    groups = np.arange(count) % 3
    return (rng.normal(size=(3, width)) * apart)[groups] + rng.normal(size=(count, width)), groups


def test_what_is_alike_lies_together() -> None:
    """Oracle: of far clusters, each input's nearest is of its own; within -1 to 1."""
    features, groups = clusters()
    places = flat(features)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(90)
    assert (groups[apart.argmin(1)] == groups).all()
    assert np.abs(places).max() == pytest.approx(1)
    assert np.array_equal(places, flat(features))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 12])
def test_few_inputs(count: int) -> None:
    """Oracle: a place of two finite numbers for each, for one feature too."""
    for width in (1, 5):
        places = flat(np.random.default_rng(0).normal(size=(count, width)))
        assert places.shape == (count, 2) and np.isfinite(places).all()
        assert np.abs(places).max() == pytest.approx(0 if count == 1 else 1), (
            "within the frame of the picture"
        )


def test_features_that_are_all_alike() -> None:
    """Oracle: finite places, no warning; a feature that differs by rounding alone moves nothing."""
    assert np.isfinite(flat(np.ones((20, 3)))).all()
    features, _ = clusters(7, width=1)
    almost = np.float32(0.1) + np.random.default_rng(0).normal(size=(7, 1)) * 1e-9
    assert np.abs(flat(np.concatenate([features, almost], 1))[:, 1]).max() == 0


def test_the_picture_before_and_after() -> None:
    """Oracle: on each side every input once, in its class, unlabelled ones in grey; one legend."""
    features, groups = clusters(30)
    groups = np.where(np.arange(30) < 5, -1, groups)
    traces = embedding_map(features, features * 2, groups, ("cat", "dog", "eel"))["traces"]
    for side, of_side in (("x", traces[:4]), ("x2", traces[4:])):
        sizes = {trace["name"]: len(trace["x"]) for trace in of_side}
        assert sizes == {"unlabelled": 5, "cat": 8, "dog": 8, "eel": 9}
        assert {trace["xaxis"] for trace in of_side} == {side}
        assert {trace["showlegend"] for trace in of_side} == {side == "x"}
        colours = [trace["marker"]["color"] for trace in of_side]
        assert len(set(colours)) == 4 and colours[0] == "#888888"
