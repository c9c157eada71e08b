"""The classifier that learns in its context: labels, limits and what it refuses."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.in_context.classifier import InContextClassifier
from selfstudy.models.in_context.sequences import SequenceTransformer


class Nearest(SequenceTransformer):
    """In place of a trained model: tells the label of the nearest example before."""

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert inputs.shape[1] <= self.positions
        distances = torch.cdist(inputs, inputs)
        later = torch.ones(distances.shape[1:], dtype=torch.bool).triu()
        nearest = distances.masked_fill(later, 1e9).argmin(-1)
        return 20 * torch.nn.functional.one_hot(labels.gather(1, nearest), self.classes).float()


def classifier(**fields: Any) -> InContextClassifier:
    model = Nearest(inputs=fields.pop("inputs", 16), classes=4, positions=21, layers=1, width=8)
    return InContextClassifier(model, **fields)


def groups(n: int, features: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three groups far apart, labelled with words in an order that is not alphabetic."""
    random = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    centres = 10 * np.random.default_rng(99).standard_normal((3, features))
    return centres[codes] + random.standard_normal((n, features)), np.array(["pear", "apple", "fig"])[codes]


@pytest.mark.parametrize("ensemble", [1, 5])
def test_what_the_model_tells_comes_out(ensemble: int) -> None:
    """Oracle: groups so far apart that the nearest example is right under any projection and order."""
    made = classifier(ensemble=ensemble).fit(*groups(20))
    inputs, labels = groups(30, seed=1)
    assert list(made.classes_) == ["apple", "fig", "pear"]
    assert np.array_equal(made.predict(inputs), labels) and made.score(inputs, labels) == 1
    shares = made.predict_proba(inputs)
    assert shares.shape == (30, 3) and np.allclose(shares.sum(1), 1, atol=1e-6)


def test_members_differ_and_repeat() -> None:
    """Oracle: the same seed gives the same probabilities; a real model's depend on the member."""
    model = SequenceTransformer(inputs=16, classes=4, positions=21, layers=1, width=8)
    inputs, labels = groups(20)
    first, again, other = (
        InContextClassifier(model, ensemble=1, seed=seed).fit(inputs, labels).predict_proba(inputs)
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again) and not np.allclose(first, other)


def test_more_examples_than_positions() -> None:
    """Oracle: the latest examples alone; strictly, an error."""
    inputs, labels = groups(33)
    with pytest.warns(UserWarning, match="33 examples are more than the 20"):
        cut = classifier().fit(inputs, labels)
    alone = classifier().fit(inputs[-20:], labels[-20:])
    asked = groups(5, seed=2)[0]
    assert np.array_equal(cut.predict_proba(asked), alone.predict_proba(asked))
    assert np.array_equal(cut.context_, alone.context_) and np.array_equal(cut.labels_, alone.labels_)
    with pytest.raises(UsageError, match="Give fewer"):
        classifier(strict=True).fit(inputs, labels)


def test_other_lengths_are_projected() -> None:
    """Oracle: groups far apart in 40 numbers, and in images, are told in 16."""
    inputs, labels = groups(20, features=40)
    asked, expected = groups(12, features=40, seed=3)
    with pytest.warns(UserWarning, match="Inputs of 40 numbers are projected at random to the model's 16"):
        made = classifier().fit(inputs, labels)
    assert np.array_equal(made.predict(asked), expected)
    with pytest.warns(UserWarning, match="projected"):
        images = classifier().fit(inputs.reshape(20, 5, 8), labels)
    assert np.array_equal(images.predict(asked.reshape(12, 5, 8)), expected)


def test_constant_pixels() -> None:
    """Oracle: a column of one value changes nothing that is not finite, by column too."""
    inputs, labels = groups(20)
    inputs[:, 3] = 5
    for by in ("all", "column"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isfinite(classifier(by=by).fit(inputs, labels).predict_proba(inputs)).all()


def test_refusals() -> None:
    """Oracle: each kind of bad input is named."""
    inputs, labels = groups(20)
    for wrong_inputs, wrong_labels, error, words in (
        (inputs, ["x"] * 20, DataError, "single label"),
        (inputs, np.arange(20) % 5, UsageError, "5 labels, and the model tells 4 apart"),
        (np.where(inputs > 20, np.nan, inputs) + np.nan, labels, DataError, "not finite"),
        (inputs, labels[:7], DataError, "7 labels"),
    ):
        with pytest.raises(error, match=words):
            classifier().fit(wrong_inputs, wrong_labels)
    with pytest.raises(UsageError, match="ensemble=0"):
        classifier(ensemble=0).fit(inputs, labels)
    made = classifier().fit(inputs, labels)
    for wrong in (inputs[:, :5], np.full((2, 16), np.inf)):
        with pytest.raises(DataError, match="give finite numbers"):
            made.predict(wrong)
