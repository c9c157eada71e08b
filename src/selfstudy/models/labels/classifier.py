"""A classifier that predicts by Loki's rule in the place of its argmax, also labels it has never seen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts, Vectors
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.labels.rule import LokiRule
from selfstudy.models.labels.spaces import load_space, save_space

CONFIG, CLASSIFIER, SPACE = "loki.json", "classifier", "labels"


@runtime_checkable
class Classifier(Protocol):
    """What Loki can be put on: a `FeatureClassifier`, an `ImageClassifier`, or a user's own.

    Attributes:
        classes: names of the K classes that it knows.
    """

    classes: tuple[str, ...]

    def scores(self, items: Any) -> torch.Tensor:
        """Return the probability of each class [N, K] of items."""
        ...


def class_probabilities(classifier: Classifier, items: ImageSet | Texts | Vectors) -> torch.Tensor:
    """Return the probability of each class [N, K] of items, from any classifier."""
    if isinstance(classifier, ImageClassifier):
        return items.mapped(lambda pixels, _: classifier.scores(pixels).softmax(1))  # type: ignore[union-attr]
    return classifier.scores(items)


class LokiClassifier:
    """A classifier with Loki's rule; `classes` are all labels of the rule's space.

    Args:
        classifier: taken over as it is, with its weights.
        rule: whose observed labels are the classifier's classes, in any order.

    Raises:
        UsageError: they are not.
    """

    def __init__(self, classifier: Classifier, rule: LokiRule) -> None:
        names = [rule.space.names[label] for label in rule.observed]
        known = list(classifier.classes)
        if set(names) != set(known) or len(known) != len(names):
            other = sorted(set(names) ^ set(known))
            raise UsageError(
                f"The classifier knows {len(known)} classes, the rule {len(names)} observed labels, and they "
                f"are not the same: {', '.join(map(repr, other[:5]))} are known to one of them alone."
            )
        self.classifier, self.rule = classifier, rule
        self.classes = rule.space.names
        self._order = torch.tensor([known.index(name) for name in names])

    @property
    def name(self) -> str:
        """The classifier's name, and how many labels it has now."""
        return f"{getattr(self.classifier, 'name', 'a classifier')}, {len(self.classes)} labels by Loki"

    def copy(self) -> Self:
        """Return a classifier with weights of its own."""
        return type(self)(copy.deepcopy(self.classifier), self.rule)

    def made_for(self, items: ImageSet | Texts | Vectors) -> Self:
        """Return the classifier, which was made for such items when it was trained."""
        if hasattr(self.classifier, "made_for"):
            self.classifier.made_for(items)
        return self

    def observed_probabilities(self, items: ImageSet | Texts | Vectors) -> torch.Tensor:
        """Return the probability of each observed label [N, K] of items, in the rule's order."""
        return class_probabilities(self.classifier, items)[:, self._order]

    def scores(self, items: ImageSet | Texts | Vectors) -> torch.Tensor:
        """Return the score of each label [N, labels] of items: their costs below 0."""
        return self.rule.scores(self.observed_probabilities(items))

    def classify(self, items: ImageSet | Texts | Vectors) -> torch.Tensor:
        """Return the number of the label [N] of items."""
        return self.rule.predict(self.observed_probabilities(items))

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the names of the labels [N] of inputs as the classifier's `probabilities` takes them."""
        return np.array(self.classes)[self.rule.predict(self._probabilities(inputs))]

    def top(self, inputs: Any, count: int) -> np.ndarray:
        """Return the names of the `count` labels with the least costs [N, count], the least first."""
        return np.array(self.classes)[self.rule.top(self._probabilities(inputs), count)]

    def _probabilities(self, inputs: Any) -> np.ndarray:
        return np.asarray(self.classifier.probabilities(inputs))[:, self._order.numpy()]  # type: ignore[attr-defined]

    def save(self, folder: Path) -> None:
        """Write the classifier, the labels with what their distances are made of, and the rule."""
        folder = Path(folder)
        self.classifier.save(folder / CLASSIFIER)  # type: ignore[attr-defined]
        save_space(self.rule.space, folder / SPACE)
        write_json(
            folder / CONFIG,
            {
                "classifier": name_class(type(self.classifier)),
                "observed": self.rule.observed.tolist(),
                "exponent": self.rule.exponent,
                "temperature": self.rule.temperature,
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        folder = Path(folder)
        said = read_json(folder / CONFIG)
        rule = LokiRule(
            load_space(folder / SPACE),
            said["observed"],
            exponent=said["exponent"],
            temperature=said["temperature"],
        )
        return cls(find_class(said["classifier"], folder / CONFIG).load(folder / CLASSIFIER), rule)
