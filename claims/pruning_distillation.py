"""What a teacher is worth to students of a part of the data: Fashion-MNIST, 10,000 labelled images pruned.

A teacher, a perceptron of two layers of 256 with its head, is trained on all 10,000 images for 2,000 steps of
64; students of the same network are trained on what is kept for 1,000 steps of 64, whatever the fraction. All
take AdamW at a peak rate of 2e-3 that falls along a cosine, a shift of up to two pixels and mirror images;
the teacher is asked about the very view that the student sees, at a temperature of 2. EL2N is the mean over
two runs of 300 steps on all images, two passes each. Students of one seed have the same first weights, and
those of one fraction and pruner the same images, order and views; every class keeps its share. Images and
first weights change with the seed. Accuracy is that on the 10,000 test images, by the last weights; the best
weight of the teacher is read off the 5,000 validation images. The teacher's training counts once and is not
in the students' budget: the claims are about the images that a student sees.

Set on validation images with seeds 100 and 101. A conv encoder of 8 channels with an average at its end had
not learned enough in 1,500 steps to teach anything (78 %, its students 67 % at every fraction), so that it
was left. Of the perceptron's students of the labels alone those of 1,200 steps were 1.3 points better than
those of 600 at 25 %, and half a point worse at 5 %; a rate of 1e-3 was level with 2e-3. The fractions, the
weight of 0.75 and the temperature were fixed ahead. Students of 600 steps had not shown that the best weight
falls as more is kept, so that it was reported alone at first; it became a claim, as it was meant to be, when
the trainings of 1,000 steps of the first seeds showed it on their validation images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

import selfstudy
from selfstudy.core.run import Run
from selfstudy.data.pruned import kept_places
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.learning.pruned_distillation import train_student
from selfstudy.learning.pruning_evidence import pruning_scores
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.signals.teachers import FixedTeacher
from selfstudy.tasks.images import ImageTask

IMAGES, NOISE = 10_000, 0.2
FRACTIONS, PRUNERS, TAUGHT = (0.05, 0.1, 0.25), ("random", "el2n"), 0.75
GRID, ENDS = (0.0, 0.25, 0.5, 0.75, 1.0), (0.05, 0.5)
WIDTH, OTHER_WIDTHS = 256, (128, 512)  # of both layers: of student and teacher, and of other teachers
TEMPERATURE, HALF_POINT = 2.0, 0.005
SHORT = Supervised(steps=300, optimizer="adamw", learning_rate=2e-3)
STUDENT = Supervised(steps=1000, optimizer="adamw", learning_rate=2e-3)
TEACHER = Supervised(steps=2000, optimizer="adamw", learning_rate=2e-3)
SPLITS = ("validation", "test")


class Arm(NamedTuple):
    """A student."""

    pruner: str
    fraction: float
    alpha: float
    teacher: int = WIDTH


COMPARED = [Arm(*arm) for arm in itertools.product(PRUNERS, FRACTIONS, (0.0, TAUGHT))]
ON_GRID = [Arm("random", fraction, alpha) for fraction, alpha in itertools.product(ENDS, GRID)]
CAPACITY = [Arm("random", ENDS[0], TAUGHT, width) for width in OTHER_WIDTHS]
NOISY = [Arm("random", fraction, alpha) for fraction, alpha in itertools.product(FRACTIONS, (0.0, TAUGHT))]


def reached(
    task: ImageTask, seed: int, run: Run, arms: Iterable[Arm], splits: tuple[str, ...]
) -> dict[Arm, dict[str, float]]:
    """Return the accuracies of students by split; every training is a stage of its own."""
    labelled, classes = task.labelled, task.classes

    def encoder(width: int) -> ImageEncoder:
        return task.prepared(selfstudy.model(f"mlp?hidden={width}&seed={seed}"))

    def accuracies(network: ImageClassifier) -> dict[str, float]:
        return {split: float(np.mean(task.evaluate(network, split=split).values)) for split in splits}

    def student(arm: Arm) -> dict[str, float]:
        found = train_student(
            run,
            encoder(WIDTH),
            labelled,
            STUDENT,
            teacher=FixedTeacher(teachers[arm.teacher], classes) if arm.alpha else None,
            alpha=arm.alpha,
            temperature=TEMPERATURE,
            places=kept_places(scores[arm.pruner], labelled.labels, arm.fraction),
        )
        return accuracies(found)

    arms = list(dict.fromkeys(arms))
    teachers = {
        width: run.stage(
            f"teacher-{width}", partial(train_classifier, run, encoder(width), labelled, TEACHER)
        )
        for width in dict.fromkeys(arm.teacher for arm in arms)
    }
    scores = {"random": run.rng("random pruning").random(len(labelled))}
    if any(arm.pruner == "el2n" for arm in arms):
        scores["el2n"] = pruning_scores(
            run, "el2n", encoder(WIDTH), labelled, short=SHORT, full=TEACHER, runs=2
        )
    found = {arm: run.stage("-".join(map(str, arm)), partial(student, arm)) for arm in arms}
    known = run.stage("teacher", lambda: accuracies(teachers[WIDTH]))
    return {**found, Arm("", 1.0, 0.0): known}


def trainings(
    seed: int, beside: Run, *, noise: float = 0.0, splits: tuple[str, ...] = SPLITS
) -> dict[Arm, dict[str, float]]:
    """Return what `reached` does, kept beside the claims, which share it."""
    drawn = f"fashion-mnist?labels={IMAGES}&train=0&draw={seed}"
    task = selfstudy.task(f"{drawn}&noise={noise}" if noise else drawn)
    folder = beside.directory.parents[1] / ("noisy" if noise else "trainings") / f"seed-{seed}"
    with Run(folder, {}, seed=seed) as run:
        return reached(task, seed, run, NOISY if noise else [*COMPARED, *ON_GRID, *CAPACITY], splits)


def named(arm: Arm) -> str:
    """Return the name of a student."""
    return f"{arm.pruner}, {arm.fraction:.0%} kept, {'with the teacher' if arm.alpha else 'labels alone'}"


def gains(seed: int, run: Run) -> Values:
    """A: students with a teacher, and of the labels alone; with wrong labels and other teachers, reported."""
    clean, noisy = trainings(seed, run), trainings(seed, run, noise=NOISE)
    values: Values = {"the teacher": clean[Arm("", 1.0, 0.0)]["test"]}
    for kind, found in (("", clean), (f"{NOISE:.0%} wrong labels, ", noisy)):
        for fraction in FRACTIONS:
            alone, taught = (Arm("random", fraction, alpha) for alpha in (0.0, TAUGHT))
            values |= {f"{kind}{named(arm)}": found[arm]["test"] for arm in (alone, taught)}
            values[f"{kind}{fraction:.0%} kept, gain"] = found[taught]["test"] - found[alone]["test"]
            if not kind:
                values[f"{named(alone)}, plus half a point"] = found[alone]["test"] + HALF_POINT
    for width in sorted((WIDTH, *OTHER_WIDTHS)):
        arm = Arm("random", ENDS[0], TAUGHT, width)
        values[f"{ENDS[0]:.0%} kept, a teacher of {width / WIDTH:g} times the width"] = clean[arm]["test"]
    return values


def choices(seed: int, run: Run) -> Values:
    """B: images drawn by chance, and those of the largest errors."""
    found = trainings(seed, run)
    return {named(arm): found[arm]["test"] for arm in COMPARED}


def weights(seed: int, run: Run) -> Values:
    """C: the accuracy on validation images by weight of the teacher, and the best weight."""
    found = trainings(seed, run)
    values: Values = {}
    for fraction in ENDS:
        right = {alpha: found[Arm("random", fraction, alpha)]["validation"] for alpha in GRID}
        values |= {f"validation, {fraction:.0%} kept, alpha {alpha:g}": right[alpha] for alpha in GRID}
        values[f"best alpha, {fraction:.0%} kept"] = max(GRID, key=right.__getitem__)
    return values


CLAIMS = [
    Claim(
        name="A-a-teacher-of-all",
        statement="A student of 5, 10 or 25 % of the images, drawn by chance, is half a point better with a "
        "teacher that saw all of them, at a weight of 0.75, than with the labels alone.",
        seeds=range(5),
        measure=gains,
        relations=[
            relation
            for fraction in FRACTIONS
            for alone, taught in [[named(Arm("random", fraction, alpha)) for alpha in (0.0, TAUGHT)]]
            for relation in (
                Relation(f"{fraction:.0%} kept", taught, alone),
                Relation(f"{fraction:.0%} kept, by half a point", taught, f"{alone}, plus half a point"),
            )
        ],
    ),
    Claim(
        name="B-chance-is-enough",
        statement="With the teacher, images drawn by chance serve a student of 5 or 10 % better than those "
        "of the largest errors (EL2N).",
        seeds=range(5),
        measure=choices,
        relations=[
            Relation(
                f"{fraction:.0%} kept",
                named(Arm("random", fraction, TAUGHT)),
                named(Arm("el2n", fraction, TAUGHT)),
            )
            for fraction in FRACTIONS[:2]
        ],
    ),
    Claim(
        name="C-less-data-more-teacher",
        statement="The weight of the teacher that is best on validation images is larger for students of 5 % "
        "than of 50 % of the images.",
        seeds=range(5),
        measure=weights,
        relations=[
            Relation("best weight", f"best alpha, {ENDS[0]:.0%} kept", f"best alpha, {ENDS[1]:.0%} kept"),
        ],
        share=False,
    ),
]
