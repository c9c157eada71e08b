"""Contrastive tuning on pairs of labelled items, SetFit style, and a logistic head on what it gives.

Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts", arXiv 2209.11055, with a weight of each
item as Schröder and Heyer 2024, arXiv 2406.09206, have it. What is tuned here is a linear adapter on frozen
features; the sampler of pairs and the loss serve a whole encoder as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.core.machine import one_blas_thread
from selfstudy.learning.loops import check_positive, learning_rate, update
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer
from selfstudy.models.encoders.feature_heads import AdapterHead

CLIP = 1.0  # of the gradient's norm
UNSEEN = -30.0  # logit of a class that no item has
LOGISTIC_STEPS = 1000  # most of L-BFGS

Scaling = Literal["mean", "sum"]


class Pairs(NamedTuple):
    """Pairs of items, by their places."""

    first: np.ndarray
    """[P], int64."""
    second: np.ndarray
    """[P], int64."""
    targets: np.ndarray
    """[P], float32: the cosine they should have, 1 within a class, else 0."""


def draw_pairs(labels: np.ndarray, rounds: int, rng: np.random.Generator) -> Pairs:
    """Return pairs: every item is the first of `rounds` of them within its class and of `rounds` across.

    The other item is drawn uniformly: another one of the class (itself where it is alone), or one of any
    other class. Where there is a single class, there are no pairs across. The order is drawn too.

    Args:
        labels: [N], classes.
        rounds: R; 2 R N pairs.
        rng: of the draw.
    """
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels))
    group = np.searchsorted(starts, rank, side="right") - 1
    start, size = starts[group], sizes[group]  # [N], of each item's class within the order
    shape = (rounds, len(labels))
    step = 1 + (rng.random(shape) * np.maximum(size - 1, 0)).astype(np.int64)
    same = order[start + (rank - start + step) % size]
    first = np.broadcast_to(np.arange(len(labels)), shape)
    kinds = [(first, same, 1.0)]
    if len(sizes) > 1:
        drawn = (rng.random(shape) * (len(labels) - size)).astype(np.int64)
        kinds.append((first, order[np.where(drawn >= start, drawn + size, drawn)], 0.0))
    shuffled = rng.permutation(len(kinds) * rounds * len(labels))
    return Pairs(
        np.concatenate([one.ravel() for one, _, _ in kinds])[shuffled],
        np.concatenate([other.ravel() for _, other, _ in kinds])[shuffled],
        np.concatenate([np.full(first.size, target, dtype=np.float32) for _, _, target in kinds])[shuffled],
    )


def self_training_rounds(labelled: int, pseudo: int, rounds: int = 5) -> int:
    """Return R': rounds for as many pairs, or nearly, as R rounds of the labelled items alone give.

    >>> self_training_rounds(100, 0), self_training_rounds(100, 900)
    (5, 1)
    """
    return max(1, -(-labelled * rounds // (labelled + pseudo)))


def pair_loss(
    first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the mean over pairs of w (cos(u, v) - t)^2.

    Args:
        first: u, [B, e].
        second: v, [B, e].
        targets: t, [B].
        weights: w, [B]: of a pair, the mean of its items' weights.
    """
    return (weights * (functional.cosine_similarity(first, second) - targets).square()).mean()


