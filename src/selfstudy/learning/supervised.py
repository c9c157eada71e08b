"""Training image classifiers on labels: from scratch, or from an encoder that was pre-trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.views import ImageViews, view_keys
from selfstudy.learning.best_weights import BestWeights
from selfstudy.learning.loops import batch_indices, check_positive
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, decayed_groups, named_optimizer
from selfstudy.learning.schedules import ScheduleName, share_of_peak
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import CLASS, ImageClassifier
from selfstudy.models.encoders.flops import TRAINED, forward_flops

Losses = dict[str, torch.Tensor]
Views = Callable[[torch.Tensor, np.ndarray], torch.Tensor]
"""From images [B, C, H, W], 0 to 1, and a stream of each [B] to views, which may have another side."""


class Seen(NamedTuple):
    """What a step is taken on.

    Attributes:
        step: from 0.
        places: [B], of the images within those that were handed in.
        images: [B, C, H, W], random views, 0 to 1.
        labels: [B].
    """

    step: int
    places: np.ndarray
    images: torch.Tensor
    labels: torch.Tensor


OptimizerMaker = Callable[[Any], torch.optim.Optimizer]
"""From groups of weights, which say their `peak` and `weight_decay`, to an optimiser of them."""
ImageLosses = Callable[[Seen], Losses]
"""From what a step is taken on to "loss" and what is logged beside it."""


def shift_and_flip() -> ImageViews:
    """Return views by a shift of up to 7 % of the side, two pixels of 28, and mirror images."""
    return ImageViews(crop=(1.0, 1.0), shift=0.07, jitter=0.0, grey=0.0)


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """How a classifier is trained on labelled images."""

    steps: int = 1000
    """Optimiser steps."""
    batch: int = 64
    """Images a step; all, where there are fewer."""
    optimizer: OptimizerName = "sgd"
    """"sgd" is with Nesterov's momentum of 0.9, "heavy-ball" with the older one."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    learning_rate: float = 0.05
    """Its peak, for the encoder and, unless told otherwise, the heads."""
    head_learning_rate: float | None = None
    """Its peak for the heads; None is that of the encoder."""
    weight_decay: float = 1e-4
    """Of all weights but biases and normalisation."""
    schedule: ScheduleName = "cosine"
    """Of the learning rate: "cosine" or "linear" to 0, "steps" to a tenth after one half and after three
    quarters, "stable" until a line to 0 over the last fifth, or "constant"."""
    warmup: float = 0.0
    """Share of the steps over which it rises to its peak."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 is any."""
    views: ImageViews = field(default_factory=shift_and_flip)
    """Random views that are trained on."""
    held_out: float = 0.0
    """Share of the labelled images not trained on, which tell the weights to keep; 0 keeps the last."""
    looks: int = 10
    """Times that the held-out images are looked at."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, steps=0, batch=0, learning_rate=0, head_learning_rate=0, looks=0)
        if not (0 <= self.held_out < 1 and 0 <= self.warmup < 1 and min(self.weight_decay, self.clip) >= 0):
            raise UsageError(
                f"Supervised has held_out {self.held_out}, warmup {self.warmup}, weight_decay "
                f"{self.weight_decay} and clip {self.clip}: the first two must be from 0 to below 1, the "
                "others at least 0."
            )
        check_optimizer(self.optimizer, self.betas)
        self.views.validate()

    def share(self, step: int) -> float:
        """Return the learning rate of a step as a share of its peak.

        >>> [round(Supervised(steps=4).share(step), 2) for step in range(4)]
        [1.0, 0.85, 0.5, 0.15]
        """
        return share_of_peak(self.schedule, step, self.steps, self.warmup)

    def batch_of(self, labelled: ImageSet) -> int:
        """Return the images of a step of a training on `labelled`; those held out are not trained on."""
        return min(self.batch, len(held_apart(labelled, self.held_out)[1]))

    def optimizer_of(
        self, classifier: ImageClassifier, made: OptimizerMaker | None = None
    ) -> torch.optim.Optimizer:
        """Return the optimiser of all weights; vectors (biases, scales) are not decayed.

        Args:
            classifier: whose weights they are.
            made: makes the optimiser of their groups; None is `optimizer` by its name.
        """
        peaks = self.learning_rate, self.head_learning_rate or self.learning_rate
        groups = [
            *decayed_groups(classifier.encoder, self.weight_decay, peak=peaks[0]),
            *decayed_groups(classifier.heads, self.weight_decay, peak=peaks[1]),
        ]
        return made(groups) if made else named_optimizer(self.optimizer, groups, self.betas)


def train_classifier(
    run: Run,
    encoder: ImageEncoder,
    labelled: ImageSet,
    settings: Supervised | None = None,
    *,
    desc: str = "supervised",
) -> ImageClassifier:
    """Train a copy of `encoder` with a linear head on labelled images by cross-entropy; within a stage.

        classifier = run.stage("supervised", lambda: train_classifier(run, encoder, task.labelled, settings))
        accuracy = task.evaluate(classifier)

    Args:
        run: within a stage of its own.
        encoder: made for the images (`task.prepared(model)`); untrained, or pre-trained to be fine-tuned.
        labelled: all it is trained on.
        settings: how long and how; None is `Supervised()`.
        desc: names the loop and its random streams.

    Raises:
        DataError: images without labels, or with labels that are none of the classes.
    """
    settings = settings or Supervised()
    require_labels(labelled)
    classifier = new_classifier(encoder, labelled, run.key(desc, "heads"))
    supervise(run, classifier, plain_losses(classifier), labelled, settings, desc=desc)
    return classifier


def new_classifier(encoder: ImageEncoder, labelled: ImageSet, key: int = 0) -> ImageClassifier:
    """Return a copy of an encoder with a linear head for the classes, whose first weights `key` names."""
    return ImageClassifier(encoder.copy(), labelled.classes, {CLASS: len(labelled.classes)}, key=key)


def plain_losses(classifier: ImageClassifier) -> ImageLosses:
    """Return the cross-entropy of the class head, with the share told right beside it."""

    def losses(seen: Seen) -> Losses:
        scores = classifier(seen.images)
        right = (scores.detach().argmax(1) == seen.labels).float().mean()
        return {"loss": functional.cross_entropy(scores, seen.labels), "right": right}

    return losses


def supervise(
    run: Run,
    classifier: ImageClassifier,
    losses: ImageLosses,
    labelled: ImageSet,
    settings: Supervised,
    *,
    copies: int | Callable[[int], float] = 1,
    views: Callable[[int], Views] | None = None,
    state: dict[str, Stateful] | None = None,
    optimizer_maker: OptimizerMaker | None = None,
    desc: str = "supervised",
) -> dict[str, Any]:
    """Train `classifier` in place on `losses(seen)["loss"]`; its other entries are logged beside it.

    Args:
        run: within a stage of its own.
        classifier: all that is trained.
        losses: of what a step is taken on; tensors without dimension.
        labelled: the images.
        settings: how long and how.
        copies: of each image that `losses` runs the network on, for the budget, or a function of the step
            that says so; images of fewer pixels are less than one copy.
        views: from a step to how its views are made; None is those of the settings at every step.
        state: what else changes from step to step, such as a memory that `losses` keeps.
        optimizer_maker: makes the optimiser of groups of weights; None is that of the settings.
        desc: names the loop and its random streams.

    Returns:
        "steps" done; with `held_out`, "kept_at" the step with the best accuracy there, and that "accuracy".
    """
    require_labels(labelled)
    at_hand, fit, held = held_apart(labelled, settings.held_out)
    optimizer = settings.optimizer_of(classifier, optimizer_maker)
    best = BestWeights(classifier)
    batch = min(settings.batch, len(fit))
    every = max(1, settings.steps // settings.looks)
    one = step_cost(classifier.encoder, batch)

    def cost(step: int) -> dict[str, float]:
        times = copies(step) if callable(copies) else copies
        return {**one, "flops": times * one["flops"]}

    done = 0
    everything: dict[str, Stateful] = {"classifier": classifier, "optimizer": optimizer, "best": best}
    for step in run.steps(settings.steps, state={**everything, **(state or {})}, desc=desc, cost=cost):
        at = batch_indices(run, desc, step, len(fit), batch)
        made = views(step) if views else settings.views
        images = made(fit.pixels(at), view_keys(run.key(desc, "view", step), at))
        seen = Seen(step, at_hand[at], images, torch.from_numpy(fit.labels[at]))
        found = take_step(classifier, optimizer, losses, seen, settings)
        run.log(step=step, **{name: value.item() for name, value in found.items()})
        done = step + 1
        if held is not None and (done % every == 0 or done == settings.steps):
            best.offer(share_right(classifier, held), done)
    classifier.eval()
    return {"steps": done, **best.bring_back()}


def step_cost(encoder: ImageEncoder, batch: int, copies: float = 1) -> dict[str, float]:
    """Return what one step spends, by budget unit: images, and the operations on all their copies."""
    return {"samples": batch, "flops": TRAINED * forward_flops(encoder) * copies * batch}


def trial_step(
    classifier: ImageClassifier,
    losses: ImageLosses,
    labelled: ImageSet,
    settings: Supervised,
    views: Views | None = None,
) -> Callable[[], object]:
    """Return one step of `supervise` that can be timed; `classifier` is changed by it.

    `views` are those of the settings unless given.
    """
    optimizer, some = settings.optimizer_of(classifier), labelled.only(slice(settings.batch))
    places, labels = np.arange(len(some)), torch.from_numpy(some.labels)

    def step() -> object:
        images = (views or settings.views)(some.pixels(slice(None)), view_keys(0, places))
        return take_step(classifier, optimizer, losses, Seen(0, places, images, labels), settings)

    return step


def take_step(
    classifier: ImageClassifier,
    optimizer: torch.optim.Optimizer,
    losses: ImageLosses,
    seen: Seen,
    settings: Supervised,
) -> Losses:
    """Move the weights of `classifier` by one step, and return its losses.

    Raises:
        DataError: the loss is not finite.
    """
    classifier.train()
    found = losses(seen)
    if not torch.isfinite(found["loss"]):
        raise DataError(
            f"The loss is {found['loss'].item()} at step {seen.step}. Lower the learning rate "
            f"({settings.learning_rate:g}), and look at the images."
        )
    found["loss"].backward()
    if settings.clip:
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), settings.clip)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * settings.share(seen.step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return found


def require_labels(labelled: ImageSet) -> None:
    """Refuse images that a classifier cannot be trained on.

    Raises:
        DataError: none at all, fewer than two classes, or a label that is no class.
    """
    if not len(labelled) or len(labelled.classes) < 2:
        raise DataError(
            f"{labelled.name!r} has {len(labelled)} labelled images of {len(labelled.classes)} classes; a "
            "classifier needs two classes or more. Images without labels are for methods such as "
            "barlow-twins."
        )
    wrong = np.flatnonzero((labelled.labels < 0) | (labelled.labels >= len(labelled.classes)))
    if len(wrong):
        raise DataError(
            f"The label {labelled.labels[wrong[0]]} of image {wrong[0]} of {labelled.name!r} is no class: "
            f"labels go from 0 to {len(labelled.classes) - 1}. It is one of {len(wrong)} such labels."
        )


def held_apart(labelled: ImageSet, share: float) -> tuple[np.ndarray, ImageSet, ImageSet | None]:
    """Return the places of the images to train on, those images, and the ones held out; None for no share.

    Which they are depends on the number of images alone.

    Raises:
        DataError: none is left to train on.
    """
    places, apart = held_places(len(labelled), share)
    if not len(apart):
        return places, labelled, None
    return places, labelled.only(places), labelled.only(apart)


def held_places(count: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of `count` items to train on, and of the share held out; they depend on both alone.

    Raises:
        DataError: none is left to train on.
    """
    apart = round(share * count)
    if not apart:
        return np.arange(count), np.arange(0)
    if apart == count:
        raise DataError(f"held_out={share} leaves none of {count} labelled items to train on.")
    order = generator("supervised", "held out", count).permutation(count)
    return np.sort(order[apart:]), np.sort(order[:apart])


def share_right(classifier: ImageClassifier, images: ImageSet) -> float:
    """Return the share of labelled images whose class the classifier tells, each looked at once."""
    told = images.mapped(lambda pixels, _: classifier.classify(pixels, "single"))
    return float((told.numpy() == images.labels).mean())
