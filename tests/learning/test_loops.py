"""What settings are refused, and in which words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from selfstudy.core.errors import UsageError
from selfstudy.learning.fine_tuning import FineTuning
from selfstudy.learning.loops import check_not_negative, check_positive, check_shares, training_cost


@dataclass(frozen=True)
class Settings:
    steps: int = 1
    looks: int | None = None
    rate: float = 0.5


@pytest.mark.parametrize(
    ("settings", "limits", "said"),
    [
        (Settings(steps=0), {"steps": 0}, "Settings.steps is 0; it must be at least 1."),
        (Settings(looks=-1), {"looks": -1}, "Settings.looks is -1; it must be at least 0."),
        (Settings(rate=0), {"rate": 0}, "Settings.rate is 0; it must be above 0."),
        (Settings(rate=math.nan), {"rate": 0}, "Settings.rate is nan; it must be above 0."),
    ],
)
def test_what_is_allowed_is_said(settings: Settings, limits: dict[str, float], said: str) -> None:
    """Oracle: the sentence, for whole and other numbers."""
    with pytest.raises(UsageError) as caught:
        check_positive(settings, **limits)
    assert str(caught.value) == said


def test_what_a_training_costs() -> None:
    """Oracle: by hand: 10 samples in batches of 4, two passes are 5 steps; 3 of the model's FLOPs a token."""
    model = SimpleNamespace(flops=lambda tokens: 100 * tokens)
    assert training_cost(FineTuning(epochs=2, batch=4), model, 10, 7) == {"samples": 20, "flops": 42_000}
    assert training_cost(FineTuning(steps=3, batch=64), model, 10, 7) == {"samples": 30, "flops": 63_000}


@pytest.mark.parametrize("wrong", [-0.1, math.nan])
def test_numbers_below_0(wrong: float) -> None:
    """Oracle: the sentence."""
    with pytest.raises(UsageError, match=rf"Settings.rate is {wrong}; it must be at least 0\."):
        check_not_negative(Settings(rate=wrong), "looks", "rate")


@pytest.mark.parametrize("wrong", [-0.1, 1.0, math.nan])
def test_shares(wrong: float) -> None:
    """Oracle: the sentence."""
    with pytest.raises(UsageError, match=rf"Settings.rate is {wrong}; give a share from 0 to below 1\."):
        check_shares(Settings(rate=wrong), "rate")


def test_what_is_allowed_passes() -> None:
    """Oracle: nothing is raised just above a limit, at 0 where it is allowed, or for None."""
    check_positive(Settings(steps=1), steps=0, looks=0, rate=0)
    check_not_negative(Settings(rate=0.0), "looks", "rate")
    check_shares(Settings(rate=0.0), "rate")
