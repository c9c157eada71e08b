"""A classifier of texts, vectors or images: an encoder, and a head on its features."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.files import read_json, write_json
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts, Vectors
from selfstudy.models.encoders.feature_heads import Head
from selfstudy.models.encoders.features import features_of
from selfstudy.models.encoders.text_transformers import TextTransformer

CONFIG, HEAD, ENCODER = "classifier.json", "head", "encoder"


class FeatureClassifier(nn.Module):
    """An encoder with a head that turns its features into one logit a class.

    Args:
        encoder: made for the items.
        head: from `feature_heads`.
        classes: names of the C classes.
    """

    def __init__(self, encoder: Any, head: Head, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder, self.head, self.classes = encoder, head, tuple(classes)

    @property
    def name(self) -> str:
        """The encoder's name, and what is on it."""
        return f"classifier of {len(self.classes)} classes on {self.encoder.name}"

    def copy(self) -> Self:
        """Return a classifier with weights of its own."""
        return copy.deepcopy(self)

    def made_for(self, items: ImageSet | Texts | Vectors) -> Self:
        """Return the classifier, which was made for such items when it was trained."""
        self.encoder.made_for(items)
        return self

    def scores(self, items: ImageSet | Texts | Vectors) -> torch.Tensor:
        """Return the probability of each class [N, C] of items, in evaluation mode."""
        return self.scores_of(features_of(self.encoder, items))

    def scores_of(self, features: torch.Tensor) -> torch.Tensor:
        """Return the probability of each class [N, C] of features [N, d], in evaluation mode."""
        training = self.head.training
        self.head.eval()
        with torch.inference_mode():
            found = self.head(features).softmax(1)
        self.head.train(training)
        return found

    def classify(self, items: ImageSet | Texts | Vectors) -> torch.Tensor:
        """Return the number of the class [N] of items."""
        return self.scores(items).argmax(1)

    def probabilities(self, inputs: Any) -> np.ndarray:
        """Return the probability of each class [N, C] of inputs as the encoder's `embed` takes them."""
        return self.scores_of(torch.from_numpy(self.encoder.embed(inputs))).numpy()

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the names of the classes [N] of inputs as the encoder's `embed` takes them."""
        return np.array(self.classes)[self.probabilities(inputs).argmax(1)]

    def embed(self, inputs: Any) -> np.ndarray:
        """Return the encoder's features of inputs: [N, width], float32."""
        return self.encoder.embed(inputs)

    def save(self, folder: Path) -> None:
        """Write the encoder, the head and the classes; a text encoder of transformers in its own form.

        See `text_classifiers`: such a folder is read by `AutoModelForSequenceClassification` too.
        """
        folder = Path(folder)
        parts = {"encoder": name_class(type(self.encoder)), "head": name_class(type(self.head))}
        if isinstance(self.encoder, TextTransformer):
            from selfstudy.models.encoders.text_classifiers import save_classifier

            save_classifier(folder, self.encoder, self.head, self.classes)
        else:
            self.encoder.save(folder / ENCODER)
            self.head.save(folder / HEAD)
        write_json(folder / CONFIG, {**parts, "classes": list(self.classes)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        folder = Path(folder)
        said = read_json(folder / CONFIG)
        encoder_kind = find_class(said["encoder"], folder / CONFIG)
        if issubclass(encoder_kind, TextTransformer):
            from selfstudy.models.encoders.text_classifiers import load_classifier

            encoder, head = load_classifier(folder)
        else:
            head = find_class(said["head"], folder / CONFIG).load(folder / HEAD)
            encoder = encoder_kind.load(folder / ENCODER)
        return cls(encoder, head, tuple(said["classes"])).eval()
