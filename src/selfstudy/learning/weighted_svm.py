"""Linear support vector machines with a weight for every item and class: one against all others, exactly.

A primal-dual interior-point method, since the alternatives fall short where a method alternates between
machines and weights: coordinate descent (liblinear) is still away from the optimum after a thousand passes
and penalises the bias, and libsvm takes one class after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch

from selfstudy.core.errors import DataError, MachineError

SvmLoss = Literal["hinge", "squared-hinge"]
BLOCK = 2**26  # numbers of a block of classes held at once
MOST_STEPS = 100
TINY = 1e-300
NEAR = 0.995  # share of the way to the boundary that a step goes


class Machines(NamedTuple):
    """One linear machine a class."""

    weights: torch.Tensor
    """w: [C, d]."""
    bias: torch.Tensor
    """b: [C]."""

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Return s = w . phi + b of features [N, d]: [N, C]."""
        return features.to(self.weights) @ self.weights.T + self.bias


def svm_losses(scores: torch.Tensor, signs: torch.Tensor, loss: SvmLoss = "hinge") -> torch.Tensor:
    """Return max(0, 1 - y s), or its square, of scores and signs of one shape."""
    hinge = (1 - signs * scores).clamp(min=0)
    return hinge if loss == "hinge" else hinge**2


def svm_objective(
    machines: Machines,
    features: torch.Tensor,
    signs: torch.Tensor,
    weights: torch.Tensor,
    loss: SvmLoss = "hinge",
) -> torch.Tensor:
    """Return 1/2 |w|^2 + sum over items of weight times loss: [C].

    Args:
        machines: of C classes.
        features: [N, d].
        signs: [N, C], 1 or -1.
        weights: [N, C], of the losses; C of the usual notation is in them.
        loss: of an item.
    """
    losses = svm_losses(machines.scores(features), signs.double(), loss)
    return machines.weights.square().sum(1) / 2 + (weights.double() * losses).sum(0)


