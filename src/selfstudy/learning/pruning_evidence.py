"""The trainings that pruning scores are told from, on all labelled images and nothing else."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.random import derive, uniforms
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.learning.supervised import (
    Losses,
    Seen,
    Supervised,
    new_classifier,
    require_labels,
    step_cost,
    supervise,
    train_classifier,
)
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
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
        full: settings of the full run, which holds no image out: one that is never seen is never learned.
        runs: R, short runs that scores are averaged over; of halves so many pairs.

    Raises:
        UsageError: no such pruner.
        DataError: labels that are none, or scores that are none.
    """
    score, needs = pruner(name)
    require_labels(labelled)

    def trained(kind: str, number: int, images: ImageSet) -> ImageClassifier:
        work = partial(train_classifier, run, encoder, images, short, desc=f"{kind} run {number}")
        return run.stage(f"{kind}-run-{number}", work)

    evidence = Evidence(labelled, run.key("random pruning"))
    if needs == "short runs":
        done = [trained("short", number, labelled) for number in range(runs)]
        evidence = Evidence(labelled, classifiers=done)
    elif needs == "half runs":
        seen = halves(run.key("halves"), len(labelled), runs)
        parts = [labelled.only(np.flatnonzero(half)) for half in seen]
        done = [trained("half", number, part) for number, part in enumerate(parts)]
        evidence = Evidence(labelled, classifiers=done, seen=seen)
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
    needs, size = pruner(name).needs, len(labelled)
    settings = _on_all(full) if needs == "full run" else short
    parts = [labelled.only(slice(size // 2)), labelled.only(slice(size // 2, None))]
    batches = [settings.batch_of(part) for part in (parts if needs == "half runs" else [labelled])]
    one = step_cost(encoder, 1)
    images = scoring_steps(name, short=short, full=full, runs=runs) * sum(batches) / len(batches)
    spent = {unit: images * amount for unit, amount in one.items()}
    return {**spent, "flops": spent["flops"] + looks_flops(name, encoder, labelled, runs)}


def scoring_steps(name: str, *, short: Supervised, full: Supervised, runs: int) -> int:
    """Return the steps that `pruning_scores` takes."""
    steps = {"nothing": 0, "short runs": runs * short.steps, "half runs": 2 * runs * short.steps}
    return {**steps, "full run": full.steps}[pruner(name).needs]


def looks_flops(name: str, encoder: ImageEncoder, labelled: ImageSet, runs: int) -> float:
    """Return the operations of looking at all images after short runs; gradients cost three looks."""
    looks = {"short runs": runs, "half runs": 2 * runs}.get(pruner(name).needs, 0)
    times = TRAINED if name == "grand" else 1
    return times * looks * len(labelled) * forward_flops(encoder)


def halves(key: int, count: int, pairs: int) -> np.ndarray:
    """Return random halves of `count` images, each followed by the other half: [2 pairs, count], bool."""
    order = np.argsort(uniforms(derive(key, np.arange(pairs))[:, None], np.arange(count)[None]), axis=1)
    seen = np.argsort(order, axis=1) < (count + 1) // 2
    return np.stack([seen, ~seen], axis=1).reshape(2 * pairs, count)


def forgotten(run: Run, encoder: ImageEncoder, labelled: ImageSet, settings: Supervised) -> np.ndarray:
    """Train a copy of `encoder`, and return how often each image was unlearned; within a stage.

    An image is looked at when it is trained on, as Toneva et al. 2019 do, so that all must be.
    """
    settings = _on_all(settings)
    if settings.steps * settings.batch < len(labelled):
        warnings.warn(
            f"The full run of {settings.steps} steps of {settings.batch} images does not see all "
            f"{len(labelled):,}. Those it does not see count as never learned and are kept first: give it "
            "more steps.",
            stacklevel=2,
        )
    classifier = new_classifier(encoder, labelled, run.key("full run", "heads"))
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


def _on_all(settings: Supervised) -> Supervised:
    return replace(settings, held_out=0.0)
