"""Several classifiers as one: the mean of their logits."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.files import read_json, write_json
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.feature_classifier import FeatureClassifier

CONFIG, MEMBER = "averaged.json", "member-"


class AveragedClassifier(nn.Module):
    """Classifiers of the same classes whose logits are averaged.

    Args:
        members: one or more.
    """

    def __init__(self, members: Sequence[ImageClassifier | FeatureClassifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._each = tuple(members)  # the same, with the methods of their kind

    @property
    def first(self) -> Any:
        """The first of them."""
        return self._each[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.first.classes

    @property
    def encoder(self) -> Any:
        """The encoder of the first."""
        return self.first.encoder

    @property
    def name(self) -> str:
        """How many, and what the first is called."""
        return f"{len(self.members)} of {self.first.name}"

    def copy(self) -> Self:
        """Return a classifier with weights of its own."""
        return copy.deepcopy(self)

    def made_for(self, items: Any) -> Self:
        """Return the classifier, which was made for such items when it was trained."""
        self.first.made_for(items)
        return self

    def scores(self, items: Any) -> torch.Tensor:
        """Return the probability of each class [N, C] of items, in evaluation mode."""
        # Logits and logarithms of probabilities differ by a number of each row, which the softmax takes out.
        logs = [_probabilities(member, items).clamp(min=1e-30).log() for member in self._each]
        return torch.stack(logs).mean(0).softmax(1)

    def classify(self, items: Any) -> torch.Tensor:
        """Return the number of the class [N] of items."""
        return self.scores(items).argmax(1)

    def probabilities(self, inputs: Any) -> np.ndarray:
        """Return the probability of each class [N, C] of inputs as the encoder's `embed` takes them."""
        found = [np.log(member.probabilities(inputs).clip(1e-30)) for member in self._each]
        return torch.from_numpy(np.mean(found, axis=0)).softmax(1).numpy()

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the names of the classes [N] of inputs as the encoder's `embed` takes them."""
        return np.array(self.classes)[self.probabilities(inputs).argmax(1)]

    def embed(self, inputs: Any) -> np.ndarray:
        """Return the first encoder's features of inputs: [N, width], float32."""
        return self.first.embed(inputs)

    def save(self, folder: Path) -> None:
        """Write each member to a folder of its own."""
        for place, member in enumerate(self._each):
            member.save(Path(folder) / f"{MEMBER}{place}")
        write_json(Path(folder) / CONFIG, {"members": [name_class(type(member)) for member in self._each]})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        folder = Path(folder)
        kinds = read_json(folder / CONFIG)["members"]
        return cls(
            [
                find_class(kind, folder / CONFIG).load(folder / f"{MEMBER}{place}")
                for place, kind in enumerate(kinds)
            ]
        ).eval()


def probabilities_of(classifier: Any, items: Any) -> torch.Tensor:
    """Return the probability of each class [N, C] that a classifier gives items of a pool."""
    if isinstance(classifier, AveragedClassifier):
        return classifier.scores(items)
    return _probabilities(classifier, items)


def _probabilities(classifier: Any, items: Any) -> torch.Tensor:
    if isinstance(classifier, ImageClassifier):
        return items.mapped(lambda pixels, _: classifier.scores(pixels).softmax(1))
    return classifier.scores(items)
