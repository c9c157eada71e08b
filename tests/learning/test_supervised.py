"""Training classifiers on labels: what moves, in what order, and which weights are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.data.views import ImageViews
from selfstudy.learning import supervised
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.convolution import ConvEncoder

OpenRun = Callable[..., Run]
PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK = Supervised(steps=12, batch=8, views=PLAIN)


def some(count: int = 60) -> ImageSet:
    return image_splits("digits")["train"].only(slice(count))


def encoder(images: ImageSet) -> ConvEncoder:
    return ConvEncoder(first=4, stages=2).made_for(images)


def equal(one: ImageClassifier, other: ImageClassifier) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns_and_leaves_the_start_alone(tmp_path: Path) -> None:
    """Oracle: over 95 % of the images it was trained on after 30 passes; the first encoder is unchanged."""
    images = some()
    start = encoder(images)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    with Run(tmp_path, {}) as run:
        found = train_classifier(run, start, images, replace(QUICK, steps=225))
    told = found.classify(images.pixels(slice(None))).numpy()
    assert (told == images.labels).mean() > 0.95 and found.classes == images.classes
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_one_step_by_hand(open_run: OpenRun) -> None:
    """Oracle: Nesterov's first step, p - lr (1 + 0.9) (g + decay p) with matrices alone decayed, at the rates
    of encoder and head."""
    images = some(8)
    settings = replace(
        QUICK, steps=1, learning_rate=0.1, head_learning_rate=0.5, weight_decay=0.01, optimizer="sgd"
    )
    run = open_run()
    found = train_classifier(run, encoder(images), images, settings)
    start = ImageClassifier(
        encoder(images), images.classes, {"class": 10}, key=run.key("supervised", "heads")
    ).train()
    at = run.rng("supervised", "order", 0).permutation(8)
    loss = torch.nn.functional.cross_entropy(start(images.pixels(at)), torch.from_numpy(images.labels[at]))
    loss.backward()
    for name, weight in start.named_parameters():
        rate, decay = 0.5 if name.startswith("heads") else 0.1, 0.01 if weight.ndim > 1 else 0.0
        by_hand = weight - rate * 1.9 * (weight.grad + decay * weight)  # type: ignore[operator]
        assert torch.allclose(found.get_parameter(name), by_hand, atol=1e-6), name


def test_the_schedule_of_two_drops() -> None:
    """Oracle: a tenth from one half of the steps, a hundredth from three quarters."""
    plan = Supervised(steps=8, schedule="steps")
    assert [round(plan.share(step), 6) for step in range(8)] == [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_cut_off_and_resumed(held_out: float, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the run that was not cut off: weights and log, bit by bit."""
    images, settings = some(), replace(QUICK, held_out=held_out, looks=4)
    whole = open_run("whole")
    wanted = train_classifier(whole, encoder(images), images, settings)
    log = [{k: v for k, v in line.items() if k != "seconds"} for line in whole.metrics()]
    draw = supervised.batch_indices

    def cut(run: Run, name: str, step: int, *sizes: int) -> np.ndarray:
        if step == 7:
            raise KeyboardInterrupt
        return draw(run, name, step, *sizes)

    monkeypatch.setattr(supervised, "batch_indices", cut)
    with pytest.raises(KeyboardInterrupt):
        train_classifier(open_run("cut"), encoder(images), images, settings)
    monkeypatch.setattr(supervised, "batch_indices", draw)
    again = open_run("cut")
    assert equal(train_classifier(again, encoder(images), images, settings), wanted)
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in again.metrics()] == log


def test_held_out_images_choose_the_weights(open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: accuracies given by hand: the weights of the last best look come back, and no held-out image is
    trained on."""
    images, seen, kept = some(40), [], []
    accuracies = iter([0.5, 0.75, 0.75, 0.25])

    def classify(self: ImageClassifier, pixels: torch.Tensor, mode: Any = None) -> torch.Tensor:
        kept.append({name: value.clone() for name, value in self.state_dict().items()})
        held = [int((images.pixels(slice(None)) == pixel).flatten(1).all(1).nonzero()[0]) for pixel in pixels]
        seen.append(held)
        right = round(next(accuracies) * len(held))
        labels = torch.from_numpy(images.labels[held])
        return torch.where(torch.arange(len(held)) < right, labels, labels + 1)

    monkeypatch.setattr(ImageClassifier, "classify", classify)
    drawn: list[torch.Tensor] = []

    def views(self: ImageViews, pixels: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
        drawn.append(pixels)
        return pixels

    monkeypatch.setattr(ImageViews, "__call__", views)
    settings = replace(QUICK, held_out=0.2, looks=4)
    found = train_classifier(open_run(), encoder(images), images, settings)
    assert all(torch.equal(value, kept[2][name]) for name, value in found.state_dict().items())
    held = images.pixels(np.array(seen[0]))
    assert len(held) == 8 and all(look == seen[0] for look in seen)
    trained = torch.cat(drawn)
    assert not (trained[:, None] == held[None]).flatten(2).all(2).any()


def test_the_meter_counts_images_and_operations(open_run: OpenRun) -> None:
    """Oracle: 12 steps of 8 images, three forward passes each; a set smaller than a batch is taken whole."""
    run, images = open_run(), some()
    train_classifier(run, encoder(images), images, QUICK)
    spent = run.meter.snapshot()
    assert spent["samples"] == 96 and spent["flops"] == 3 * 96 * 2 * (9 * 1 * 4 * 64 + 9 * 4 * 8 * 16)
    run, few = open_run("few"), some(5)
    train_classifier(run, encoder(few), few, QUICK)
    assert run.meter.snapshot()["samples"] == 12 * 5


def test_labels_that_cannot_be_trained_on(open_run: OpenRun) -> None:
    """Oracle: the first wrong label and where it is; a set without labels names a method that needs none."""
    images = some(20)
    labels = images.labels.copy()
    labels[[3, 9]] = 10, -1
    with pytest.raises(DataError, match=r"The label 10 of image 3 .* from 0 to 9\. It is one of 2"):
        train_classifier(open_run(), encoder(images), replace(images, labels=labels), QUICK)
    with pytest.raises(DataError, match="barlow-twins"):
        train_classifier(open_run(), encoder(images), replace(images, classes=()), QUICK)
    with pytest.raises(DataError, match="leaves none of 20"):
        train_classifier(open_run(), encoder(images), images, replace(QUICK, held_out=0.99))


def test_a_loss_that_is_not_finite(open_run: OpenRun) -> None:
    """Oracle: the step and the rate stand in the message."""
    images = some(20)
    with pytest.raises(DataError, match=r"is (nan|inf) at step \d+. Lower the learning rate \(1e\+30\)"):
        train_classifier(open_run(), encoder(images), images, replace(QUICK, learning_rate=1e30))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"held_out": 1.0}, {"weight_decay": -1.0}]
)
def test_settings_that_cannot_be_right(wrong: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: the field stands in the message."""
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "[-_]")):
        Supervised(**wrong).validate()
