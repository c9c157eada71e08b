"""What training has found out about the label of every item so far, by its place in the data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.data.sample_table import SampleTable
from selfstudy.learning.distillation import soft_cross_entropy
from selfstudy.models.encoders.staged import Looked
from selfstudy.signals.label_noise import (
    LEAST_NOISY,
    SURE,
    agreed,
    kept_in_each_class,
    linear_separation,
    pseudo_loss_weights,
    small_loss,
)

LINEAR, LOSS = "linear", "loss"
DETECTORS = (LINEAR, LOSS)
MOST_KEPT = 4_000_000  # scores of earlier epochs that a detector keeps; then every second one is dropped

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DetectionRule:
    """Which detector has its turn after an epoch, and when it is sure."""

    detectors: tuple[str, ...] = (LINEAR, LOSS)
    """In turn, epoch by epoch: "linear" and "loss"; none at all trains on the labels as they are."""
    sure: float = SURE
    """Least posterior of the large losses with which a label counts as wrong."""
    weigh: bool = True
    """Whether guessed labels are weighed by their own loss (PLS); else all weigh 1."""
    least_noisy: int = LEAST_NOISY
    """Labels taken to be wrong, of fewer guesses are not weighed."""

    def validate(self) -> None:
        """Raise a UsageError for a detector that there is not, or a threshold that is none."""
        unknown = [name for name in self.detectors if name not in DETECTORS]
        if unknown or not 0 < self.sure < 1 or self.least_noisy < 2:
            raise UsageError(
                f"DetectionRule has detectors {', '.join(self.detectors)}, sure {self.sure} and least_noisy "
                f"{self.least_noisy}: detectors are {' and '.join(DETECTORS)}, the threshold is between 0 "
                "and 1, the number at least 2."
            )


class Verdict(NamedTuple):
    """What one network says of N labels.

    Attributes:
        noisy: [N], which are wrong.
        weights: [N], how much each counts, or its guess.
        scores: by detector, how likely each is wrong: [N].
        loss, pseudo_loss: [N], cross-entropies of the labels and of the guesses.
    """

    noisy: np.ndarray
    weights: np.ndarray
    scores: dict[str, np.ndarray]
    loss: np.ndarray
    pseudo_loss: np.ndarray


def judged(
    look: Looked, labels: torch.Tensor, guesses: torch.Tensor, detector: str, rule: DetectionRule
) -> Verdict:
    """Return which labels are wrong by one detector, and how much the guesses in their place count.

    Args:
        look: at all N items.
        labels: [N], given.
        guesses: [N, C].
        detector: "linear", which trusts the small losses of the same look, or "loss".
        rule: thresholds.
    """
    loss = functional.cross_entropy(look.logits, labels, reduction="none").numpy()
    pseudo_loss = soft_cross_entropy(look.logits, guesses).numpy()
    found = {LOSS: small_loss(loss, sure=rule.sure)}
    if detector == LINEAR:
        found[LINEAR] = linear_separation(look.features.numpy(), found[LOSS].noisy)
    noisy = kept_in_each_class(found[detector].noisy, loss, labels.numpy())
    weights = np.ones(len(noisy))
    if rule.weigh:
        weights = pseudo_loss_weights(pseudo_loss, noisy, least=rule.least_noisy)
    return Verdict(noisy, weights, {name: one.score for name, one in found.items()}, loss, pseudo_loss)


class SampleMemory:
    """Labels, guesses, weights and verdicts of N items, as a state for checkpoints.

    Args:
        labels: [N], given, from 0.
        classes: C.
        networks: K.

    Attributes:
        noisy: [N], whether the label is taken to be wrong.
        weights: [N], of the label, or of the guess in its place.
        guesses: [K, N, C], the last ones while each network was trained.
        loss, pseudo_loss: [N], at the last look, means over networks.
        scores: by detector, how likely each label was wrong when it had its last turn: [N].
        history: by detector, (epoch, scores [N]) of its turns.
        steps: taken so far.
    """

    def __init__(self, labels: np.ndarray, classes: int, networks: int = 1) -> None:
        count = len(labels)
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.classes, self.networks = classes, networks
        self.noisy = torch.zeros(count, dtype=torch.bool)
        self.weights = torch.ones(count)
        self.guesses = torch.full((networks, count, classes), 1 / classes)
        self.loss, self.pseudo_loss = torch.zeros(count), torch.zeros(count)
        self.scores: dict[str, torch.Tensor] = {}
        self.history: dict[str, list[tuple[int, torch.Tensor]]] = {}
        self.steps = 0

    def detect(self, looks: Sequence[Looked], epoch: int, rule: DetectionRule) -> dict[str, Any]:
        """Decide which labels are wrong and what each counts; return figures for the log.

        Args:
            looks: of each network, after `epoch` epochs.
            epoch: from 1; tells whose turn it is.
            rule: how.
        """
        detector = rule.detectors[(epoch - 1) % len(rule.detectors)]
        noisy, weights = self._agree(looks, detector, rule)
        self.noisy, self.weights = torch.from_numpy(noisy), torch.from_numpy(weights).float()
        for name, scores in self.scores.items():
            if name in (detector, LOSS):
                past = self.history.setdefault(name, [])
                past.append((epoch, scores))
                if len(past) * len(scores) > MOST_KEPT:
                    self.history[name] = past[-1::-2][::-1]
        flagged = int(noisy.sum())
        if rule.weigh and 0 < flagged < rule.least_noisy:
            _log.info("Epoch %d: %d labels are taken to be wrong, too few to weigh guesses.", epoch, flagged)
        weight = float(weights[noisy].mean()) if flagged else 1.0
        return {"detector": detector, "flagged": flagged, "weight_of_guesses": weight}

    def judge(self, looks: Sequence[Looked], rule: DetectionRule) -> None:
        """Take the scores of both detectors from one look, for what is told in the end."""
        self._agree(looks, LINEAR, rule)

    def table(self, names: Sequence[str], classes: tuple[str, ...], rule: DetectionRule) -> SampleTable:
        """Return all this as a table; labels are as suspect as the detectors of `rule` say in the mean.

        Args:
            names: [N], what items are called.
            classes: names.
            rule: whose detectors were asked; `judge` has been called.
        """
        asked = [self.scores[name].numpy() for name in dict.fromkeys(rule.detectors)]
        return SampleTable(
            ids=tuple(names),
            classes=classes,
            given=self.labels.numpy(),
            noisy=self.noisy.numpy(),
            weight=self.weights.numpy(),
            guesses=self.guesses.mean(0).numpy(),
            loss=self.loss.numpy(),
            pseudo_loss=self.pseudo_loss.numpy(),
            ood_score=self.scores[LINEAR].numpy(),
            suspect=np.mean(asked, axis=0),
            history={
                name: torch.stack([scores for _, scores in past]).numpy()
                for name, past in self.history.items()
            },
            epochs={name: [epoch for epoch, _ in past] for name, past in self.history.items()},
        )

    def _agree(
        self, looks: Sequence[Looked], detector: str, rule: DetectionRule
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take losses and scores from the looks; return what is noisy for all networks, and weights."""
        verdicts = [
            # Of two networks each is held against what was guessed while the other was trained.
            judged(look, self.labels, self.guesses[(place + 1) % self.networks], detector, rule)
            for place, look in enumerate(looks)
        ]
        for name in verdicts[0].scores:
            self.scores[name] = _mean([verdict.scores[name] for verdict in verdicts])
        self.loss = _mean([verdict.loss for verdict in verdicts])
        self.pseudo_loss = _mean([verdict.pseudo_loss for verdict in verdicts])
        return agreed([verdict.noisy for verdict in verdicts], [verdict.weights for verdict in verdicts])

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes."""
        return {
            "noisy": self.noisy,
            "weights": self.weights,
            "guesses": self.guesses,
            "loss": self.loss,
            "pseudo_loss": self.pseudo_loss,
            "scores": self.scores,
            "history": self.history,
            "steps": self.steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for name, value in state_dict.items():
            setattr(self, name, value)


def _mean(parts: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.mean(parts, axis=0)).float()
