"""Collapsed features are told from healthy ones, and dead columns from those that still move."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from selfstudy.core.errors import DataError
from selfstudy.learning.collapse_watch import CollapseWatch, DeadColumns

SPREAD = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])


def test_kept_weights_come_back() -> None:
    """Oracle: the weights at the last look at which the spread was above its share of the first."""
    module = nn.Linear(2, 2)
    watch = CollapseWatch({"module": module}, least=0.1)
    for step, factor in enumerate((1.0, 0.2)):
        nn.init.constant_(module.weight, float(step))
        assert not watch.collapsed(factor * SPREAD, step)
    nn.init.constant_(module.weight, 7.0)
    assert watch.collapsed(0.05 * SPREAD, 2)
    assert watch.collapsed_at == 2 and (module.weight == 1.0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_have_collapsed(value: float) -> None:
    """Oracle: a spread that is no number is not healthy."""
    watch = CollapseWatch({"module": nn.Linear(2, 2)})
    assert not watch.collapsed(SPREAD, 0)
    assert watch.collapsed(torch.full((2, 2), value), 1)


def test_alike_from_the_start() -> None:
    """Oracle: there is nothing to go back to."""
    with pytest.raises(DataError, match="all alike"):
        CollapseWatch({"module": nn.Linear(2, 2)}).collapsed(torch.ones(4, 2), 0)


def test_a_watch_goes_on_from_its_state() -> None:
    """Oracle: the first spread and the kept weights of the watch that was saved."""
    module = nn.Linear(2, 2)
    watch = CollapseWatch({"module": module})
    watch.collapsed(SPREAD, 0)
    kept = module.weight.detach().clone()
    again = CollapseWatch({"module": module})
    again.load_state_dict(watch.state_dict())
    nn.init.zeros_(module.weight)
    assert again.collapsed(0.005 * SPREAD, 5) and torch.equal(module.weight, kept)


def test_dead_columns_are_counted_once() -> None:
    """Oracle: column 0 is constant for 3 steps, column 1 for 2, then moves; one warning, with the count 1."""
    dead = DeadColumns(patience=3)
    both, one = torch.zeros(4, 3), torch.zeros(4, 3)
    both[:, 2] = one[:, 1] = one[:, 2] = torch.arange(4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dead.least_variance(both) == 0
        dead.least_variance(both)
    with pytest.warns(UserWarning, match="1 of 3 columns .* for 3 steps"):
        dead.least_variance(one)
    again = DeadColumns(patience=3)
    again.load_state_dict(dead.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dead.least_variance(one)
        again.least_variance(one)


def test_least_variance() -> None:
    """Oracle: the biased variance of the narrowest column, in float32 for bfloat16 too."""
    rows = torch.tensor([[0.0, 0.0], [2.0, 1.0]])
    for dtype in (torch.float32, torch.bfloat16):
        assert DeadColumns().least_variance(rows.to(dtype)) == 0.25
