"""Curricula of inputs: costs, boundaries, stages of equal cost, bands that a network can see."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.learning.curriculum import (
    BANDS,
    MAGNITUDES,
    CurriculumSchedule,
    Stage,
    checked_bands,
    curriculum,
    usual_bands,
)


def test_cost_of_the_published_list() -> None:
    """Oracle: (3 (160/224)^2 + (192/224)^2 + 1) / 5 = 0.653, 0.57 of 32 pixels, 0.58 of 28."""
    assert curriculum(BANDS[224], MAGNITUDES).cost(224) == pytest.approx(0.653, abs=5e-4)
    assert curriculum(BANDS[32], MAGNITUDES).cost(32) == pytest.approx(0.566, abs=5e-4)
    assert curriculum(BANDS[28], MAGNITUDES).cost(28) == pytest.approx(0.580, abs=5e-4)
    assert curriculum(BANDS[28], MAGNITUDES).bands == BANDS[28]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40))
def test_boundaries(stages: int, length: int) -> None:
    """Oracle: the stage of a step by whole numbers: step // length, for every step."""
    schedule = curriculum(
        [2 * (place + 1) for place in range(stages)], [place % 10 for place in range(stages)]
    )
    steps = stages * length
    for step in range(steps):
        seen = schedule(step / steps)
        assert seen.magnitude == step // length % 10 and seen.band == 2 * (step // length + 1)
    assert schedule(1.0).band == 2 * stages


def test_stages_of_equal_cost() -> None:
    """Oracle: the ResNet list of EfficientTrain++: tenths of the cost, lengths as (224 / B)^2."""
    bands = [96] * 2 + [160] * 4 + [224] * 4
    schedule = curriculum(bands, range(10), equal="cost")
    costs = [stage.share * stage.band**2 for stage in schedule.stages]
    assert max(costs) - min(costs) < 1e-9
    lengths = [(224 / band) ** 2 for band in bands]
    assert [stage.share for stage in schedule.stages] == pytest.approx([n / sum(lengths) for n in lengths])
    assert schedule.cost(224) == pytest.approx(10 / sum(lengths))


def test_usual_bands() -> None:
    """Oracle: the tables; else the nearest even multiple of the grain in proportion, 5/7 and 6/7."""
    assert usual_bands(224) == usual_bands(224, grain=16) == (160, 160, 160, 192, 224)
    assert usual_bands(32) == (20, 20, 20, 26, 32)
    assert usual_bands(448) == (320, 320, 320, 384, 448)
    assert usual_bands(20) == (16, 16, 16, 18, 20) and usual_bands(8) == (8,) * 5
    assert usual_bands(112, published=(96, 128, 224)) == (48, 64, 112)


@settings(max_examples=100, deadline=None)
@given(st.integers(8, 300), st.integers(1, 16))
def test_usual_bands_can_be_seen(size: int, grain: int) -> None:
    """Oracle: the check that users' bands go through."""
    if size % grain == 0:
        bands = usual_bands(size, grain)
        assert checked_bands(bands, size, grain) == bands and bands[-1] == size


def test_bands_that_cannot_be_seen() -> None:
    """Oracle: what is said: the range, the nearest that fit, a network of one size; odd and falling warn."""
    for wrong in ((), (0, 32), (20, 34)):
        with pytest.raises(UsageError, match="from 2 to 32"):
            checked_bands(wrong, 32)
    with pytest.raises(
        UsageError, match=r"'vit' cannot see images of 26 pixels: give 24 or 28, a multiple of 4"
    ):
        checked_bands((20, 26, 32), 32, grain=4, name="vit")
    with pytest.raises(UsageError, match="'mlp' takes images of one side alone, 32 pixels"):
        checked_bands((20, 32), 32, grain=0, name="mlp")
    assert checked_bands((32, 32), 32, grain=0) == (32, 32)
    with pytest.warns(UserWarning, match=r"\[15, 27\] becomes \[14, 27\]"):
        assert checked_bands((15, 27), 27) == (14, 27)
    with pytest.warns(UserWarning, match=r"\[32, 20\] fall"):
        checked_bands((32, 20), 32)


def test_schedules_that_are_none() -> None:
    """Oracle: no stages, a share of nothing, shares that do not sum to 1, lists of two lengths."""
    for stages in ((), (Stage(0.0, 8, 1), Stage(1.0, 8, 1))):
        with pytest.raises(UsageError, match="share of the steps above 0"):
            CurriculumSchedule(stages)
    with pytest.raises(UsageError, match=r"sum to 0\.5"):
        CurriculumSchedule([Stage(0.5, 8, 1)])
    with pytest.raises(UsageError, match="2 bands and 1 magnitudes"):
        curriculum((8, 16), (1.0,))
