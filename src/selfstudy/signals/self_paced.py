"""Self-paced pieces: how much an item counts, which pseudo-label it gets, which are sure and which are asked.

Scores s [N, C] are those of machines of one class against all others; above 0 a machine claims an item.
Weights and ages are those of Lin et al. 2017, arXiv 1701.03555; the logarithmic ones of Jiang et al. 2014,
"Easy Samples First: Self-paced Reranking for Zero-Example Multimedia Search".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch

from selfstudy.data.image_sets import UNKNOWN

RegulariserName = Literal["linear", "hard", "logarithmic"]
EARLY = 0.9  # lambda of the logarithmic weights where losses are measured in ages; nearer to 1 is steeper


class Regulariser(NamedTuple):
    """g(v; lambda), as what it makes of a loss.

    Attributes:
        weights: from losses C l and ages lambda to the v in [0, 1] that minimises C l v + g(v; lambda).
        penalty: g itself, from v and lambda.
    """

    weights: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    penalty: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _linear(losses: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    return (1 - losses / ages).clamp(min=0)


def _hard(losses: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    return (losses < ages).to(losses)


def _logarithmic(losses: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    share = (losses / ages).clamp(max=1)
    return torch.log(1 - EARLY + EARLY * share) / math.log(1 - EARLY)


def _logarithmic_penalty(v: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
    rest = 1 - EARLY
    return ages / EARLY * (rest * v - rest**v / math.log(rest))


REGULARISERS: dict[RegulariserName, Regulariser] = {
    "linear": Regulariser(_linear, lambda v, ages: ages * (v**2 / 2 - v)),
    "hard": Regulariser(_hard, lambda v, ages: -ages * v),
    "logarithmic": Regulariser(_logarithmic, _logarithmic_penalty),
}


def aged(ages: torch.Tensor, right: torch.Tensor, pace: float) -> torch.Tensor:
    """Return lambda + alpha eta: machines that are right more often may look at harder items sooner.

    Args:
        ages: lambda, [C].
        right: eta, the share of the items trained on that each machine has on the right side: [C].
        pace: alpha.
    """
    return ages + pace * right


def high_confidence(scores: torch.Tensor, allowed: torch.Tensor, quota: int) -> torch.Tensor:
    """Return H: of each class the `quota` items of the highest score that its machine alone claims, in order.

    Args:
        scores: [N, C].
        allowed: [N], which items may be taken.
        quota: for each class, so that an easy class does not crowd out the others.
    """
    sole = allowed & ((scores > 0).sum(1) == 1)
    chosen = []
    for own in scores.T:
        places = (sole & (own > 0)).nonzero()[:, 0]
        chosen.append(places[own[places].argsort(descending=True, stable=True)[:quota]])
    return torch.cat(chosen).sort().values


def most_certain(scores: torch.Tensor, allowed: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` allowed items of the highest score, whatever their class: plain self-training."""
    places = allowed.nonzero()[:, 0]
    best = scores[places].max(1).values
    return places[best.argsort(descending=True, stable=True)[:count]].sort().values


def pseudo_labels(scores: torch.Tensor, rise: torch.Tensor) -> torch.Tensor:
    """Return the class of each item, `UNKNOWN` where no machine claims it: [N].

    It is the exact minimum of the objective over all labels with at most one positive class: the class of the
    least rise among those that claim the item. Of equal ones it is that of the highest score.

    Args:
        scores: [N, C].
        rise: [N, C], what a positive in place of a negative label adds to the objective: weight times
            l(+1, s) - l(-1, s). It is at most 0 where s > 0, at least 0 elsewhere.
    """
    claimed = scores > 0
    least = rise.masked_fill(~claimed, torch.inf).min(1, keepdim=True).values
    tied = claimed & (rise == least)
    found = scores.masked_fill(~tied, -torch.inf).argmax(1)
    return torch.where(claimed.any(1), found, UNKNOWN)


def most_doubtful(scores: torch.Tensor, allowed: torch.Tensor, count: int) -> torch.Tensor:
    """Return the items to ask for, the most wanted first.

    First those that several machines claim, the two highest scores closest to each other first; then those
    that none claims, the highest score first; then those that one claims, the lowest score first.

    Args:
        scores: [N, C], C at least 2.
        allowed: [N], which items may be asked for.
        count: how many; all where there are fewer.
    """
    places = allowed.nonzero()[:, 0]
    top = scores[places].topk(2, dim=1).values
    claims = (scores[places] > 0).sum(1)
    several, none = claims > 1, claims == 0
    turn = torch.where(several, 0, torch.where(none, 1, 2))
    order = torch.where(several, top[:, 0] - top[:, 1], torch.where(none, -top[:, 0], top[:, 0]))
    by_order = order.argsort(stable=True)
    return places[by_order[turn[by_order].argsort(stable=True)]][:count]


def least_sure(scores: torch.Tensor, pseudo: torch.Tensor, allowed: torch.Tensor, count: int) -> torch.Tensor:
    """Return the items to confirm: the allowed ones with a pseudo-label of the lowest score of its class.

    Args:
        scores: [N, C].
        pseudo: [N], `UNKNOWN` where there is none.
        allowed: [N], which items may be asked about.
        count: how many; all where there are fewer.
    """
    places = (allowed & (pseudo != UNKNOWN)).nonzero()[:, 0]
    own = scores[places].gather(1, pseudo[places, None])[:, 0]
    return places[own.argsort(stable=True)[:count]]
