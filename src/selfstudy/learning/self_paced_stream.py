"""Self-paced machines that go on: items keep coming, and new classes are named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import UNKNOWN, ImageSet
from selfstudy.data.items import Texts, Vectors
from selfstudy.learning.paced_state import Paced, SelfPaced, annotated, with_classes, with_items
from selfstudy.learning.projection import projection
from selfstudy.learning.self_paced import learn, machine_classifier, scores_of
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.features import features_of
from selfstudy.signals.self_paced import most_doubtful

Items = ImageSet | Texts | Vectors


class SelfPacedStream:
    """Machines with the items they know, which may become more; only their features are kept.

        stream = SelfPacedStream(classifier, paced, items)
        stream.add_unlabelled(more)
        stream.add_class("owl", examples)
        stream.learn()
        stream.classifier.predict(...)

    Args:
        classifier: of a fit, whose encoder is used.
        state: of the same fit.
        items: N, that the state is about.
        settings: the pace.
        components: main directions of the features of `items`, as in the fit.

    Attributes:
        state: what is known of all items.

    Raises:
        UsageError: the state is about another number of items.
    """

    def __init__(
        self,
        classifier: FeatureClassifier,
        state: Paced,
        items: Items,
        settings: SelfPaced | None = None,
        *,
        components: int | None = 50,
    ) -> None:
        if len(state.labels) != len(items):
            raise UsageError(
                f"The state is about {len(state.labels)} items, and {items.name!r} has {len(items)}: give "
                "the pool that the classifier was fitted on."
            )
        self.state, self.settings = state, settings or SelfPaced()
        self._encoder = classifier.encoder
        features = features_of(self._encoder, items)
        self._projection = projection(features, components)
        self._inputs = self._projection(features)

    @property
    def classifier(self) -> FeatureClassifier:
        """The machines as they are."""
        return machine_classifier(self._encoder, self._projection, self.state)

    def add_unlabelled(self, items: Items) -> np.ndarray:
        """Add items without a label, and return their places [M]."""
        return self._added(items, torch.full((len(items),), UNKNOWN))

    def add_class(self, name: str, items: Items) -> np.ndarray:
        """Add a class with examples of it, and return their places [M]; it has a machine after `learn`.

        Raises:
            UsageError: the class is there already, or no example is given.
        """
        if name in self.state.classes or not len(items):
            raise UsageError(
                f"The class {name!r} is there already; `answer` labels more items of it."
                if len(items)
                else f"Give the class {name!r} one example or more."
            )
        self.state = with_classes(self.state, (*self.state.classes, name), self.settings)
        return self._added(items, torch.full((len(items),), len(self.state.classes) - 1))

    def learn(self, rounds: int = 1) -> None:
        """Bring machines, pseudo-labels and weights up to each other, so many rounds."""
        for _ in range(rounds):
            self.state = learn(self.state, self._inputs, self.settings).state

    def doubtful(self, count: int) -> np.ndarray:
        """Return the places of the items to ask for, the most wanted first."""
        scores = scores_of(self.state, self._inputs)
        return most_doubtful(scores, self.state.open, count).numpy()

    def answer(self, places: Sequence[int] | np.ndarray, names: Sequence[str | None]) -> None:
        """Take the classes of items; a new name is a new class, None is "not sure"."""
        fresh = [name for name in dict.fromkeys(names) if name and name not in self.state.classes]
        classes = (*self.state.classes, *fresh)
        labels = [UNKNOWN if name is None else classes.index(name) for name in names]
        at = torch.as_tensor(np.asarray(places, dtype=np.int64))
        self.state = annotated(self.state, at, torch.tensor(labels), classes, self.settings)

    def _added(self, items: Any, labels: torch.Tensor) -> np.ndarray:
        inputs = self._projection(features_of(self._encoder, items))
        first = len(self._inputs)
        self._inputs = torch.cat([self._inputs, inputs])
        self.state = with_items(self.state, labels)
        return np.arange(first, len(self._inputs))
