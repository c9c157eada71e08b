"""A trained sequence model as a classifier: the training set is put in its context, and no weight changes.

Kirsch et al. 2022, arXiv 2212.04458. `InContextClassifier(model).fit(X, y).predict(X)`, as in scikit-learn.
For more examples than the context holds, scikit-learn's own classifiers are the better choice.
"""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.data.labelled_images import EPSILON, check_examples
from selfstudy.data.projected_tasks import FIRST_TEST_ID, TaskAugmenter
from selfstudy.models.in_context.sequences import SequenceModel

CHUNK = 512  # sequences read at once


class InContextClassifier(ClassifierMixin, BaseEstimator):
    """Classifies by the examples it is given, as a scikit-learn estimator.

    Each member of the ensemble sees the examples under a projection and an order of the labels of its own, as
    the model did in training; their probabilities are averaged.

    Args:
        model: a trained sequence model.
        ensemble: members.
        by: "all" standardises with one mean and deviation, as for pixels; "column" each feature by itself.
        strict: refuse more examples than the model has positions for, instead of taking the latest.
        seed: of the ensemble.
    """

    def __init__(
        self, model: SequenceModel, *, ensemble: int = 8, by: str = "all", strict: bool = False, seed: int = 0
    ) -> None:
        self.model = model
        self.ensemble = ensemble
        self.by = by
        self.strict = strict
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Keep the examples.

        Args:
            X: [n, m], or images [n, h, w].
            y: [n], labels of any kind.

        Raises:
            DataError: shapes that do not fit, numbers that are not finite, or a single label.
            UsageError: more labels than the model has classes; with `strict`, more examples than positions.
        """
        inputs = self._flat(X)
        check_examples(inputs, y, "X")
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) > self.model.classes:
            raise UsageError(
                f"y has {len(self.classes_)} labels, and the model tells {self.model.classes} apart. Leave "
                f"some out, or train a model with classes={len(self.classes_)}."
            )
        if self.ensemble < 1 or self.by not in ("all", "column"):
            raise UsageError(f"ensemble={self.ensemble} must be at least 1 and by={self.by!r} all or column.")
        inputs, codes = self._cut(inputs, codes)
        self.n_features_in_ = inputs.shape[1]
        if self.n_features_in_ != self.model.inputs:
            warnings.warn(
                f"Inputs of {self.n_features_in_} numbers are projected at random to the model's "
                f"{self.model.inputs}.",
                stacklevel=2,
            )
        axis = 0 if self.by == "column" else None
        self.mean_, self.scale_ = inputs.mean(axis), inputs.std(axis) + EPSILON
        self.context_ = (inputs - self.mean_) / self.scale_
        self.labels_ = codes
        return self

    def _cut(self, inputs: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        most = self.model.positions - 1
        if len(inputs) <= most:
            return inputs, codes
        text = f"{len(inputs)} examples are more than the {most} of the model's context"
        if self.strict:
            raise UsageError(f"{text}. Give fewer, or leave strict away to take the latest {most}.")
        warnings.warn(f"{text}: the latest {most} are taken.", stacklevel=3)
        return inputs[-most:], codes[-most:]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the likeliest label of each input: [n]."""
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probability of each of `classes_`: [n, classes].

        Args:
            X: [n, m], or images [n, h, w].

        Raises:
            DataError: inputs of another length, or numbers that are not finite.
        """
        inputs = self._flat(X)
        if inputs.ndim != 2 or inputs.shape[1] != self.n_features_in_ or not np.isfinite(inputs).all():
            raise DataError(
                f"X has shape {inputs.shape}; give finite numbers, [n, {self.n_features_in_}] as in fit."
            )
        asked = (inputs - self.mean_) / self.scale_
        ids = FIRST_TEST_ID + generator("ensemble", self.seed).integers(2**29, size=self.ensemble)
        members = [self._member(ids[i : i + 1], asked) for i in range(self.ensemble)]
        return np.mean(members, axis=0)

    def _member(self, task: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Return the probabilities that one task of the augmenter leads to."""
        model, (n, m), context = self.model, asked.shape, len(self.context_)
        augmenter = TaskAugmenter(features=m, inputs=model.inputs, classes=model.classes, tasks=1)
        all_inputs = torch.from_numpy(np.concatenate([self.context_, asked]).astype(np.float32))[None]
        codes = torch.from_numpy(np.concatenate([self.labels_, np.zeros(n, dtype=np.int64)]))[None]
        inputs, labels = (part[0] for part in augmenter(task, all_inputs, codes))
        order = augmenter.permutations(task)[0, : len(self.classes_)]
        found = []
        with torch.inference_mode():
            for part in inputs[context:].split(CHUNK):
                shape = (len(part), -1, -1)
                sequences = torch.cat([inputs[None, :context].expand(shape), part[:, None]], 1)
                known = torch.nn.functional.pad(labels[None, :context], (0, 1)).expand(len(part), -1)
                scores = model(sequences, known)[:, -1]
                found.append(scores[:, order].softmax(-1))
        return torch.cat(found).numpy()

    @staticmethod
    def _flat(X: np.ndarray) -> np.ndarray:
        inputs = np.asarray(X, dtype=np.float32)
        return inputs.reshape(len(inputs), -1) if inputs.ndim == 3 else inputs
