"""Linear taggers of scikit-learn on hashed window features: averaged perceptron and logistic regression."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.data.tagged import Sentences, TaggedTexts
from selfstudy.models.tagging.base import Tagger
from selfstudy.models.tagging.features import window_features

BITS = (8, 22)  # least and most of the buckets' number
SEEDS = 2**31  # that scikit-learn takes


class LinearTagger(Tagger):
    """A score of each tag that is linear in the features of a word and its neighbours.

    Args:
        passes: times that training goes over the words.
        bits: of the number of buckets that features are hashed into.

    Raises:
        UsageError: passes below 1, or bits out of range.
    """

    def __init__(self, *, passes: int, bits: int, **more: Any) -> None:
        super().__init__(passes=passes, bits=bits, **more)
        low, high = BITS
        if passes < 1 or not low <= bits <= high:
            raise UsageError(
                f"passes={passes} and bits={bits} of model {self.kind!r}: passes must be 1 or more, "
                f"bits from {low} to {high}."
            )
        self.passes, self.bits = passes, bits

    @abstractmethod
    def learner(self, seed: int) -> Any:
        """Return the untrained classifier of scikit-learn."""

    def learn(self, texts: TaggedTexts, key: int) -> None:
        """Fit the classifier; see `Tagger.learn`."""
        seen = np.unique(texts.labels)
        weights = np.zeros((len(self.classes), 2**self.bits), dtype=np.float32)
        # A tag that these texts do not have is never told.
        offsets = np.full(len(self.classes), -np.inf, dtype=np.float32)
        if len(seen) == 1:
            offsets[seen] = 0
        else:
            learner = self.learner(key % SEEDS)
            _fit(learner, window_features(texts.sentences, self.bits), texts.labels)
            two = len(seen) == 2  # then it has one score, that of the second
            weights[seen] = np.vstack([-learner.coef_, learner.coef_]) if two else learner.coef_
            found = learner.intercept_
            offsets[seen] = np.concatenate([-found, found]) if two else found
        self.arrays = {"weights": weights, "offsets": offsets}

    def scored(self, sentences: Sentences) -> np.ndarray:
        """Return the tags of the largest score; see `Tagger.scored`."""
        features = window_features(sentences, self.bits)
        return (features @ self.arrays["weights"].T + self.arrays["offsets"]).argmax(1)


def _fit(learner: Any, features: Any, labels: np.ndarray) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # As many passes as were asked for are no failure.
        warnings.simplefilter("ignore", ConvergenceWarning)
        learner.fit(features, labels)


class PerceptronTagger(LinearTagger):
    """The averaged perceptron, one against the rest (Freund and Schapire 1999), of scikit-learn.

    Args:
        passes: times that training goes over the words, in an order drawn anew.
        bits: of the number of buckets that features are hashed into.
    """

    kind: ClassVar[str] = "perceptron-tagger"

    def __init__(self, *, passes: int = 3, bits: int = 16) -> None:
        super().__init__(passes=passes, bits=bits)

    def learner(self, seed: int) -> Any:
        """Return stochastic gradient descent on the perceptron's loss, averaged."""
        from sklearn.linear_model import SGDClassifier

        return SGDClassifier(
            loss="perceptron",
            penalty=None,
            learning_rate="constant",
            eta0=1.0,
            average=True,
            max_iter=self.passes,
            tol=None,
            random_state=seed,
        )


class LogisticTagger(LinearTagger):
    """Multinomial logistic regression (Ratnaparkhi's 1996 maximum entropy, without tags of neighbours).

    Args:
        passes: times that the solver goes over the words.
        bits: of the number of buckets that features are hashed into.
        strength: inverse of the penalty on squared weights, scikit-learn's C.

    Raises:
        UsageError: strength is not above 0.
    """

    kind: ClassVar[str] = "logistic-tagger"

    def __init__(self, *, passes: int = 5, bits: int = 16, strength: float = 1.0) -> None:
        super().__init__(passes=passes, bits=bits, strength=strength)
        if not strength > 0:
            raise UsageError(f"strength={strength:g} of model {self.kind!r} must be above 0.")
        self.strength = strength

    def learner(self, seed: int) -> Any:
        """Return the regression, by a solver that goes over the words `passes` times."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(
            solver="saga", C=self.strength, max_iter=self.passes, tol=1e-6, random_state=seed
        )
