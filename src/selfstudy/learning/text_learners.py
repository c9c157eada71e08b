"""Classifiers of a pool of texts whose encoder is trained whole, each time from the same start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from selfstudy.core.run import Run
from selfstudy.data.items import Texts
from selfstudy.learning.pool_learners import Seen
from selfstudy.learning.text_dropout import dropout_passes_of_texts
from selfstudy.learning.text_fine_tuning import TextFineTuning, fine_tune_texts
from selfstudy.learning.text_tuning import SetFitTuning, tune_on_pairs
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.text_transformers import TextTransformer

STUDENT_DROPOUT = 0.3  # of the encoder, where a selector asks for more dropout (UST)


class TextLearner:
    """Trains a text encoder on pairs, or by cross-entropy; a `Learner`.

    Args:
        encoder: where every training starts.
        pool: N texts.
        classes: names.
        settings: how it is trained.
    """

    def __init__(
        self,
        encoder: TextTransformer,
        pool: Texts,
        classes: tuple[str, ...],
        settings: SetFitTuning | TextFineTuning,
    ) -> None:
        self._encoder, self._pool, self._classes, self._settings = encoder, pool, classes, settings
        self._embedded: tuple[FeatureClassifier, torch.Tensor] | None = None

    def train(
        self,
        places: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        run: Run,
        stream: tuple[str, int],
        *,
        pseudo: int = 0,
        dropout: bool = False,
    ) -> FeatureClassifier:
        """Return a classifier with an encoder of its own; see `Learner.train`."""
        texts, name = self._texts(places), " ".join(map(str, stream))
        share = STUDENT_DROPOUT if dropout else None
        if isinstance(self._settings, SetFitTuning):
            return tune_on_pairs(
                self._encoder,
                texts,
                labels,
                weights,
                self._classes,
                self._settings,
                run,
                name,
                pseudo=pseudo,
                dropout=share,
            )
        return fine_tune_texts(
            self._encoder, texts, labels, weights, self._classes, self._settings, run, name, dropout=share
        )

    def look(self, trained: FeatureClassifier, places: np.ndarray) -> Seen:
        """Return what it says of items of the pool, which it reads once."""
        if self._embedded is None or self._embedded[0] is not trained:
            self._embedded = trained, trained.encoder.embed_texts(self._pool.texts)
        features = self._embedded[1][places]
        return Seen(trained.scores_of(features), features)

    def passes(
        self, trained: FeatureClassifier, places: np.ndarray, count: int, run: Run, stream: tuple[str, int]
    ) -> torch.Tensor:
        """Return probabilities [M, T, C] in `count` Monte Carlo passes."""
        name = " ".join(map(str, stream))
        return dropout_passes_of_texts(trained, self._texts(places), count, self._settings.dropout, run, name)

    def classifier(self, trained: FeatureClassifier) -> FeatureClassifier:
        """Return it as it is."""
        return trained

    def trial(self, places: np.ndarray, labels: np.ndarray) -> tuple[Callable[[], object], int]:
        """Return a pass to and fro of a batch, and how many training takes."""
        tuned = self._encoder.copy().train()
        pairs = isinstance(self._settings, SetFitTuning)
        batch = min(self._settings.batch * (2 if pairs else 1), len(places))
        tokens = tuned.tokens(self._texts(places[:batch]))

        def step() -> object:
            return tuned.features(tokens).square().mean().backward()

        return step, -(-self._settings.samples(len(places), 0) // batch)

    def _texts(self, places: np.ndarray) -> tuple[str, ...]:
        return self._pool.only(places).texts
