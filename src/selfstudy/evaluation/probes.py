"""What frozen features are worth: a linear classifier and nearest neighbours on top of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import DataError
from selfstudy.core.random import generator

PENALTIES = tuple(10.0**power for power in range(-5, 3))  # of the linear probe, to choose from
HELD_OUT = 0.2  # of the labelled inputs, to choose the penalty on
ITERATIONS = 200
TINY = 1e-6  # added to a feature's deviation


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier of standardised features.

    Attributes:
        mean, deviation: [d], of the features it was fitted on.
        weight: [C, d].
        bias: [C].
        penalty: the weight of |W|^2 / 2 beside the mean cross-entropy.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    penalty: float

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return a score for each class [N, C] of features [N, d]."""
        return ((features - self.mean) / self.deviation) @ self.weight.T + self.bias

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        """Return the class [N] of features [N, d]."""
        return self.scores(features).argmax(1)


def linear_probe(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    *,
    penalties: Sequence[float] = PENALTIES,
) -> LinearProbe:
    """Fit a multinomial logistic regression on frozen features, by L-BFGS.

    The penalty is the one with the best accuracy on a fifth of the inputs, each class by its share, when
    fitted on the others; the probe is then fitted on all. No other labels are looked at.

    Args:
        features: [N, d].
        labels: [N], from 0.
        classes: C.
        penalties: to choose from.

    Raises:
        DataError: a single class, or features that are not finite.
    """
    _require(features, labels)
    fit, held = _held_out(labels)
    penalty = penalties[0]
    if len(penalties) > 1 and len(held):
        found = [
            (_logistic(features[fit], labels[fit], classes, penalty).predict(features[held]) == labels[held])
            .float()
            .mean()
            .item()
            for penalty in penalties
        ]
        best = max(found)
        # Of equals the strongest: with few inputs many penalties do equally well.
        penalty = max(penalty for penalty, right in zip(penalties, found, strict=True) if right == best)
    return _logistic(features, labels, classes, penalty)


def _require(features: torch.Tensor, labels: torch.Tensor) -> None:
    if not torch.isfinite(features).all():
        row = int((~torch.isfinite(features).all(1)).float().argmax())
        raise DataError(f"The features of input {row} are not finite, so nothing can be fitted on them.")
    if len(labels.unique()) < 2:
        raise DataError(
            f"All {len(labels)} labelled inputs have one class, so there is nothing to tell apart. Label "
            "inputs of two classes or more."
        )


def _held_out(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return places to fit on and to choose on; classes with a single input are only fitted on."""
    order = torch.from_numpy(generator("probe", len(labels)).permutation(len(labels)))
    held = []
    for label in labels.unique():
        of_class = order[labels[order] == label]
        held.append(of_class[: round(HELD_OUT * len(of_class))])
    held_out = torch.cat(held)
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[held_out] = False
    return keep.nonzero()[:, 0], held_out


def _logistic(features: torch.Tensor, labels: torch.Tensor, classes: int, penalty: float) -> LinearProbe:
    mean, deviation = features.mean(0), features.std(0, correction=0) + TINY
    inputs = ((features - mean) / deviation).double()
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(inputs @ weight.T + bias, labels)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return LinearProbe(mean, deviation, weight.detach().float(), bias.detach().float(), penalty)


def nearest_neighbours(
    features: torch.Tensor,
    labels: torch.Tensor,
    queries: torch.Tensor,
    classes: int,
    *,
    neighbours: int = 20,
    temperature: float = 0.5,
) -> torch.Tensor:
    """Return the class [M] of each query by a vote of its nearest neighbours (Wu et al. 2018, section 3.4).

    A vote weighs exp(cosine / temperature).

    Args:
        features: [N, d], labelled.
        labels: [N].
        queries: [M, d].
        classes: C.
        neighbours: most that vote; all where there are fewer.
        temperature: of the weights.
    """
    known = functional.normalize(features, dim=1)
    count = min(neighbours, len(known))
    votes = []
    for part in functional.normalize(queries, dim=1).split(2048):
        near = (part @ known.T).topk(count, dim=1)
        weights = torch.exp(near.values / temperature)
        vote = torch.zeros(len(part), classes).scatter_add_(1, labels[near.indices], weights)
        votes.append(vote.argmax(1))
    return torch.cat(votes)


def recognised(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """Return for each of N inputs whether its second view is nearest to its own first view: [N], bool.

    Args:
        first: features [N, d] of one view of each input.
        second: of another view.
    """
    near = functional.normalize(second, dim=1) @ functional.normalize(first, dim=1).T
    return (near.argmax(1) == torch.arange(len(first))).numpy()
