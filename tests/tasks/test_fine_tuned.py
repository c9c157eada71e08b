"""Fine-tuning on a share of the labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.tasks import fine_tuned as module
from selfstudy.tasks.fine_tuned import FINE_TUNING, fine_tuned


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_labels_and_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: 5 % of 1,258 images is 63 labels of the task's own, six or seven a class, and 20 passes in
    batches of 32 are 39 steps, at the rates of Barlow Twins."""
    task = selfstudy.task("digits?labels=100")
    given: list[tuple[ImageSet, Supervised]] = []
    monkeypatch.setattr(
        module,
        "train_classifier",
        lambda run, encoder, labelled, settings, desc: given.append((labelled, settings)),
    )
    with Run(tmp_path, {}) as run:
        fine_tuned(run, task, task.prepared(selfstudy.model("conv")), 0.05)
    labelled, settings = given[0]
    assert len(labelled) == 63 and settings.steps == 39 and settings.batch == 32
    assert set(np.bincount(labelled.labels)) == {6, 7}
    known = {image.numpy().tobytes() for image in task.labelled.pixels(slice(None))}
    assert all(image.numpy().tobytes() in known for image in labelled.pixels(slice(None)))
    assert (settings.learning_rate, settings.head_learning_rate) == (0.002, 0.5)
    assert settings == Supervised(**{**FINE_TUNING.__dict__, "steps": 39})


def test_a_trained_encoder_is_worth_more(tmp_path: Path) -> None:
    """Oracle: an encoder trained on other labels beats the untrained one by 10 points on validation."""
    many, few = selfstudy.task("digits?labels=600&draw=1"), selfstudy.task("digits?labels=100")
    start = few.prepared(selfstudy.model("conv?first=8&stages=2"))
    figures = {}
    with Run(tmp_path, {}) as run:
        trained = train_classifier(run, start, many.labelled, Supervised(steps=200, batch=32)).encoder
        for name, encoder in (("untrained", start), ("trained", trained)):
            found = run.stage(name, partial(fine_tuned, run, few, encoder, 0.05))
            figures[name] = np.mean(few.evaluate(found, split="validation").values)
    assert figures["trained"] > figures["untrained"] + 0.1


@pytest.mark.parametrize("share", [0.001, 0.2])
def test_shares_that_the_task_does_not_have(share: float, tmp_path: Path) -> None:
    """Oracle: the number of labels asked for, and those that there are, stand in the message."""
    task = selfstudy.task("digits?labels=100")
    with (
        Run(tmp_path, {}) as run,
        pytest.raises(DataError, match=rf"is {round(share * 1258)} labels; it must be from 20.* to the 100"),
    ):
        fine_tuned(run, task, task.prepared(selfstudy.model("conv")), share)
