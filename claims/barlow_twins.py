"""What Barlow Twins is worth on clothes: Fashion-MNIST, 5,000 unlabelled images and 1,000 labelled ones.

A conv encoder of 23,408 weights is pre-trained for 15 passes in batches of 256, 285 steps, with the same
views and projector for all but what is compared. The classifier from scratch takes as many steps of the same
batch on the labelled images that the linear probes are fitted on. Which images are drawn changes with the
seed, as do first weights. Random initialisation has batch-norm statistics of the unlabelled images. Accuracy
is that on the 10,000 test images.

Chosen on validation images with seed 100, after 8 passes, three to six values or pairs each: rate and lambda
of Barlow Twins (lambda once more for 16 columns), rate and temperature of SimCLR, rate and batch of the
classifier. Then all was run once. Batches of 64 take as many samples, so four times the steps, at a rate in
proportion to the batch. Passes are what a claim of half an hour on one core allows. Both claims read the same
trainings.
"""

from __future__ import annotations

import numpy as np

import selfstudy
from selfstudy.core.run import Run
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.learning.pretraining import Pretraining
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.methods.representation.barlow_twins import BarlowTwins
from selfstudy.methods.representation.isogclr import Isogclr
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.tasks.images import ImageTask

EPOCHS, BATCH, SMALL_BATCH, STEPS = 15, 256, 64, 285
WIDE, NARROW = 256, 16
RATE = 5e-3  # of both methods
REDUNDANCY = {WIDE: 0.005, NARROW: 0.08}
TEMPERATURE = 0.2
FROM_SCRATCH = Supervised(steps=STEPS, batch=BATCH, learning_rate=0.1)
RANDOM, SUPERVISED = "random initialisation", "supervised from scratch on the labelled subset"


def task_of(seed: int) -> ImageTask:
    return selfstudy.task(f"fashion-mnist?labels=1000&train=5000&draw={seed}")


def encoder_of(seed: int) -> ImageEncoder:
    return task_of(seed).prepared(selfstudy.model(f"conv?seed={seed}"))


def plan(batch: int) -> Pretraining:
    return Pretraining(epochs=EPOCHS, batch=batch, learning_rate=RATE, batch_scaling=True)


def accuracy(seed: int, model: object) -> float:
    return float(np.mean(task_of(seed).evaluate(model).values))


def barlow_twins(seed: int, beside: Run, *, width: int = WIDE, batch: int = BATCH) -> float:
    """Return the accuracy of a training; it is kept beside the claims, which share it."""
    method = BarlowTwins(
        projector=(WIDE, width), redundancy_weight=REDUNDANCY[width], pretraining=plan(batch)
    )
    with shared(seed, beside) as run:
        name = f"barlow-twins-{width}-{batch}"
        encoder = run.stage(name, lambda: method.pretrained(task_of(seed).train, encoder_of(seed), run))
    return accuracy(seed, encoder)


def simclr(seed: int, beside: Run, *, batch: int = BATCH) -> float:
    method = Isogclr(
        objective="simclr", temperature=TEMPERATURE, projector=(WIDE, WIDE), pretraining=plan(batch)
    )
    with shared(seed, beside) as run:
        trained = run.stage(
            f"simclr-{batch}", lambda: method.pretrained(task_of(seed), encoder_of(seed), run)
        )
    return accuracy(seed, trained.parts["encoder"])


def baselines(seed: int, beside: Run) -> Values:
    start, labelled = encoder_of(seed), task_of(seed).labelled
    with shared(seed, beside) as run:
        classifier = run.stage("supervised", lambda: train_classifier(run, start, labelled, FROM_SCRATCH))
    return {RANDOM: accuracy(seed, start), SUPERVISED: accuracy(seed, classifier)}


def shared(seed: int, beside: Run) -> Run:
    folder = beside.directory.parents[1] / "trainings" / f"seed-{seed}"
    return Run(folder, {"of": "the claims of barlow-twins"}, seed=seed, progress=beside.progress)


def features_seed(seed: int, run: Run) -> Values:
    """R1 and R2b: over random features; what smaller batches cost is reported."""
    twins, contrastive = barlow_twins(seed, run), simclr(seed, run)
    small, small_contrastive = (f(seed, run, batch=SMALL_BATCH) for f in (barlow_twins, simclr))
    values = baselines(seed, run)
    return {
        "barlow twins": twins,
        "SimCLR": contrastive,
        **values,
        "gain over random initialisation": twins - values[RANDOM],  # type: ignore[operator]
        "barlow twins, batch 64": small,
        "SimCLR, batch 64": small_contrastive,
        "cost of batch 64 to barlow twins": twins - small,
        "cost of batch 64 to SimCLR": contrastive - small_contrastive,
    }


def width_seed(seed: int, run: Run) -> Values:
    """R2: the width of the embedding."""
    widths = {f"width {width}": barlow_twins(seed, run, width=width) for width in (WIDE, NARROW)}
    return {**widths, "SimCLR": simclr(seed, run), **baselines(seed, run)}


CLAIMS = [
    Claim(
        name="R1-features",
        statement="A linear probe on features pre-trained without labels is at least 3 points more accurate "
        "than on those of the same network at random initialisation.",
        seeds=range(5),
        measure=features_seed,
        relations=[Relation("3 points over random features", "gain over random initialisation", 0.03)],
    ),
    Claim(
        name="R2-width",
        statement="At equal steps embeddings of 256 columns give better features than those of 16.",
        seeds=range(5),
        measure=width_seed,
        relations=[Relation("256 columns over 16", f"width {WIDE}", f"width {NARROW}")],
    ),
]
