"""Pruning scores: how much an image is worth keeping, by what short or full trainings showed of it.

Every score says keep the largest. What each is told from is gathered by
`selfstudy.learning.pruning_evidence`; the functions themselves take arrays.

    random       nothing
    el2n         the error vector's length after short runs (Paul et al. 2021, arXiv 2107.07075)
    grand        the gradient's length after short runs (the same)
    margin       how far the label is from the best other class after short runs, the least first
    forgetting   how often a full run unlearns it (Toneva et al. 2019, arXiv 1812.05159)
    herding      its turn in the greedy approach to the mean of its class (Welling 2009)
    moderate     how near its distance from its class's centre is to the median (Xia et al. 2023)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.functions import user_function
from selfstudy.core.random import uniforms
from selfstudy.data.image_sets import ImageSet
from selfstudy.models.encoders.averaged import probabilities_of
from selfstudy.models.encoders.classifier import CLASS, ImageClassifier

GRADIENTS = 2**24  # numbers of the gradients of single images that are in memory at once
Needs = Literal["nothing", "short runs", "half runs", "full run"]


@dataclass(frozen=True)
class Evidence:
    """What scores are told from.

    Attributes:
        labelled: the N images with their labels.
        key: of the stream of random scores.
        classifiers: after R short runs, on all images or on halves of them.
        seen: [R, N], whether a run on half of the images was trained on each.
        forgotten: [N], of a full run; see `ForgettingCounter`.
    """

    labelled: ImageSet
    key: int = 0
    classifiers: Sequence[ImageClassifier] = ()
    seen: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    forgotten: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """Of each class after each short run: [R, N, C]."""
        return torch.stack([probabilities_of(one, self.labelled) for one in self.classifiers])

    @cached_property
    def features(self) -> torch.Tensor:
        """Of the first short run's encoder: [N, width]."""
        return self.labelled.mapped(lambda pixels, _: self.classifiers[0].embed_pixels(pixels))

    @property
    def labels(self) -> torch.Tensor:
        """[N]."""
        return torch.from_numpy(self.labelled.labels)


