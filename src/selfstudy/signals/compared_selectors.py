"""Four selectors of pseudo-labels that HAST is compared with, as Schröder and Heyer 2024 reproduce them.

UST: Mukherjee and Awadallah 2020, arXiv 2006.15315. AcTune: Yu et al. 2022, arXiv 2112.08787. VERIPS:
Gonsior et al. 2020. NeST: Xu et al. 2023, arXiv 2210.07544. Where the authors' code and the descriptions
part, this follows the descriptions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from selfstudy.data.labelled import balanced_draw
from selfstudy.signals.evidence import Evidence, PseudoLabels, Selection
from selfstudy.signals.neighbours import nearest
from selfstudy.signals.queries import bald, divergence, entropy

TINY = 1e-8
PER_CLASS = 30  # ust: pseudo-labels a class
LEAST_WEIGHT = 0.1 / 0.25  # ust: 0.25 is the largest variance of a probability
REGIONS, REGIONS_TAKEN, OF_REGION = 10, 5, 5  # actune: K, M, and items of each region taken
REGION_SURE, SPREAD = 0.6, 0.5  # actune: gamma, and the weight of a region's mixture of classes
MOMENTUM = (0.8, 0.9)  # actune: share of the newest probabilities, at the first round and at the last
BESIDE, AMONG, KEPT = 7, 0.1, 0.5  # nest: k, weight of divergences among neighbours, share of the last score
PER_LABEL = 10  # nest: items a label that are looked at


def ust(evidence: Evidence, settings: PseudoLabels) -> Selection:
    """Draw as many items of each class, the more likely the less Monte Carlo passes disagree on them.

    Every item, labelled ones too, weighs max(0.1 log(1 / variance), 0.4).
    """
    passes, labelled_passes = evidence.passes()
    labels = passes.mean(1).argmax(1).numpy()
    ease = (1 - bald(passes)).clamp(min=0).numpy().astype(float)
    classes = passes.shape[2]
    had = np.bincount(evidence.labels, minlength=classes)
    places = np.sort(balanced_draw(labels, ease, PER_CLASS * classes, had, evidence.rng))
    return Selection(
        places,
        labels[places],
        variance_weights(passes[places], labels[places]),
        variance_weights(labelled_passes, evidence.labels),
        dropout=True,
    )


def variance_weights(passes: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """Return the weight [N] of items from the variance, over passes [N, T, C], of their class."""
    of_class = passes[torch.arange(len(labels)), :, torch.from_numpy(labels)]  # [N, T]
    variance = of_class.double().var(1, correction=0).numpy()
    return np.maximum(-0.1 * np.log(variance + TINY), LEAST_WEIGHT)


def actune(evidence: Evidence, settings: PseudoLabels) -> Selection:
    """Return the least uncertain items of the least uncertain regions: clusters, weighted by uncertainty."""
    from sklearn.cluster import KMeans

    mixed = _mixed(evidence)
    classes = mixed.shape[1]
    unsure = (entropy(mixed) / np.log(classes)).numpy().astype(float)
    likely, labels = mixed.max(1).values.numpy(), mixed.argmax(1).numpy()
    sure = np.flatnonzero(likely > REGION_SURE)
    none = np.empty(0, dtype=np.int64)
    taken = none
    if len(sure):
        regions = KMeans(
            min(REGIONS, len(np.unique(evidence.groups[sure]))),
            n_init=1,
            random_state=int(evidence.rng.integers(2**31)),
        ).fit_predict(
            functional.normalize(evidence.features[sure], dim=1).numpy(),
            sample_weight=np.maximum(unsure[sure], TINY),
        )
        taken = sure[least_uncertain(regions, unsure[sure], labels[sure])]
    count = len(evidence.labels)
    return Selection(
        taken,
        labels[taken],
        np.full(len(taken), 1 / max(1, len(taken))),
        np.full(count, 1 / count),
        remembered=mixed,
    )


def least_uncertain(regions: np.ndarray, unsure: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the places, rising, of the `OF_REGION` least uncertain items in each of the best regions.

    A region's score is the mean uncertainty and half the entropy of its classes; what a region is short of,
    the next one gives.

    Args:
        regions: [N], of each item.
        unsure: [N].
        labels: [N], classes as the classifier tells them.
    """
    names, sizes = np.unique(regions, return_counts=True)
    shares = np.stack([np.bincount(labels[regions == name], minlength=labels.max() + 1) for name in names])
    mixture = entropy(torch.from_numpy(shares / sizes[:, None])).numpy()
    scores = np.array([unsure[regions == name].mean() for name in names]) + SPREAD * mixture
    taken, wanted = [], 0
    for name in names[np.argsort(scores, kind="stable")[:REGIONS_TAKEN]]:
        wanted += OF_REGION
        inside = np.flatnonzero(regions == name)
        best = inside[np.argsort(unsure[inside], kind="stable")[:wanted]]
        wanted -= len(best)
        taken.append(best)
    return np.sort(np.concatenate(taken))


