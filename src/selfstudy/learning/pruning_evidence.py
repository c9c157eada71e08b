"""The trainings that pruning scores are told from, on all labelled images and nothing else."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.learning.supervised import (
    Losses,
    Seen,
    Supervised,
    require_labels,
    step_cost,
    supervise,
    train_classifier,
)
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import CLASS, ImageClassifier
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.signals.pruning_scores import Evidence, ForgettingCounter, checked, pruner


def pruning_scores(
    run: Run,
    name: str,
    encoder: ImageEncoder,
    labelled: ImageSet,
    *,
    short: Supervised,
    full: Supervised,
    runs: int = 1,
) -> np.ndarray:
    """Return the score of each labelled image by a pruner, the largest to be kept: [N], float64.

    Outside any stage: each training is a stage of its own. They start from the weights of `encoder` and
    differ in their heads, the order of the images and the views.

    Args:
        run: where they are kept.
        name: of the pruner, or `module:function`.
        encoder: made for the images; a copy is trained.
        labelled: all images, [N].
        short: settings of a short run.
        full: settings of the full run.
        runs: short runs that scores are averaged over.

    Raises:
        UsageError: no such pruner.
        DataError: labels that are none, or scores that are none.
    """
    score, needs = pruner(name)
    require_labels(labelled)

    def short_run(number: int) -> ImageClassifier:
        return train_classifier(run, encoder, labelled, short, desc=f"short run {number}")

    evidence = Evidence(labelled, run.key("random pruning"))
    if needs == "short runs":
        done = [run.stage(f"short-run-{number}", partial(short_run, number)) for number in range(runs)]
        evidence = Evidence(labelled, classifiers=done)
    elif needs == "full run":
        told = run.stage("full-run", lambda: forgotten(run, encoder, labelled, full).tolist())
        evidence = Evidence(labelled, forgotten=np.array(told))

    def scored() -> list[float]:
        run.meter.charge(flops=looks_flops(name, encoder, labelled, runs))
        return checked(score(evidence), len(labelled), name).tolist()

    return np.array(run.stage("scores", scored))


def scoring_cost(
    name: str, encoder: ImageEncoder, labelled: ImageSet, *, short: Supervised, full: Supervised, runs: int
) -> dict[str, float]:
    """Return what `pruning_scores` spends, by budget unit."""
    settings = full if pruner(name).needs == "full run" else short
    steps = scoring_steps(name, short=short, full=full, runs=runs)
    one = step_cost(encoder, min(settings.batch, len(labelled)))
    spent = {unit: steps * amount for unit, amount in one.items()}
    return {**spent, "flops": spent["flops"] + looks_flops(name, encoder, labelled, runs)}


def scoring_steps(name: str, *, short: Supervised, full: Supervised, runs: int) -> int:
    """Return the steps that `pruning_scores` takes."""
    return {"nothing": 0, "short runs": runs * short.steps, "full run": full.steps}[pruner(name).needs]


def looks_flops(name: str, encoder: ImageEncoder, labelled: ImageSet, runs: int) -> float:
    """Return the operations of looking at all images after short runs; gradients cost three looks."""
    if pruner(name).needs != "short runs":
        return 0.0
    times = TRAINED if name == "grand" else 1
    return times * runs * len(labelled) * forward_flops(encoder)


def forgotten(run: Run, encoder: ImageEncoder, labelled: ImageSet, settings: Supervised) -> np.ndarray:
    """Train a copy of `encoder`, and return how often each image was unlearned; within a stage.

    An image is looked at when it is trained on, as Toneva et al. 2019 do.
    """
    classifier = ImageClassifier(
        encoder.copy(), labelled.classes, {CLASS: len(labelled.classes)}, key=run.key("full run", "heads")
    )
    counter = ForgettingCounter(len(labelled))

    def losses(seen: Seen) -> Losses:
        scores = classifier(seen.images)
        right = scores.detach().argmax(1) == seen.labels
        # An image may be twice in a batch, where one pass ends and the next begins.
        places, first = np.unique(seen.places, return_index=True)
        counter.see(places, right[torch.from_numpy(first)])
        return {"loss": functional.cross_entropy(scores, seen.labels), "right": right.float().mean()}

    supervise(run, classifier, losses, labelled, settings, state={"forgetting": counter}, desc="full run")
    return counter.scores
