"""What mixed samples are worth beside Barlow Twins, where unlabelled images are few and training is long.

Two sets: 512 digits of 8 x 8 pixels, 200 passes, probed with 100 labels; and 1,024 clothes of 28 x 28
(Fashion-MNIST), 160 passes, probed with 1,000 labels. All contestants start from the same conv encoder of
5,944 weights and see the same images in the same order and the same views; embeddings have length 1 before
their columns are standardised, which on validation digits (seeds 100 and 101) was better than without, for
plain too. Plain is weight 0, which is barlow-twins bit for bit. It gets two budgets: as many steps, and one
and a half times as many, which is as much arithmetic as the mixed passes take. The classifier from scratch
takes as many steps on the labelled images that the probes are fitted on.

Accuracy on test images is that of the last epoch; that of the epoch chosen on validation images, by a probe
every 40 passes, is reported beside it. Decay is how far the last of these probes lies below the best. Set,
size and length of the digits were settled on validation images with seeds 100 and 101, where plain ended up
to 8 points below its best; those of the clothes are the method's usual small check, and were not tuned.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

import selfstudy
from selfstudy.core.run import Run
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.probe_curve import Probed, Probing, decay
from selfstudy.learning.mixing import Mixing
from selfstudy.learning.pretraining import Pretraining
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.methods.representation.mixed_barlow_twins import MixedBarlowTwins
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.tasks.images import ImageTask

MIXED, PLAIN = "mixed", "plain, equal steps"
LONGER, DECAYED = "plain, equal compute", "plain, weight decay"


class Setting(NamedTuple):
    """A set of images and a length of training."""

    task: str
    epochs: int

    def of(self, seed: int) -> tuple[ImageTask, ImageEncoder]:
        """Return a seed's task and untrained encoder."""
        task = selfstudy.task(f"{self.task}&draw={seed}")
        return task, task.prepared(selfstudy.model(f"conv?first=8&seed={seed}"))

    def method(self, name: str) -> MixedBarlowTwins:
        """Return a contestant."""
        weight = 4.0 if name == MIXED else 0.0
        return MixedBarlowTwins(
            mix=Mixing(weight=weight),
            pretraining=Pretraining(
                epochs=self.epochs * (1.5 if name == LONGER else 1),
                weight_decay=1e-3 if name == DECAYED else 1e-6,
            ),
            probing=Probing(every=40),
        )


SETTINGS = {
    "digits": Setting("digits?labels=100&train=512", 200),
    "clothes": Setting("fashion-mnist?labels=1000&train=1024", 160),
}


def trained(setting: Setting, name: str, seed: int, beside: Run) -> Probed:
    """Return what a training gives; it is kept beside the claims, which share it."""
    task, start = setting.of(seed)
    folder = beside.directory.parents[1] / "trainings" / f"{task.train.name}-{seed}"
    config = {"of": "the claims of mixed-barlow-twins"}
    with Run(folder, config, seed=seed, progress=beside.progress) as run:
        return run.stage(name, lambda: setting.method(name).pretrained(task, start, run))


def accuracy(task: ImageTask, model: Any) -> float:
    return float(np.mean(task.evaluate(model).values))


def accuracy_seed(seed: int, run: Run, *, of: str) -> Values:
    """R1: accuracy of a linear probe on test images."""
    setting = SETTINGS[of]
    task, start = setting.of(seed)
    plan = Supervised(steps=setting.method(PLAIN).pretraining.steps(len(task.train)))
    classifier = run.stage("supervised", lambda: train_classifier(run, start, task.labelled, plan))
    values: Values = {
        "random initialisation": accuracy(task, start),
        "supervised from scratch on the labelled subset": accuracy(task, classifier),
    }
    for name in (PLAIN, LONGER, DECAYED, MIXED):
        found = trained(setting, name, seed, run)
        values |= {name: accuracy(task, found.last), f"{name}, chosen epoch": accuracy(task, found.chosen)}
    return values


def decay_seed(seed: int, run: Run, *, of: str) -> Values:
    """R2: how much of its best probe on validation images a training loses."""
    task, _ = SETTINGS[of].of(seed)
    metric, values = task.metric, Values()
    for name in (PLAIN, LONGER, DECAYED, MIXED):
        figures = [look[metric.name] for look in trained(SETTINGS[of], name, seed, run).looks[1:]]
        values |= {f"decay, {name}": decay(figures, metric), f"last look, {name}": figures[-1]}
    return values


CLAIMS = [
    claim
    for of in SETTINGS
    for claim in (
        Claim(
            name=f"R1-accuracy-{of}",
            statement=f"After long training on few images ({of}) the features of the last epoch are better "
            "with mixed samples than without, also where plain Barlow Twins takes as much arithmetic.",
            seeds=range(5),
            measure=partial(accuracy_seed, of=of),
            relations=[
                Relation("over plain at equal steps", MIXED, PLAIN),
                Relation("over plain at equal compute", MIXED, LONGER),
            ],
        ),
        Claim(
            name=f"R2-decay-{of}",
            statement=f"With mixed samples less of the best probe on validation images is lost by the last "
            f"epoch ({of}).",
            seeds=range(5),
            measure=partial(decay_seed, of=of),
            relations=[Relation("decays less", f"decay, {PLAIN}", f"decay, {MIXED}")],
        ),
    )
]
