"""Tuning a whole text encoder on pairs of labelled texts, SetFit style, and a logistic head on it.

Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts", arXiv 2209.11055, with a weight of each
text, as Schröder and Heyer 2024, arXiv 2406.09206, have it. It starts from the encoder that is given and
leaves it as it was. An adapter on frozen features (`pair_tuning`) costs a thousandth of this; take this where
the encoder was not trained for such texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.run import Run
from selfstudy.learning.loops import check_not_negative, check_positive, check_shares, learning_rate, update
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer
from selfstudy.learning.pair_tuning import (
    Scaling,
    draw_pairs,
    pair_loss,
    scaled,
    self_training_rounds,
    set_logistic,
)
from selfstudy.learning.text_dropout import dropping
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import LinearHead
from selfstudy.models.encoders.text_transformers import TextTransformer

CLIP = 1.0  # of the gradient's norm
WARMUP = 0.1  # share of the steps in which the learning rate rises


@dataclass(frozen=True, kw_only=True)
class SetFitTuning:
    """How a text encoder is tuned on pairs, and the logistic head on it."""

    rounds: int = 5
    """R: 2 R l pairs of l labelled texts; with pseudo-labels as many rounds as give about as many pairs, at
    least one."""
    batch: int = 24
    """Pairs of a step."""
    learning_rate: float = 2e-5
    """At its peak; it rises for a tenth of the steps and falls to 0."""
    weight_decay: float = 0.01
    """Of all weights."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    dropout: float = 0.1
    """Of the encoder, in training."""
    scaling: Scaling = "mean"
    """Weights of texts are divided by their mean or, as the authors do, by their sum."""
    head_scale: float = 3.0
    """Mean length of the features before the logistic head: the larger, the weaker its penalty."""
    weighted_head: bool = False
    """Whether the logistic head sees the weights too; the authors' does not."""

    def validate(self) -> None:
        """Raise a UsageError for numbers that cannot be right."""
        check_positive(self, rounds=0, batch=0, learning_rate=0, head_scale=0)
        check_not_negative(self, "weight_decay")
        check_optimizer(self.optimizer, self.betas)
        check_shares(self, "dropout")

    def samples(self, labelled: int, pseudo: int) -> int:
        """Return the training samples of a fit: two a pair, and each text once for the head."""
        count = labelled + pseudo
        pairs = 2 * self_training_rounds(labelled, pseudo, self.rounds) * count
        return 2 * self.batch * -(-pairs // self.batch) + count


def tune_on_pairs(
    encoder: TextTransformer,
    texts: Sequence[str],
    labels: np.ndarray,
    weights: np.ndarray,
    classes: tuple[str, ...],
    settings: SetFitTuning,
    run: Run,
    name: str,
    *,
    pseudo: int = 0,
    dropout: float | None = None,
) -> FeatureClassifier:
    """Return a copy of `encoder` tuned on pairs of texts, with a logistic head; within a stage.

    Args:
        encoder: where it starts.
        texts: N of them, the last `pseudo` with pseudo-labels.
        labels: [N], classes.
        weights: [N], of the texts.
        classes: names of the C classes.
        settings: how.
        run: within a stage.
        name: of the loop and of its random streams, once in its stage.
        pseudo: how many labels are not given.
        dropout: instead of that of the settings.

    Raises:
        BudgetSpent: the head is not in the budget.
    """
    run.meter.charge(samples=len(texts))
    tuned, tokens = encoder.copy(), encoder.tokens(texts)
    item_weights = torch.from_numpy(scaled(weights, settings.scaling))
    rounds = self_training_rounds(len(texts) - pseudo, pseudo, settings.rounds)
    pairs = draw_pairs(labels, rounds, run.rng(name, "pairs"))
    optimizer = named_optimizer(
        settings.optimizer,
        tuned.parameters(),
        settings.betas,
        weight_decay=settings.weight_decay,
        fused=False,
    )
    steps = -(-len(pairs.targets) // settings.batch)
    state: dict[str, Stateful] = {"encoder": tuned, "optimizer": optimizer}
    share = settings.dropout if dropout is None else dropout
    for step in run.steps(steps, state=state, desc=name, cost={"samples": 2 * settings.batch}):
        at = np.arange(step * settings.batch, (step + 1) * settings.batch) % len(pairs.targets)
        both = torch.from_numpy(np.concatenate([pairs.first[at], pairs.second[at]]))
        with dropping(tuned, share, run.key(name, "dropout", step)):
            u, v = tuned.features(tokens.at(both)).chunk(2)
        pair_weights = item_weights[both].view(2, -1).mean(0)
        targets = torch.from_numpy(pairs.targets[at])
        loss = pair_loss(u, v, targets.to(u.device), pair_weights.to(u.device))
        loss.backward()
        update(optimizer, learning_rate(step, steps, settings.learning_rate, WARMUP), CLIP)
        run.log(step=step, pair_loss=loss.item())
    head = LinearHead(width=tuned.width, classes=len(classes))
    features = tuned.embed_texts(texts)
    head.deviation.fill_(features.norm(dim=1).mean() / settings.head_scale)
    seen = item_weights.numpy() if settings.weighted_head else None
    set_logistic(head.linear, (features / head.deviation).numpy(), labels, seen)
    return FeatureClassifier(tuned, head, classes).eval()
