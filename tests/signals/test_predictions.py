"""Pseudo-labels: what is kept of them, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.core.errors import DataError
from selfstudy.signals.predictions import (
    Predictions,
    balanced,
    choose,
    known,
    predict_pool,
    warn_of_strangers,
)

CLASSES = ("a", "b", "c")


def predictions(count: int = 30) -> Predictions:
    drawn = np.random.default_rng(0).dirichlet(np.ones(3) * 0.7, size=count)
    return Predictions(np.arange(count) * 2, torch.from_numpy(drawn).float())


def test_the_histogram_counts_every_item() -> None:
    """Oracle: the sum is M; each count by hand."""
    found = predictions()
    assert found.histogram.sum() == 30
    likely = found.probabilities.numpy().argmax(1)
    assert found.histogram.tolist() == [(likely == label).sum() for label in range(3)]


@given(tau=st.floats(0, 1.2))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:None of the")
def test_the_threshold(tau: float) -> None:
    """Oracle: those whose largest probability is tau or more; 0 keeps all, above 1 none."""
    found = predictions()
    chosen = choose(found, tau=tau)
    kept = [place for place, row in zip(found.places, found.probabilities, strict=True) if row.max() >= tau]
    assert chosen.places.tolist() == kept
    assert len(choose(found, tau=0.0).places) == 30 and not len(choose(found, tau=1.01).places)


def test_a_confidence_of_just_tau_is_kept() -> None:
    """Oracle: 0.75 is a number that both types hold exactly."""
    found = Predictions(np.arange(2), torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    assert choose(found, tau=0.75).places.tolist() == [0]


def test_nothing_kept_is_said() -> None:
    """Oracle: tau above 1."""
    with pytest.warns(UserWarning, match=r"None of the 30 pseudo-labels has a confidence of tau=1\.01"):
        choose(predictions(), tau=1.01)


def test_hard_and_soft_targets() -> None:
    """Oracle: one-hot rows and the probabilities themselves; of one-hot probabilities both are the same."""
    found = predictions()
    hard, soft = choose(found), choose(found, soft=True)
    assert torch.equal(soft.targets, found.probabilities)
    assert torch.equal(hard.targets, functional.one_hot(found.probabilities.argmax(1), 3).float())
    sure = Predictions(found.places, hard.targets)
    assert torch.equal(choose(sure).targets, choose(sure, soft=True).targets)


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_balanced_classes_are_as_square_roots(counts: list[int]) -> None:
    """Oracle: n sqrt(n_c) / sum sqrt(n_c), rounded; no item twice more often than another of its class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    at = balanced(labels, np.random.default_rng(0))
    roots = np.sqrt(counts)
    wanted = np.round(len(labels) * roots / roots.sum())
    assert np.bincount(labels[at], minlength=len(counts)).tolist() == wanted.tolist()
    for label in range(len(counts)):
        times = np.bincount(at, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1


def test_what_a_teacher_is_warned_about() -> None:
    """Oracle: 96 of 100 items of one class stop; 95 do not; a class without any is named."""
    places = np.arange(100)

    def told(counts: tuple[int, int, int]) -> torch.Tensor:
        return functional.one_hot(torch.arange(3).repeat_interleave(torch.tensor(counts)), 3).float()

    with pytest.raises(DataError, match="says 'a' of 96 of the 100"):
        predict_pool(lambda at: told((96, 2, 2)), places, CLASSES)
    assert predict_pool(lambda at: told((95, 3, 2)), places, CLASSES).histogram.tolist() == [95, 3, 2]
    with pytest.warns(UserWarning, match="'c' of no unlabelled item"):
        predict_pool(lambda at: told((60, 40, 0)), places, CLASSES)


def test_strangers_in_the_pool_are_worth_a_warning() -> None:
    """Oracle: mean confidences of 0.9 on labelled items and 0.6 on the pool; 0.75 there is near enough."""

    def sure(share: float, count: int) -> torch.Tensor:
        return torch.tensor([[share, 1 - share]]).repeat(count, 1)

    with pytest.warns(UserWarning, match=r"\(0\.60 in the mean\).*\(0\.90\)"):
        gap = warn_of_strangers(Predictions(np.arange(5), sure(0.6, 5)), sure(0.9, 3))
    assert gap == pytest.approx(0.3)
    assert warn_of_strangers(Predictions(np.arange(5), sure(0.75, 5)), sure(0.9, 3)) == pytest.approx(0.15)
    assert warn_of_strangers(Predictions(np.arange(5), sure(0.6, 5)), sure(0.9, 0)) is None


def test_saved_and_read(tmp_path: Path) -> None:
    """Oracle: the same numbers, also of none at all."""
    for one in (predictions(), Predictions(np.empty(0, dtype=np.int64), torch.zeros(0, 3))):
        one.save(tmp_path)
        again = Predictions.load(tmp_path)
        assert (again.places == one.places).all() and torch.equal(again.probabilities, one.probabilities)
        assert again.histogram.sum() == len(one.places) == len(again.confidence)


def test_labels_that_are_known() -> None:
    """Oracle: "not sure" is left out, the others are certain."""
    found = known(np.array([4, 5, 6]), np.array([2, -1, 0]), 3)
    assert found.places.tolist() == [4, 6] and found.labels.tolist() == [2, 0]
    assert found.confidence.tolist() == [1.0, 1.0]