def _mixed(evidence: Evidence) -> torch.Tensor:
    """Return the probabilities mixed with those of the last round, where there are any."""
    now, last = evidence.probabilities, evidence.earlier
    if last is None:
        return now
    low, high = MOMENTUM
    share = low + (high - low) * evidence.progress
    return torch.where(torch.isnan(last), now, share * now + (1 - share) * last)


def verips(evidence: Evidence, settings: PseudoLabels) -> Selection:
    """Return the certain items that another classifier, trained on the labels alone, tells the same."""
    p = evidence.probabilities
    if settings.certainty == "entropy":
        certain = 1 - entropy(p) / np.log(p.shape[1])
    else:
        top = p.topk(2, dim=1).values
        certain = top[:, 0] - top[:, 1]
    enough = certain.numpy() >= settings.sure
    told = evidence.told
    places = (
        np.flatnonzero(enough & (evidence.verified() == told)) if enough.any() else np.flatnonzero(enough)
    )
    return Selection(places, told[places], np.ones(len(places)), np.ones(len(evidence.labels)))


def nest(evidence: Evidence, settings: PseudoLabels) -> Selection:
    """Return sure items that are told like the labelled ones near them, which are told like each other.

    Labels and pseudo-labels have half of the weight each.
    """
    scores = neighbour_divergence(
        evidence.probabilities, evidence.features, evidence.labelled_probabilities, evidence.labelled_features
    )
    if evidence.earlier is not None:
        last = evidence.earlier[:, 0]
        scores = torch.where(torch.isnan(last), scores, KEPT * last + (1 - KEPT) * scores)
    count = len(evidence.labels)
    order = (scores if settings.nest_direction == "low" else -scores).argsort(stable=True)
    looked_at = order[: PER_LABEL * count].sort().values
    likely = evidence.probabilities[looked_at].max(1).values
    places = looked_at[likely > settings.sure].numpy()
    return Selection(
        places,
        evidence.told[places],
        np.full(len(places), 0.5 / max(1, len(places))),
        np.full(count, 0.5 / count),
        remembered=scores[:, None],
    )


def neighbour_divergence(
    p: torch.Tensor, features: torch.Tensor, labelled_p: torch.Tensor, labelled_features: torch.Tensor
) -> torch.Tensor:
    """Return D [S]: the mean KL of an item to its labelled neighbours, and 0.1 times that among them.

    Args:
        p: [S, C].
        features: [S, e].
        labelled_p: [l, C].
        labelled_features: [l, e].
    """
    count = min(BESIDE, len(labelled_p))
    near = nearest(labelled_features, features, count).places
    beside = labelled_p[near]  # [S, k, C]
    found = divergence(p[:, None], beside).mean(1)
    if count > 1:
        between = divergence(labelled_p[:, None], labelled_p[None])  # [l, l]
        a, b = torch.triu_indices(count, count, 1)
        found = found + AMONG * between[near[:, a], near[:, b]].mean(1)
    return found
