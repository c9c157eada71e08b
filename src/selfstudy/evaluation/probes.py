"""What frozen features are worth: linear maps to classes or numbers, and nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import DataError
from selfstudy.core.machine import one_blas_thread
from selfstudy.core.random import generator

PENALTIES = tuple(10.0**power for power in range(-5, 3))  # of the linear probe, to choose from
HELD_OUT = 0.2  # of the labelled inputs, to choose the penalty on
ITERATIONS = 500  # most of L-BFGS for one penalty
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
    fitted on the others; of equals, which are frequent among few inputs, the one with the least
    cross-entropy there. The probe is then fitted on all. No other labels are looked at. Where classes are
    too small to spare any, it is the middle penalty.

    Args:
        features: [N, d].
        labels: [N], from 0.
        classes: C.
        penalties: to choose from.

    Raises:
        DataError: a single class, or features that are not finite.
    """
    _require_finite(features)
    if len(labels.unique()) < 2:
        raise DataError(
            f"All {len(labels)} labelled inputs have one class, so there is nothing to tell apart. Label "
            "inputs of two classes or more."
        )
    falling = sorted(penalties, reverse=True)
    fit, held = _held_out(labels)
    if len(falling) > 1 and len(held):
        path = _logistic_path(features[fit], labels[fit], classes, falling)
        judged = [_judged(probe, features[held], labels[held]) for probe in path]
        falling = falling[: judged.index(max(judged)) + 1]
    elif not len(held):
        falling = falling[: (len(falling) + 1) // 2]
    return _logistic_path(features, labels, classes, falling)[-1]


def _judged(probe: LinearProbe, features: torch.Tensor, labels: torch.Tensor) -> tuple[int, float]:
    """Return how many inputs are told right, and less the cross-entropy: more is better in both."""
    scores = probe.scores(features)
    return int((scores.argmax(1) == labels).sum()), -float(functional.cross_entropy(scores, labels))


def _require_finite(features: torch.Tensor, what: str = "features") -> None:
    finite = torch.isfinite(features).flatten(1).all(1)
    if not finite.all():
        row = int((~finite).float().argmax())
        raise DataError(f"The {what} of input {row} are not finite, so nothing can be fitted on them.")


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


def _logistic_path(
    features: torch.Tensor, labels: torch.Tensor, classes: int, falling: Sequence[float]
) -> list[LinearProbe]:
    """Fit a probe for each penalty, strongest first; each starts from the one before.

    L-BFGS works on axes in which the curvature is 1 at weights of 0: features turned to their principal
    axes, each divided by the root of its curvature there, (1/C - 1/C^2) of its variance plus the penalty.
    """
    from scipy.optimize import minimize

    inputs, mean, deviation = _standardised(features)
    axes = _principal_axes(inputs)
    turned, told = inputs @ axes, functional.one_hot(labels, classes).double()
    share = (classes - 1) / classes**2
    curvature = share * torch.cat([turned.square().mean(0), torch.ones(1)])
    found = torch.zeros(classes, len(curvature), dtype=torch.float64)
    probes = []
    for penalty in falling:
        penalties = torch.full_like(curvature, penalty)
        penalties[-1] = 0  # of the bias
        scale = (curvature + penalties).rsqrt()

        def objective(flat: np.ndarray, scale=scale, penalties=penalties) -> tuple[float, np.ndarray]:
            weights = torch.from_numpy(flat).view(classes, -1) * scale
            logs = functional.log_softmax(turned @ weights[:, :-1].T + weights[:, -1], 1)
            wrong = (logs.exp() - told) / len(told)
            slope = torch.cat([wrong.T @ turned, wrong.sum(0)[:, None]], 1) + penalties * weights
            loss = (penalties * weights.square()).sum() / 2 - (told * logs).sum() / len(told)
            return loss.item(), (slope * scale).flatten().numpy()

        with one_blas_thread():
            result = minimize(
                objective,
                (found / scale).flatten().numpy(),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": ITERATIONS, "ftol": 1e-7, "gtol": 1e-4},
            )
        found = torch.from_numpy(result.x).view(classes, -1) * scale
        weight, bias = (found[:, :-1] @ axes.T).float(), found[:, -1].float()
        probes.append(LinearProbe(mean, deviation, weight, bias, penalty))
    return probes


def _principal_axes(inputs: torch.Tensor) -> torch.Tensor:
    """Return the axes [d, min(N, d)] of centred inputs [N, d]."""
    if len(inputs) < inputs.shape[1]:
        return torch.linalg.svd(inputs, full_matrices=False).Vh.T
    return torch.linalg.eigh(inputs.T @ inputs).eigenvectors


def _standardised(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return features of mean 0 and deviation 1 in float64, and the mean and the deviation."""
    mean, deviation = features.mean(0), features.std(0, correction=0) + TINY
    return ((features - mean) / deviation).double(), mean, deviation


@dataclass(frozen=True)
class RidgeProbe:
    """A linear map of standardised features to a number.

    Attributes:
        mean, deviation: [d], of the features it was fitted on.
        weight: [d].
        bias: the mean of the targets.
        penalty: the weight of |w|^2 beside the mean squared error.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    weight: torch.Tensor
    bias: float
    penalty: float

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        """Return the number [N] for features [N, d]."""
        return ((features - self.mean) / self.deviation) @ self.weight + self.bias


def ridge_probe(
    features: torch.Tensor, targets: torch.Tensor, *, penalties: Sequence[float] = PENALTIES
) -> RidgeProbe:
    """Fit a ridge regression on frozen features, in closed form.

    The penalty is the one with the least squared error on a fifth of the inputs when fitted on the others,
    the strongest of equals; the probe is then fitted on all.

    Args:
        features: [N, d].
        targets: [N].
        penalties: to choose from.

    Raises:
        DataError: features or targets that are not finite.
    """
    _require_finite(features)
    _require_finite(targets[:, None], "targets")
    falling = sorted(penalties, reverse=True)
    fit, held = _held_out(torch.zeros(len(targets)))
    if len(falling) > 1 and len(held):
        path = _ridge_path(features[fit], targets[fit], falling)
        errors = [float((probe.predict(features[held]) - targets[held]).square().mean()) for probe in path]
        falling = [falling[errors.index(min(errors))]]
    return _ridge_path(features, targets, falling)[-1]


def _ridge_path(
    features: torch.Tensor, targets: torch.Tensor, penalties: Sequence[float]
) -> list[RidgeProbe]:
    inputs, mean, deviation = _standardised(features)
    bias = targets.double().mean()
    left, sizes, right = torch.linalg.svd(inputs, full_matrices=False)
    along = left.T @ (targets.double() - bias)
    found = []
    for penalty in penalties:
        weight = right.T @ (sizes * along / (sizes.square() + len(inputs) * penalty))
        found.append(RidgeProbe(mean, deviation, weight.float(), float(bias), penalty))
    return found


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
        vote = weights.new_zeros(len(part), classes).scatter_add_(1, labels[near.indices], weights)
        votes.append(vote.argmax(1))
    return torch.cat(votes)


def recognised(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """Return for each of N inputs whether its second view is nearest to its own first view: [N], bool.

    Args:
        first: features [N, d] of one view of each input.
        second: of another view.
    """
    known = functional.normalize(first, dim=1)
    parts = functional.normalize(second, dim=1).split(2048)
    near = torch.cat([(part @ known.T).argmax(1) for part in parts])
    return (near == torch.arange(len(first))).numpy()