def el2n(probabilities: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return the length of the error vector, |p - onehot(y)|, the mean over runs: [N].

    >>> [round(score, 3) for score in el2n(torch.eye(2), torch.tensor([0, 0])).tolist()]
    [0.0, 1.414]

    Args:
        probabilities: [N, C], or [R, N, C] of R runs.
        labels: [N].
    """
    wanted = functional.one_hot(labels, probabilities.shape[-1])
    return (probabilities - wanted).norm(dim=-1).view(-1, len(labels)).mean(0).numpy()


def margin(probabilities: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return by how much the best other class is above the label's, from -1 to 1, the mean over runs: [N].

    Args:
        probabilities: [N, C], or [R, N, C] of R runs.
        labels: [N].
    """
    own = functional.one_hot(labels, probabilities.shape[-1]).bool().expand_as(probabilities)
    of_label = probabilities[own].view(-1, len(labels))
    others = probabilities.masked_fill(own, -1.0).max(-1).values.view(-1, len(labels))
    return (others - of_label).mean(0).numpy()


def memorisation(probabilities: torch.Tensor, labels: torch.Tensor, seen: np.ndarray) -> np.ndarray:
    """Return how much more likely its own label is to runs that saw an image than to those that did not: [N].

    Feldman and Zhang 2020, arXiv 2008.03703; of the probability, which is steadier over few runs than whether
    the label is told.

    >>> own = torch.tensor([[0.9, 0.6], [0.2, 0.6]])
    >>> seen = np.array([[True, False], [False, True]])
    >>> memorisation(torch.stack([own, 1 - own], 2), torch.tensor([0, 0]), seen).round(3).tolist()
    [0.7, 0.0]

    Args:
        probabilities: [R, N, C].
        labels: [N].
        seen: [R, N], whether a run saw an image; each image was seen by some runs, and not by others.
    """
    own = probabilities.gather(2, labels.expand(len(probabilities), -1)[:, :, None])[:, :, 0].double().numpy()
    return own.mean(0, where=seen) - own.mean(0, where=~seen)


def grand(classifiers: Sequence[ImageClassifier], labelled: ImageSet) -> np.ndarray:
    """Return the length of each image's own gradient of the cross-entropy, the mean over classifiers: [N].

    The gradient is that of all weights, in evaluation mode.
    """
    found = [
        labelled.mapped(partial(_gradient_norms, classifier.eval(), labelled.labels))
        for classifier in classifiers
    ]
    return torch.stack(found).mean(0).numpy()


def _gradient_norms(
    classifier: ImageClassifier, labels: np.ndarray, pixels: torch.Tensor, at: np.ndarray
) -> torch.Tensor:
    weights = {name: weight.detach() for name, weight in classifier.named_parameters()}
    encoder = classifier.encoder
    inputs = (pixels - encoder.mean) / encoder.deviation

    def loss(weights: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        found = functional_call(_Normalised(classifier), _within(weights), (image[None],))
        return functional.cross_entropy(found, label[None])

    at_once = max(1, GRADIENTS // sum(weight.numel() for weight in weights.values()))
    norms = []
    for images, told in zip(inputs.split(at_once), torch.from_numpy(labels[at]).split(at_once), strict=True):
        gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, images, told)
        squares = [one.flatten(1).square().sum(1) for one in gradients.values()]
        norms.append(torch.stack(squares).sum(0).sqrt())
    return torch.cat(norms)


class _Normalised(torch.nn.Module):
    """The classifier on normalised images: no change of the order in memory, which vmap refuses."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.classifier.heads[CLASS](self.classifier.encoder.encode(inputs))


def _within(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"classifier.{name}": weight for name, weight in weights.items()}


class ForgettingCounter:
    """How often training unlearns each image: was told right when last seen, and is told wrong now.

    A state for checkpoints.

    Args:
        count: N, images.
    """

    def __init__(self, count: int) -> None:
        self._right = torch.zeros(count, dtype=torch.bool)
        self._learned = torch.zeros(count, dtype=torch.bool)
        self._forgotten = torch.zeros(count, dtype=torch.int64)

    def see(self, places: np.ndarray, right: torch.Tensor) -> None:
        """Take in whether the images at `places` [B], each once, are told right [B]."""
        at = torch.from_numpy(places)
        self._forgotten[at] += self._right[at] & ~right
        self._right[at] = right
        self._learned[at] |= right

    @property
    def scores(self) -> np.ndarray:
        """[N]: how often each was unlearned; infinity for what was never told right."""
        counts = self._forgotten.double()
        return counts.where(self._learned, torch.inf).numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return all counts."""
        return {"right": self._right, "learned": self._learned, "forgotten": self._forgotten}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._right, self._learned = state_dict["right"], state_dict["learned"]
        self._forgotten = state_dict["forgotten"]


def herding(features: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return minus the turn of each image in its class, taken so that means come near the class's: [N].

    The next one is always that which brings the mean of those taken nearest to the mean of all.

    Args:
        features: [N, d].
        labels: [N].
    """
    scores = torch.zeros(len(labels), dtype=torch.float64)
    for label in labels.unique():
        at = (labels == label).nonzero()[:, 0]
        own = features[at].double()
        wanted, total = own.mean(0), torch.zeros(features.shape[1], dtype=torch.float64)
        left = torch.ones(len(at), dtype=torch.bool)
        for turn in range(len(at)):
            distance = ((total + own) / (turn + 1) - wanted).square().sum(1)
            taken = int(distance.where(left, torch.inf).argmin())
            scores[at[taken]], left[taken] = -turn, False
            total += own[taken]
    return scores.numpy()


def moderate(features: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return minus the gap between an image's distance from its class's centre and the median one: [N].

    Args:
        features: [N, d].
        labels: [N].
    """
    scores = torch.zeros(len(labels))
    for label in labels.unique():
        at = labels == label
        distance = (features[at] - features[at].mean(0)).norm(dim=1)
        scores[at] = -(distance - distance.quantile(0.5)).abs()
    return scores.numpy()


class Pruner(NamedTuple):
    """How scores are told, and what from."""

    score: Callable[[Evidence], Any]
    needs: Needs


PRUNERS: dict[str, Pruner] = {
    "random": Pruner(lambda e: uniforms(e.key, np.arange(len(e.labelled))), "nothing"),
    "el2n": Pruner(lambda e: el2n(e.probabilities, e.labels), "short runs"),
    "grand": Pruner(lambda e: grand(e.classifiers, e.labelled), "short runs"),
    "margin": Pruner(lambda e: margin(e.probabilities, e.labels), "short runs"),
    "memorisation": Pruner(lambda e: memorisation(e.probabilities, e.labels, e.seen), "half runs"),
    "forgetting": Pruner(lambda e: e.forgotten, "full run"),
    "herding": Pruner(lambda e: herding(e.features, e.labels), "short runs"),
    "moderate": Pruner(lambda e: moderate(e.features, e.labels), "short runs"),
}


def pruner(name: str) -> Pruner:
    """Return the pruner of that name, or the user's own function `module:function` as one.

    A function of one's own takes `Evidence` with classifiers after short runs, and returns scores [N], the
    largest kept.

    Raises:
        UsageError: there is none.
    """
    if name in PRUNERS:
        return PRUNERS[name]
    if ":" not in name:
        raise UsageError(
            f"There is no pruner {name!r}. {nearest(name, PRUNERS)} A function of your own is given as "
            "module:function."
        )
    return Pruner(user_function(name, "pruner"), "short runs")


def checked(scores: Any, count: int, name: str) -> np.ndarray:
    """Return scores as [N] float64.

    Raises:
        DataError: another number of them, or one that is not a number; infinity is allowed.
    """
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != (count,):
        raise DataError(
            f"The pruner {name!r} gave scores of the shape {found.shape}; there must be one for each of the "
            f"{count:,} labelled images, [{count}]."
        )
    if np.isnan(found).any():
        raise DataError(
            f"The pruner {name!r} gave no number to {int(np.isnan(found).sum()):,} images, the first at "
            f"{int(np.isnan(found).argmax())}. Scores are numbers; the largest are kept."
        )
    return found
