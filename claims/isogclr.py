"""What iSogCLR is worth on long-tailed clothes: Fashion-MNIST at 14 x 14, 4,196 images without labels.

1,500 are of the most frequent class and 30 of the rarest; which class is which changes with the seed. Pixels
are averaged by fours, so that 30 passes (960 steps of 128 images, Adam at 1e-3, a conv encoder of 23,408
weights) fit a claim of half an hour on one core. All contestants have the same steps; the classifier from
scratch takes them on the 500 labelled images, 50 a class, that the probes are fitted on. Accuracy is that on
10,000 test images, 1,000 a class.

rho and the best temperature of SimCLR were chosen on validation images with seeds 100 and 101, then all was
run once. All claims read the same trainings. The paper trains for 400 passes.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

import selfstudy
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.data.long_tail import long_tail
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.learning.parts import Parts
from selfstudy.learning.pretraining import Pretraining
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.learning.temperatures import TemperatureLearning
from selfstudy.methods.representation.isogclr import Isogclr
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.tasks.images import ImageTask, labelled_subset

SET, TAIL, IMAGES, LABELS = "fashion-mnist", 0.02, 4196, 500
SHARED = 0.2  # the temperature that nobody chose
GRID = (0.07, 0.1, SHARED, 0.5)
BEST = 0.07  # of SimCLR, on validation images
RHO = 0.2
EPOCHS = 30
STEPS = 960
MARGIN = 0.005


def halved(images: ImageSet) -> ImageSet:
    """Return the images with half as many pixels each way, means of four."""
    count, channels, height, width = images.images.shape
    fours = images.images.reshape(count, channels, height // 2, 2, width // 2, 2)
    pixels = np.round(fours.mean((3, 5))).astype(np.uint8)
    return ImageSet(images.name, pixels, images.labels, images.classes)


@functools.cache
def splits() -> dict[str, ImageSet]:
    return {name: halved(images) for name, images in image_splits(SET).items()}


def unlabelled(seed: int) -> ImageSet:
    """Return what is trained on, with the labels that training never sees."""
    train = splits()["train"]
    return train.only(long_tail(train.labels, TAIL, draw=seed, total=IMAGES))


def task_of(seed: int) -> ImageTask:
    name = f"{SET} at 14 x 14, tail {TAIL}, draw {seed}"
    labelled = labelled_subset(splits()["train"], LABELS, seed)
    return ImageTask(name, {**splits(), "train": unlabelled(seed)}, labelled)


def encoder_of(seed: int) -> ImageEncoder:
    return task_of(seed).prepared(selfstudy.model(f"conv?seed={seed}"))


def method(objective: Any, temperature: float, rho: float = RHO) -> Isogclr:
    return Isogclr(
        objective=objective,
        temperature=temperature,
        individual=TemperatureLearning(rho=rho),
        pretraining=Pretraining(epochs=EPOCHS, batch=128, learning_rate=1e-3),
    )


def trained(seed: int, beside: Run, chosen: Isogclr) -> Parts:
    """Return what a training gives; it is kept beside the claims, which share it."""
    folder = beside.directory.parents[1] / "trainings" / f"seed-{seed}"
    name = f"{chosen.objective}-{chosen.temperature}-{chosen.individual.rho}"
    with Run(folder, {"of": "the claims of isogclr"}, seed=seed) as run:
        return run.stage(name, lambda: chosen.pretrained(task_of(seed), encoder_of(seed), run))


def accuracy(seed: int, beside: Run, chosen: Isogclr, split: str = "test") -> float:
    encoder = trained(seed, beside, chosen).parts["encoder"]
    return float(np.mean(task_of(seed).evaluate(encoder, split=split).values))


def mechanism_seed(seed: int, run: Run) -> Values:
    """R1: temperatures by class."""
    from scipy.stats import spearmanr

    labels = unlabelled(seed).labels
    found = trained(seed, run, method("isogclr", SHARED)).parts["temperatures"].by_input
    sizes = np.bincount(labels)
    means = np.array([found[labels == label].mean() for label in range(len(sizes))])
    order = np.argsort(sizes)
    correlation = float(spearmanr(sizes, means).statistic)
    return {
        "the 3 most frequent classes": float(means[order[-3:]].mean()),
        "the 3 rarest classes": float(means[order[:3]].mean()),
        "rank correlation of size and temperature": correlation,
        "seeds in which it is positive": float(correlation > 0),
    }


def utility_seed(seed: int, run: Run) -> Values:
    """R2: accuracy of a linear probe."""
    task, start = task_of(seed), encoder_of(seed)
    plan = Supervised(steps=STEPS, batch=128)
    classifier = run.stage("supervised", lambda: train_classifier(run, start, task.labelled, plan))
    values: Values = {
        "random initialisation": float(np.mean(task.evaluate(start).values)),
        "supervised from scratch on the labelled subset": float(np.mean(task.evaluate(classifier).values)),
        "isogclr": accuracy(seed, run, method("isogclr", SHARED)),
        "SogCLR": accuracy(seed, run, method("sogclr", SHARED)),
    }
    for temperature in GRID:
        values[f"SimCLR at {temperature}"] = accuracy(seed, run, method("simclr", temperature))
    values["isogclr plus half a point"] = values["isogclr"] + MARGIN  # type: ignore[operator]
    return values


def sensitivity_seed(seed: int, run: Run) -> Values:
    """R3: how far accuracies lie apart over where temperatures begin."""
    values: Values = {}
    for name, objective in (("isogclr", "isogclr"), ("SimCLR", "simclr")):
        found = {at: accuracy(seed, run, method(objective, at)) for at in (0.07, SHARED, 0.5)}
        values |= {f"{name} at {at}": figure for at, figure in found.items()}
        values[f"range of {name}"] = max(found.values()) - min(found.values())
    return values


CLAIMS = [
    Claim(
        name="R1-temperatures",
        statement="Without labels, images of frequent classes come to higher temperatures than those of rare "
        "ones: the mean of the 3 most frequent classes is above that of the 3 rarest, and the rank "
        "correlation of a class's size and temperature is positive in every seed.",
        seeds=range(5),
        measure=mechanism_seed,
        relations=[
            Relation("frequent over rare", "the 3 most frequent classes", "the 3 rarest classes"),
            Relation("every seed", "seeds in which it is positive", 0.999),
        ],
        share=False,
    ),
    Claim(
        name="R2-accuracy",
        statement="At one temperature that nobody chose (0.2) a linear probe is better on features of "
        "iSogCLR than on those of SogCLR and SimCLR, and less than half a point worse than on those of "
        "SimCLR at its best temperature.",
        seeds=range(5),
        measure=utility_seed,
        relations=[
            Relation("over SimCLR", "isogclr", f"SimCLR at {SHARED}"),
            Relation("over SogCLR", "isogclr", "SogCLR"),
            Relation("near the best SimCLR", "isogclr plus half a point", f"SimCLR at {BEST}"),
        ],
    ),
    Claim(
        name="R3-sensitivity",
        statement="The accuracy of iSogCLR depends less on where its temperatures begin (0.07, 0.2, 0.5) "
        "than that of SimCLR on its temperature.",
        seeds=range(5),
        measure=sensitivity_seed,
        relations=[Relation("smaller range", "range of SimCLR", "range of isogclr")],
    ),
]
