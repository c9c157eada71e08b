"""Fine-tuning a whole text encoder with a linear head by cross-entropy, with a weight of each text.

Schröder and Heyer 2024, arXiv 2406.09206, compare it with tuning on pairs (`text_tuning`). It starts from the
encoder that is given and leaves it as it was. Pick it where there are some hundred labels or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.run import Run
from selfstudy.learning.best_weights import BestWeights
from selfstudy.learning.loops import (
    batch_indices,
    check_not_negative,
    check_positive,
    check_shares,
    learning_rate,
    step_count,
    update,
)
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer
from selfstudy.learning.pair_tuning import scaled
from selfstudy.learning.text_dropout import dropping
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import LinearHead
from selfstudy.models.encoders.text_base import Tokens
from selfstudy.models.encoders.text_transformers import TextTransformer, by_length

CLIP = 1.0  # of the gradient's norm
WARMUP = 0.1  # share of the steps in which the learning rate rises
LEAST_DEVIATION = 1e-6  # of a feature that does not vary


@dataclass(frozen=True, kw_only=True)
class TextFineTuning:
    """How a text encoder with a linear head is fine-tuned by cross-entropy."""

    epochs: int = 15
    """At most."""
    patience: int = 5
    """Epochs without a lower loss on held-out texts before it ends."""
    held_out: float = 0.1
    """Share of the texts, of each class alike, that training does not see; 0 trains to the end."""
    batch: int = 12
    """Texts of a step."""
    learning_rate: float = 2e-5
    """Of the encoder at its peak; it rises for a tenth of the steps and falls to 0."""
    head_learning_rate: float = 1e-3
    """Of the head, likewise."""
    weight_decay: float = 0.01
    """Of all weights."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    dropout: float = 0.1
    """Of the encoder and of its features, in training."""

    def validate(self) -> None:
        """Raise a UsageError for numbers that cannot be right."""
        check_positive(self, epochs=0, patience=0, batch=0, learning_rate=0, head_learning_rate=0)
        check_not_negative(self, "weight_decay")
        check_optimizer(self.optimizer, self.betas)
        check_shares(self, "dropout", "held_out")

    def samples(self, labelled: int, pseudo: int) -> int:
        """Return the training samples of a fit at most; each text counts once more for the head's scale."""
        count = labelled + pseudo
        batch = min(self.batch, count)
        return count + batch * step_count(count, batch, 1) * self.epochs


def fine_tune_texts(
    encoder: TextTransformer,
    texts: Sequence[str],
    labels: np.ndarray,
    weights: np.ndarray,
    classes: tuple[str, ...],
    settings: TextFineTuning,
    run: Run,
    name: str,
    *,
    dropout: float | None = None,
) -> FeatureClassifier:
    """Return a copy of `encoder` with a linear head, both trained by weighted cross-entropy; within a stage.

    The weights with the lowest loss on held-out texts are kept, and training ends early where it no longer
    falls. The head reads standardised features, so that one learning rate suits encoders of any scale.

    Args:
        encoder: where it starts.
        texts: N of them.
        labels: [N], classes.
        weights: [N], of the texts; they are divided by their mean.
        classes: names of the C classes.
        settings: how.
        run: within a stage.
        name: of the loop and of its random streams, once in its stage.
        dropout: instead of that of the settings.

    Raises:
        BudgetSpent: the scale of the features is not in the budget.
    """
    run.meter.charge(samples=len(texts))
    classifier = FeatureClassifier(encoder.copy(), _standardising(encoder, texts, len(classes)), classes)
    held = held_out(labels, settings.held_out, run.rng(name, "held out"))
    fit = np.setdiff1d(np.arange(len(labels)), held)
    loss_of = _Loss(classifier, encoder.tokens(texts), labels, weights)
    share = settings.dropout if dropout is None else dropout
    batch = min(settings.batch, len(fit))
    epoch = step_count(len(fit), batch, 1)
    steps = epoch * settings.epochs
    peaks = {"encoder": settings.learning_rate, "head": settings.head_learning_rate}
    optimizers = {
        part: named_optimizer(
            settings.optimizer,
            getattr(classifier, part).parameters(),
            settings.betas,
            weight_decay=settings.weight_decay,
            fused=False,
        )
        for part in peaks
    }
    best = BestWeights(classifier)
    state: dict[str, Stateful] = {"classifier": classifier, "best": best}
    state |= {f"{part} optimizer": optimizer for part, optimizer in optimizers.items()}
    for step in run.steps(steps, state=state, desc=name, cost={"samples": batch}):
        at = torch.from_numpy(fit[batch_indices(run, name, step, len(fit), batch)])
        with dropping(classifier, share, run.key(name, "dropout", step)):
            loss = loss_of(at, share).mean()
        loss.backward()
        for part, optimizer in optimizers.items():
            update(optimizer, learning_rate(step, steps, peaks[part], WARMUP), CLIP)
        run.log(step=step, loss=loss.item())
        if len(held) and (step + 1) % epoch == 0:
            best.offer(loss_of.likelihood(torch.from_numpy(held)), step + 1)
            if step + 1 - best.step >= settings.patience * epoch:
                break
    best.bring_back()
    return classifier.eval()


def held_out(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return places of a share of the items, of each class alike; some of each class stay.

    A systematic sample (Madow and Madow 1944) of the items sorted by class, drawn within each.

    >>> labels = np.array([0] * 30 + [1] * 10)
    >>> np.bincount(labels[held_out(labels, 0.1, np.random.default_rng(0))]).tolist()
    [3, 1]
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    count = round(share * len(labels))
    places = order[((np.arange(count) + rng.random()) * len(labels) / max(1, count)).astype(np.int64)]
    left = np.bincount(labels) - np.bincount(labels[places], minlength=labels.max() + 1)
    return np.sort(places[left[labels[places]] > 0])


def _standardising(encoder: TextTransformer, texts: Sequence[str], classes: int) -> LinearHead:
    features = encoder.embed_texts(texts)
    head = LinearHead(width=encoder.width, classes=classes)
    head.mean = features.mean(0)
    if len(features) > 1:
        head.deviation = features.std(0).clamp(min=LEAST_DEVIATION)
    return head


class _Loss:
    """The weighted cross-entropy of a classifier on N texts."""

    def __init__(
        self, classifier: FeatureClassifier, tokens: Tokens, labels: np.ndarray, weights: np.ndarray
    ) -> None:
        self._classifier, self._tokens = classifier, tokens
        self._labels, self._weights = torch.from_numpy(labels), torch.from_numpy(scaled(weights, "mean"))

    def __call__(self, at: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
        """Return the losses [B] of the texts at these places."""
        features = functional.dropout(self._classifier.encoder.features(self._tokens.at(at)), dropout)
        labels, weights = self._labels[at].to(features.device), self._weights[at].to(features.device)
        return weights * functional.cross_entropy(self._classifier.head(features), labels, reduction="none")

    def likelihood(self, at: torch.Tensor) -> float:
        """Return exp(-loss) of these texts: the geometric mean of their labels' probabilities."""
        with torch.inference_mode():
            parts = [self(at[part]).sum() for part in by_length(self._tokens.at(at))]
        return float(torch.exp(-torch.stack(parts).sum().cpu() / self._weights[at].sum()))
