"""Classifiers of a pool that are trained again and again, each time from the same start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.learning.pair_tuning import PairTuning, dropout_passes, starting_adapter, tune_adapter
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import AdapterHead


class Seen(NamedTuple):
    """What a classifier says of items."""

    probabilities: torch.Tensor
    """[N, C]."""
    features: torch.Tensor
    """[N, e], in its own space."""


class Learner(Protocol):
    """What trains classifiers of a pool; what it trains has `save` and `load`.

    A `stream` is the name of random numbers, once in a run: a word and the number of the round.
    """

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
    ) -> Any:
        """Return what is learnt from items of the pool, the last `pseudo` of which have pseudo-labels.

        Args:
            places: [M], of the items.
            labels: [M], classes.
            weights: [M].
            run: within a stage; its meter counts the samples.
            stream: of the training.
            pseudo: how many labels are not given.
            dropout: whether more is left out in training than usual.

        Raises:
            BudgetSpent: the samples are not in the budget.
        """
        ...

    def look(self, trained: Any, places: np.ndarray) -> Seen:
        """Return what it says of items of the pool."""
        ...

    def passes(
        self, trained: Any, places: np.ndarray, count: int, run: Run, stream: tuple[str, int]
    ) -> torch.Tensor:
        """Return probabilities [M, T, C] of items of the pool in `count` Monte Carlo passes."""
        ...

    def classifier(self, trained: Any) -> FeatureClassifier:
        """Return it with its encoder."""
        ...

    def trial(self, places: np.ndarray, labels: np.ndarray) -> tuple[Callable[[], object], int]:
        """Return one step of training on a copy, and how many training on these items takes."""
        ...


class AdapterLearner:
    """Tunes an adapter on a pool's frozen features, with a logistic head on it.

    Args:
        encoder: what made the features.
        features: [N, d], of the pool.
        classes: names.
        tuning: settings.
    """

    def __init__(
        self, encoder: Any, features: torch.Tensor, classes: tuple[str, ...], tuning: PairTuning
    ) -> None:
        self._encoder, self._features, self._classes, self._tuning = encoder, features, classes, tuning
        self._start = starting_adapter(features, len(classes), tuning)

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
    ) -> AdapterHead:
        """Return an adapter with a head; see `Learner.train`."""
        labelled = len(places) - pseudo
        run.meter.charge(samples=self._tuning.samples(labelled, pseudo))
        return tune_adapter(
            self._start,
            self._features[places],
            labels,
            weights,
            self._tuning,
            run.rng(*stream),
            pairs=self._tuning.pair_count(labelled, pseudo),
            dropout=self._tuning.dropout if dropout else 0.0,
        )

    def look(self, trained: AdapterHead, places: np.ndarray) -> Seen:
        """Return what it says of items of the pool."""
        with torch.inference_mode():
            adapted = trained.adapt(self._features[places])
            return Seen(trained.linear(trained.scale * adapted).softmax(1), adapted)

    def passes(
        self, trained: AdapterHead, places: np.ndarray, count: int, run: Run, stream: tuple[str, int]
    ) -> torch.Tensor:
        """Return probabilities [M, T, C] in `count` Monte Carlo passes."""
        return dropout_passes(trained, self._features[places], count, self._tuning.dropout, run.rng(*stream))

    def classifier(self, trained: AdapterHead) -> FeatureClassifier:
        """Return it with its encoder."""
        return FeatureClassifier(self._encoder, trained, self._classes)

    def trial(self, places: np.ndarray, labels: np.ndarray) -> tuple[Callable[[], object], int]:
        """Return a whole training, which takes less than a second."""

        def step() -> object:
            return tune_adapter(
                self._start,
                self._features[places],
                labels,
                np.ones(len(places)),
                self._tuning,
                generator("trial"),
                pairs=self._tuning.pair_count(len(places), 0),
            )

        return step, 1