def scaled(weights: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Return weights [N] of items divided by their mean or by their sum: float32."""
    whole = weights.mean() if scaling == "mean" else weights.sum()
    return (weights / whole).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class PairTuning:
    """How a linear adapter on frozen features is tuned on pairs, and the logistic head on it."""

    adapted: int = 128
    """Width of the adapter's features; at most that of the encoder's."""
    pairs: int | None = 3200
    """Pairs of every fit, the same with pseudo-labels and without; None counts them by `rounds`."""
    rounds: int = 5
    """R: of a fit on labels alone, 2 R l pairs; with pseudo-labels as many rounds as give about as many
    pairs, at least one."""
    batch: int = 64
    """Pairs of a step."""
    learning_rate: float = 1e-3
    """At its peak; it rises for a tenth of the steps and falls to 0."""
    weight_decay: float = 0.01
    """Of all weights."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    dropout: float = 0.3
    """Of the features: in Monte Carlo passes, and while a selector's student is trained that asks for it."""
    scaling: Scaling = "mean"
    """Weights of items are divided by their mean or, as the authors do, by their sum."""
    head_scale: float = 3.0
    """Length of the adapted features before the logistic head: the larger, the weaker its penalty."""
    weighted_head: bool = False
    """Whether the logistic head sees the weights too; the authors' does not."""

    def validate(self) -> None:
        """Raise a UsageError for numbers that cannot be right."""
        check_positive(self, adapted=0, pairs=0, rounds=0, batch=0, learning_rate=0, head_scale=0)
        check_optimizer(self.optimizer, self.betas)
        if not 0 <= self.dropout < 1 or not self.weight_decay >= 0:
            raise UsageError(
                f"PairTuning has dropout {self.dropout} and weight_decay {self.weight_decay}: give a share "
                "from 0 to below 1, and a number of at least 0."
            )

    def pair_count(self, labelled: int, pseudo: int) -> int:
        """Return how many pairs a fit draws."""
        if self.pairs is not None:
            return self.pairs
        return 2 * self_training_rounds(labelled, pseudo, self.rounds) * (labelled + pseudo)

    def samples(self, labelled: int, pseudo: int) -> int:
        """Return the training samples of a fit: two a pair, and each item once for the head."""
        return 2 * self.pair_count(labelled, pseudo) + labelled + pseudo


def tune_adapter(
    start: AdapterHead,
    features: torch.Tensor,
    labels: np.ndarray,
    weights: np.ndarray,
    tuning: PairTuning,
    rng: np.random.Generator,
    *,
    pairs: int,
    dropout: float = 0.0,
) -> AdapterHead:
    """Return a copy of `start` whose adapter is tuned on pairs and whose linear map is fitted on all items.

    Args:
        start: where every fit begins.
        features: [N, d], of the items to learn from.
        labels: [N], classes, pseudo-labels among them.
        weights: [N], of the items.
        tuning: settings.
        rng: of the pairs and of dropout.
        pairs: how many are drawn.
        dropout: of the features, in training.
    """
    head = AdapterHead(**start.config)
    head.load_state_dict(start.state_dict())
    head.train()
    rounds = -(-pairs // (2 * len(labels)))
    drawn = Pairs(*(column[:pairs] for column in draw_pairs(labels, rounds, rng)))
    item_weights = torch.from_numpy(scaled(weights, tuning.scaling))
    first, second = torch.from_numpy(drawn.first), torch.from_numpy(drawn.second)
    targets = torch.from_numpy(drawn.targets)
    optimizer = named_optimizer(
        tuning.optimizer,
        head.adapter.parameters(),
        tuning.betas,
        weight_decay=tuning.weight_decay,
        fused=False,
    )
    steps = -(-len(targets) // tuning.batch)
    for step in range(steps):
        at = slice(step * tuning.batch, (step + 1) * tuning.batch)
        both = torch.cat([first[at], second[at]])
        seen = features[both]
        if dropout:
            kept = rng.random(seen.shape, dtype=np.float32) >= dropout
            seen = seen * torch.from_numpy(kept) / (1 - dropout)
        u, v = head.adapter(seen).chunk(2)
        pair_weights = item_weights[both].view(2, -1).mean(0)
        pair_loss(u, v, targets[at], pair_weights).backward()
        update(optimizer, learning_rate(step, steps, tuning.learning_rate, 0.1), CLIP)
    with torch.no_grad():
        adapted = head.scale * head.adapt(features)
    seen_weights = item_weights.numpy() if tuning.weighted_head else None
    set_logistic(head.linear, adapted.numpy(), labels, seen_weights)
    return head.eval()


def set_logistic(
    linear: torch.nn.Linear, features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> None:
    """Put a logistic regression with the usual penalty, |W|^2 / 2 beside the summed loss, into `linear`.

    It is scikit-learn's, by the same L-BFGS: of two classes the difference alone is penalised. With few items
    most of scikit-learn's time is spent around the solver, and a round of active learning waits for it.

    Args:
        linear: of C outputs; a class that no item has is never told.
        features: [N, d].
        labels: [N], classes.
        weights: [N], of the items, with a mean of 1; None is 1 each.
    """
    known, codes = np.unique(labels, return_inverse=True)
    found = np.zeros((len(linear.bias), features.shape[1] + 1))
    found[:, -1] = UNSEEN
    found[known] = _logistic(features, codes, np.ones(len(labels)) if weights is None else weights)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(found[:, :-1]))
        linear.bias.copy_(torch.from_numpy(found[:, -1]))


def _logistic(features: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return weights and, in the last column, biases [C, d + 1] of C classes that all occur."""
    from scipy.optimize import minimize

    inputs = np.hstack([features, np.ones((len(codes), 1))]).astype(float)
    told = np.eye(codes.max() + 1)[codes]
    share = (weights / weights.sum())[:, None]
    penalties = np.full(inputs.shape[1], (2 if told.shape[1] == 2 else 1) / len(codes))
    penalties[-1] = 0  # of the bias

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows = flat.reshape(told.shape[1], -1)
        logits = inputs @ rows.T
        logits -= logits.max(1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(1, keepdims=True)
        loss = (share * (np.log(sums) - (logits * told).sum(1, keepdims=True))).sum()
        slope = (share * (powers / sums - told)).T @ inputs + penalties * rows
        return float(loss + (penalties * rows**2).sum() / 2), slope.ravel()

    start = np.zeros(told.shape[1] * inputs.shape[1])
    limits = {"maxiter": LOGISTIC_STEPS, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    with one_blas_thread():
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=limits)
    return found.x.reshape(told.shape[1], -1)


def starting_adapter(features: torch.Tensor, classes: int, tuning: PairTuning) -> AdapterHead:
    """Return an adapter that keeps as much of the features [N, d] as it can: their main directions.

    Nothing is taken off, so that cosines are about those of the features.
    """
    width = features.shape[1]
    head = AdapterHead(
        width=width, adapted=min(tuning.adapted, width), classes=classes, scale=tuning.head_scale
    )
    axes = torch.linalg.eigh(features.double().T @ features.double()).eigenvectors.flip(1)
    with torch.no_grad():
        head.adapter.weight.copy_(axes.T[: head.adapter.out_features])
        head.adapter.bias.zero_()
    return head.eval()


def dropout_passes(
    head: AdapterHead, features: torch.Tensor, passes: int, dropout: float, rng: np.random.Generator
) -> torch.Tensor:
    """Return probabilities [N, T, C] under T drawn networks, each with other features left out.

    Gal and Ghahramani 2016, arXiv 1506.02142. All items go through the same T networks.

    Args:
        head: a trained one.
        features: [N, d].
        passes: T.
        dropout: share of the features left out.
        rng: of the networks.
    """
    kept = rng.random((passes, features.shape[1]), dtype=np.float32) >= dropout
    masks = torch.from_numpy(kept) / (1 - dropout)
    with torch.inference_mode():
        return torch.stack([head(features * mask).softmax(1) for mask in masks], 1)