def weighted_svm(
    features: torch.Tensor,
    signs: torch.Tensor,
    weights: torch.Tensor,
    *,
    loss: SvmLoss = "hinge",
    tolerance: float = 1e-6,
) -> Machines:
    """Return the machines that minimise `svm_objective`; the bias is free.

    It takes about 15 steps of O(N d^2) a class. Nothing is drawn.

    Args:
        features: phi, [N, d].
        signs: y, [N, C], 1 or -1.
        weights: [N, C], at least 0, of the losses; 0 leaves an item out.
        loss: "hinge" or "squared-hinge".
        tolerance: largest duality gap, as a share of the objective.

    Raises:
        DataError: a class for which no item of one sign has a weight.
    """
    features, signs, weights = features.double(), signs.double(), weights.double()
    for sign in (1, -1):
        empty = (weights * (signs == sign)).sum(0) == 0
        if empty.any():
            what = "positive" if sign == 1 else "negative"
            raise DataError(f"Machine {int(empty.nonzero()[0])} has no {what} item with a weight.")
    used = (weights > 0).any(1)
    features, signs, weights = features[used], signs[used], weights[used]
    base = _directions(features)
    inputs = torch.cat([features @ base, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    at_once = max(1, BLOCK // inputs.numel())
    parts = [
        _solve(inputs, y, u, loss, tolerance)
        for y, u in zip(signs.T.split(at_once), weights.T.split(at_once), strict=True)
    ]
    found = torch.cat(parts)
    return Machines(found[:, :-1] @ base.T, found[:, -1].clone())


def _directions(features: torch.Tensor) -> torch.Tensor:
    """Return orthonormal directions [d, r] that the features lie in; every w of an optimum does too."""
    count, width = features.shape
    if count < width:
        return torch.linalg.qr(features.T).Q
    return torch.eye(width, dtype=features.dtype)


def _solve(
    inputs: torch.Tensor, signs: torch.Tensor, most: torch.Tensor, loss: SvmLoss, tolerance: float
) -> torch.Tensor:
    """Return w and b [C, d + 1] from inputs [N, d + 1] that end in 1, signs and weights [C, N].

    Raises:
        MachineError: no optimum is found, which only numbers beyond float64 can do.
    """
    found = torch.zeros(len(signs), inputs.shape[1], dtype=inputs.dtype)
    places, point = torch.arange(len(signs)), _Point.start(inputs, signs, most, loss)
    for _ in range(MOST_STEPS):
        done = point.gap() < tolerance
        found[places[done]] = point.machines[done]
        if done.all():
            return found
        if done.any():
            places, point = places[~done], point.only(~done)
        point = point.moved()
    raise MachineError(
        f"{len(places)} machines have no optimum after {MOST_STEPS} steps. Scale the features, whose largest "
        f"number is {inputs.abs().max():.2g}, to about 1."
    )


@dataclass(frozen=True)
class _Point:
    """A point inside the constraints of both problems, for classes that are not solved yet.

    With f = w . phi + b the constraints are y f = 1 + slack - excess, slack >= 0; the multipliers alpha are
    from 0 to `most` for the hinge, complementary to slack, and `most` - alpha to excess. The squared hinge
    has no upper limit, and excess = alpha / (2 most).
    """

    inputs: torch.Tensor  # [N, d + 1]
    signs: torch.Tensor  # [C, N], 0 where the item has no weight
    most: torch.Tensor  # [C, N]
    machines: torch.Tensor  # [C, d + 1]
    alpha: torch.Tensor  # [C, N], as the next two
    slack: torch.Tensor
    excess: torch.Tensor
    squared: bool

    @classmethod
    def start(cls, inputs: torch.Tensor, signs: torch.Tensor, most: torch.Tensor, loss: SvmLoss) -> _Point:
        used = most > 0
        # What has no weight keeps harmless numbers, which its sign of 0 takes out of all sums.
        most = torch.where(used, most, 2.0)
        return cls(
            inputs=inputs,
            signs=signs * used,
            most=most,
            machines=torch.zeros(len(signs), inputs.shape[1], dtype=inputs.dtype),
            alpha=most / 2 if loss == "hinge" else most.clamp(max=1),
            slack=torch.ones_like(most),
            excess=torch.ones_like(most),
            squared=loss != "hinge",
        )

    def only(self, at: torch.Tensor) -> _Point:
        """Return the point of some classes."""
        chosen = {
            name: getattr(self, name)[at]
            for name in ("signs", "most", "machines", "alpha", "slack", "excess")
        }
        return replace(self, **chosen)

    @property
    def used(self) -> torch.Tensor:
        """1 where an item has a weight, else 0: [C, N]."""
        return self.signs.abs()

    @property
    def pull(self) -> torch.Tensor:
        """The sum of alpha y (phi, 1): [C, d + 1]; at the optimum it is w, and 0 for the bias."""
        return (self.signs * self.alpha) @ self.inputs

    def gap(self) -> torch.Tensor:
        """Return the duality gap, as a share of the objective, or how far alpha is from balanced: [C]."""
        hinge = (1 - self.signs * (self.machines @ self.inputs.T)).clamp(min=0) * self.used
        losses = hinge**2 if self.squared else hinge
        primal = self.machines[:, :-1].square().sum(1) / 2 + (self.most * losses).sum(1)
        pull, alpha = self.pull, self.alpha * self.used
        dual = alpha.sum(1) - pull[:, :-1].square().sum(1) / 2
        if self.squared:
            dual = dual - (alpha**2 / (4 * self.most)).sum(1)
        return torch.maximum((primal - dual).abs() / (1 + primal), pull[:, -1].abs() / (1 + alpha.sum(1)))

    def moved(self) -> _Point:
        """Return the next point: Mehrotra's predictor, then a step centred by what it predicts."""
        room = self.most - self.alpha
        curvature = self.slack / self.alpha + (1 / (2 * self.most) if self.squared else self.excess / room)
        give = self.used / curvature  # how much alpha gives way to a change of y f
        ridge = torch.eye(self.inputs.shape[1], dtype=self.inputs.dtype)
        ridge[-1, -1] = 0  # the bias is free
        system = ridge + (self.inputs.T * give[:, None, :]) @ self.inputs
        factor = torch.linalg.cholesky(system)
        predicted = self._direction(factor, give, -self.alpha * self.slack, -room * self.excess)
        centre = self._complementarity()
        ahead = self._stepped(predicted, self._share(predicted))._complementarity()
        target = (ahead / centre) ** 3 * centre  # [C, 1]
        _, alpha, slack, excess = predicted
        direction = self._direction(
            factor,
            give,
            target - self.alpha * self.slack - alpha * slack,
            target - room * self.excess + alpha * excess,
        )
        return self._stepped(direction, NEAR * self._share(direction))

    def _direction(
        self, factor: torch.Tensor, give: torch.Tensor, low: torch.Tensor, high: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the changes of machines, alpha, slack and excess.

        Newton's equations are solved with alpha slack changed by `low`, (most - alpha) excess by `high`.
        """
        room = self.most - self.alpha
        excess = self.alpha / (2 * self.most) if self.squared else self.excess
        short = 1 - self.signs * (self.machines @ self.inputs.T) - excess + self.slack
        wanted = short + low / self.alpha - (0 if self.squared else high / room)
        pull = self.pull
        unmet = torch.cat([pull[:, :-1] - self.machines[:, :-1], pull[:, -1:]], 1)
        right = (self.signs * wanted * give) @ self.inputs + unmet
        machines = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
        alpha = (wanted - self.signs * (machines @ self.inputs.T)) * give
        slack = (low - self.slack * alpha) / self.alpha * self.used
        if self.squared:
            return machines, alpha, slack, torch.zeros_like(alpha)
        return machines, alpha, slack, (high + self.excess * alpha) / room * self.used

    def _stepped(self, direction: tuple[torch.Tensor, ...], share: torch.Tensor) -> _Point:
        machines, alpha, slack, excess = (share * change for change in direction)
        return replace(
            self,
            machines=self.machines + machines,
            alpha=self.alpha + alpha,
            slack=self.slack + slack,
            excess=self.excess + excess,
        )

    def _share(self, direction: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the largest share of the step, at most 1, that stays within the limits: [C, 1]."""
        _, alpha, slack, excess = direction
        limited = [(self.alpha, alpha), (self.slack, slack)]
        if not self.squared:
            limited += [(self.most - self.alpha, -alpha), (self.excess, excess)]
        shares = [
            torch.where(change < 0, -value / change.clamp(max=-TINY), 1.0).amin(1, keepdim=True)
            for value, change in limited
        ]
        return torch.stack(shares).amin(0).clamp(max=1)

    def _complementarity(self) -> torch.Tensor:
        """Return the mean of alpha slack, and of (most - alpha) excess: [C, 1]."""
        products = self.alpha * self.slack
        if not self.squared:
            products = (products + (self.most - self.alpha) * self.excess) / 2
        return (self.used * products).sum(1, keepdim=True) / self.used.sum(1, keepdim=True)
