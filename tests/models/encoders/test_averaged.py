"""Classifiers whose logits are averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.data.image_sets import image_splits
from selfstudy.data.items import vectors
from selfstudy.models.encoders.averaged import AveragedClassifier, probabilities_of
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import MlpHead

IMAGES = image_splits("digits")["train"].only(slice(12))
NAMES = ("a", "b", "c")


def of_images() -> AveragedClassifier:
    encoder = selfstudy.model("conv?first=4&stages=2").made_for(IMAGES)
    return AveragedClassifier(
        [ImageClassifier(encoder.copy(), NAMES, {"class": 3}, key=key) for key in (1, 2)]
    )


def of_vectors() -> AveragedClassifier:
    encoder = selfstudy.model("flat?width=4")
    heads = [MlpHead(width=4, hidden=[5], classes=3, key=key) for key in (1, 2)]
    return AveragedClassifier([FeatureClassifier(encoder, head, NAMES) for head in heads])


def test_logits_are_averaged() -> None:
    """Oracle: the softmax of the mean of the members' logits, of images and of vectors."""
    images = of_images()
    logits = [member.scores(IMAGES.pixels(slice(None))) for member in images.members]
    assert torch.allclose(images.scores(IMAGES), torch.stack(logits).mean(0).softmax(1), atol=1e-6)
    given = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    flat = of_vectors()
    logits = [member.head(torch.from_numpy(given)).detach() for member in flat.members]
    wanted = torch.stack(logits).mean(0).softmax(1)
    assert torch.allclose(flat.scores(vectors(given)), wanted, atol=1e-6)
    assert np.allclose(flat.probabilities(given), wanted, atol=1e-6)
    assert flat.predict(given).tolist() == [NAMES[label] for label in wanted.argmax(1)]


@pytest.mark.parametrize("make", [of_images, of_vectors])
def test_saved_and_loaded(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Oracle: the same probabilities, and the classes."""
    made = make()
    made.save(tmp_path)
    again = AveragedClassifier.load(tmp_path)
    items = IMAGES if make is of_images else vectors(np.random.default_rng(1).normal(size=(5, 4)))
    assert torch.equal(again.scores(items), made.scores(items)) and again.classes == NAMES
    assert torch.equal(again.classify(items), made.scores(items).argmax(1))


def test_probabilities_of_any_classifier() -> None:
    """Oracle: rows that sum to 1, of one member and of both."""
    made = of_images()
    for classifier in (made, made.members[0]):
        found = probabilities_of(classifier, IMAGES)
        assert found.shape == (12, 3) and torch.allclose(found.sum(1), torch.ones(12))
