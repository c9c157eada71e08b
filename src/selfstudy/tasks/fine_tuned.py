"""Fine-tuning on a share of the labels: what an encoder is worth when all its weights may still move."""

from __future__ import annotations

from dataclasses import replace

from selfstudy.core.errors import DataError
from selfstudy.core.run import Run
from selfstudy.learning.loops import step_count
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.tasks.images import ImageTask, labelled_subset

# As Barlow Twins is evaluated (Zbontar et al. 2021, section 3.2): 20 passes, a small rate for the encoder and
# a large one for the head; there in batches of 256.
FINE_TUNING = Supervised(batch=32, learning_rate=0.002, head_learning_rate=0.5, weight_decay=0.0)
EPOCHS = 20.0


def fine_tuned(
    run: Run,
    task: ImageTask,
    encoder: ImageEncoder,
    share: float,
    *,
    settings: Supervised = FINE_TUNING,
    epochs: float = EPOCHS,
    draw: int = 0,
) -> ImageClassifier:
    """Train a copy of `encoder` and a linear head on a share of the labels; within a stage of its own.

        classifier = run.stage("1 %", lambda: fine_tuned(run, task, encoder, 0.01))
        measured = task.evaluate(classifier)

    Args:
        run: within a stage of its own.
        task: whose labelled subset the labels are taken from, of each class as many as of the others.
        encoder: pre-trained, or not, to compare with.
        share: of the training images; 0.01 of 10,000 is 100 labels.
        settings: rates and batches; `epochs` says how many steps.
        epochs: passes over those labels.
        draw: names which of the labels.

    Raises:
        DataError: the task has fewer labels, or the share is less than two a class.
    """
    count, least = round(share * len(task.train)), 2 * len(task.classes)
    if not least <= count <= len(task.labelled) or not least:
        raise DataError(
            f"{share:.3g} of the {len(task.train):,} training images of {task.name!r} is {count} labels; it "
            f"must be from {least}, two a class, to the {len(task.labelled)} that the task has labels of. "
            "Give the task more labels, or take another share."
        )
    labelled = labelled_subset(task.labelled, count, draw)
    steps = step_count(count, min(settings.batch, count), epochs)
    return train_classifier(run, encoder, labelled, replace(settings, steps=steps), desc=f"fine-tune-{share}")
