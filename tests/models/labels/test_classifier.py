"""A classifier under Loki's rule: columns are matched by name; saved and loaded; weights are untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.data.items import vectors
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import MlpHead
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.labels.building import edges_space, embedding_space
from selfstudy.models.labels.classifier import Classifier, LokiClassifier, class_probabilities
from selfstudy.models.labels.rule import LokiRule

STARS = embedding_space(np.arange(1.0, 6)[:, None], ["1", "2", "3", "4", "5"])


def stars(*classes: str) -> FeatureClassifier:
    head = MlpHead(width=3, hidden=[4], classes=len(classes), key=7)
    return FeatureClassifier(FlatEncoder(width=3), head, classes)


def test_columns_go_by_name() -> None:
    """Oracle: the rule on probabilities whose columns were put in order by hand; a classifier whose classes
    come in another order than the labels."""
    values = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    items, classifier = vectors(values), stars("5", "1", "3")
    found = LokiRule(STARS, ["1", "3", "5"]).wrap(classifier)
    p = classifier.scores(items)[:, [1, 2, 0]]
    assert torch.equal(found.observed_probabilities(items), p)
    wanted = (p @ torch.tensor([1.0, 3, 5]) - 1).round().long()
    assert (found.classify(items) == wanted).float().mean() > 0.9  # but for ties
    assert found.classify(items).tolist() == LokiRule(STARS, [0, 2, 4]).predict(p).tolist()
    assert found.predict(values).tolist() == [STARS.names[label] for label in found.classify(items)]
    assert found.top(values, 2)[:, 0].tolist() == found.predict(values).tolist()
    assert found.scores(items).argmax(1).shape == (40,)


def test_saved_and_loaded(tmp_path: Path) -> None:
    """Oracle: the same labels from the same items; weights of the classifier as they were."""
    items, classifier = vectors(np.random.default_rng(1).standard_normal((30, 3))), stars("2", "4")
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    found = LokiRule(STARS, [1, 3], exponent=1, temperature=0.7).wrap(classifier)
    found.save(tmp_path / "model")
    again = LokiClassifier.load(tmp_path / "model")
    assert again.rule.exponent == 1 and again.rule.temperature == 0.7 and again.classes == found.classes
    assert torch.equal(again.scores(items), found.scores(items))
    assert found.classifier is classifier and found.copy().classifier is not classifier
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_classes_that_are_not_the_observed_labels() -> None:
    """Oracle: a class too many, one too few, another, one twice."""
    rule = LokiRule(STARS, ["1", "5"])
    for classes in (("1", "5", "3"), ("1",), ("1", "4"), ("1", "5", "5")):
        with pytest.raises(UsageError, match="are not the same"):
            rule.wrap(stars(*classes))


def test_a_classifier_of_ones_own() -> None:
    """Oracle: anything with `classes` and `scores` is one; an encoder is none."""

    class Own:
        classes = ("0", "2")

        def scores(self, items: np.ndarray) -> torch.Tensor:
            return torch.tensor([[0.5, 0.5]]).expand(len(items), 2)

    path = edges_space(np.array([[0, 1], [1, 2]]))
    own = Own()
    assert isinstance(own, Classifier) and not isinstance(selfstudy.model("flat"), Classifier)
    found = LokiRule(path, ["0", "2"]).wrap(own)
    assert found.classify(np.zeros((4, 1))).tolist() == [1, 1, 1, 1]  # type: ignore[arg-type]
    assert (
        found.made_for(vectors(np.zeros((1, 1)))) is found and found.name == "a classifier, 3 labels by Loki"
    )


def test_image_classifiers_give_probabilities() -> None:
    """Oracle: the softmax of the scores of their images."""
    task = selfstudy.task("pool:digits?labels=20&train=30&test=10")
    encoder = task.prepared(selfstudy.model("conv?first=4&stages=2"))
    classifier = ImageClassifier(encoder, ("0", "1", "2"), {"class": 3})
    p = class_probabilities(classifier, task.pool)
    assert isinstance(classifier, Classifier)
    assert torch.allclose(p, classifier.scores(task.pool.pixels(slice(None))).softmax(1), atol=1e-6)
