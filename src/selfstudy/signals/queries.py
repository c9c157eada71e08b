"""Query strategies of active learning: which items of a pool to ask the labels of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from selfstudy.signals.neighbours import nearest

TINY = 1e-12  # least probability within a logarithm
CONTRASTED = 10  # labelled neighbours that an item is contrasted with (Margatina et al. 2021)

QueryName = Literal["breaking-ties", "entropy", "least-confidence", "cal", "core-set", "bald", "random"]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What a strategy may look at.

    Attributes:
        probabilities: [N, C], of the items that may be asked for.
        features: [N, e], of the same, in the classifier's own space.
        labelled_probabilities: [l, C].
        labelled_features: [l, e].
        passes: returns probabilities [N, T, C] of T Monte Carlo passes.
        rng: for strategies that draw.
    """

    probabilities: torch.Tensor
    features: torch.Tensor
    labelled_probabilities: torch.Tensor
    labelled_features: torch.Tensor
    passes: Callable[[], torch.Tensor]
    rng: np.random.Generator

    def __len__(self) -> int:
        return len(self.probabilities)


def query(name: QueryName, candidates: Candidates, count: int) -> np.ndarray:
    """Return the places of the `count` items to ask for, the most wanted first; all where there are fewer.

    Args:
        name: of the strategy.
        candidates: what is known of the items.
        count: how many.
    """
    return QUERIES[name](candidates, min(count, len(candidates)))


def _lowest(scores: torch.Tensor, count: int) -> np.ndarray:
    """Return the places of the lowest scores [N]; of equal ones the lower place first."""
    return scores.argsort(stable=True)[:count].numpy()


def breaking_ties(candidates: Candidates, count: int) -> np.ndarray:
    """Return the items with the least gap between the two most likely classes (Scheffer et al. 2001)."""
    top = candidates.probabilities.topk(2, dim=1).values
    return _lowest(top[:, 0] - top[:, 1], count)


def highest_entropy(candidates: Candidates, count: int) -> np.ndarray:
    """Return the items whose probabilities have the highest entropy."""
    return _lowest(-entropy(candidates.probabilities), count)


def least_confidence(candidates: Candidates, count: int) -> np.ndarray:
    """Return the items whose most likely class is the least likely (Lewis and Gale 1994)."""
    return _lowest(candidates.probabilities.max(1).values, count)


def contrastive(candidates: Candidates, count: int) -> np.ndarray:
    """Return the items that are told otherwise than the labelled ones near them.

    Margatina et al. 2021, "Active Learning by Acquiring Contrastive Examples", arXiv 2109.03764: the mean of
    KL(P_j || P_i) over the labelled neighbours j of item i.
    """
    near = nearest(
        candidates.labelled_features,
        candidates.features,
        min(CONTRASTED, len(candidates.labelled_features)),
    ).places
    beside = candidates.labelled_probabilities[near]  # [N, k, C]
    return _lowest(-divergence(beside, candidates.probabilities[:, None]).mean(1), count)


def core_set(candidates: Candidates, count: int) -> np.ndarray:
    """Return items that are far from all labelled ones and from each other, one after the other.

    Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach",
    arXiv 1708.00489: k-centre greedy.
    """
    features = candidates.features
    apart = nearest(candidates.labelled_features, features, 1).distances[:, 0]
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(apart.argmax()))
        apart = torch.minimum(apart, (features - features[chosen[-1]]).norm(dim=1))
        apart[chosen[-1]] = -1
    return np.array(chosen, dtype=np.int64)


def by_disagreement(candidates: Candidates, count: int) -> np.ndarray:
    """Return the items on which Monte Carlo passes disagree most (Houlsby et al. 2011, arXiv 1112.5745)."""
    return _lowest(-bald(candidates.passes()), count)


def at_random(candidates: Candidates, count: int) -> np.ndarray:
    """Return items drawn uniformly."""
    return candidates.rng.permutation(len(candidates))[:count]


QUERIES: dict[QueryName, Callable[[Candidates, int], np.ndarray]] = {
    "breaking-ties": breaking_ties,
    "entropy": highest_entropy,
    "least-confidence": least_confidence,
    "cal": contrastive,
    "core-set": core_set,
    "bald": by_disagreement,
    "random": at_random,
}


# Of probabilities.


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the entropy, in nats, over the last dimension."""
    return -torch.xlogy(probabilities, probabilities).sum(-1)


def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q), in nats, over the last dimension; q counts as at least `TINY`, so it is finite."""
    return (torch.xlogy(p, p) - p * q.clamp(min=TINY).log()).sum(-1).clamp(min=0)


def bald(passes: torch.Tensor) -> torch.Tensor:
    """Return how much passes disagree, in bits: the entropy of their mean less the mean of their entropies.

    Args:
        passes: [N, T, C], probabilities; the result [N] is 0 where all are equal, and at most log2 C.
    """
    bits = entropy(passes.mean(1)) - entropy(passes).mean(1)
    return (bits / np.log(2)).clamp(min=0)
