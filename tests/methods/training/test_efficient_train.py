"""What is particular to EfficientTrain: what is seen at each step, its cost, controls, resuming, search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.low_frequency import area_crop, low_freq_crop
from selfstudy.data.rand_augment import RandAugment
from selfstudy.data.views import ImageViews
from selfstudy.evaluation.scores import Measured
from selfstudy.learning.curriculum import Stage
from selfstudy.learning.supervised import Seen, Supervised, train_classifier
from selfstudy.methods.training import efficient_train as module
from selfstudy.methods.training.efficient_train import EfficientTrain
from selfstudy.models.encoders.flops import forward_flops
from selfstudy.tasks.images import ImageTask

PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK = Supervised(steps=10, batch=8, views=PLAIN)
MODEL = "conv?first=4&stages=2"
STILL = RandAugment(operations=0)


def task() -> ImageTask:
    return selfstudy.task("digits?labels=40&train=100&test=40")


def fit(folder: Path, made: ImageTask, model: str = MODEL, **fields: Any) -> Fit:
    method = EfficientTrain(**{"training": QUICK, "bands": (4, 4, 6, 6, 8), **fields})
    method.validate()
    with Run(folder, {}) as run:
        return method.fit(made.metered(run.meter), made.prepared(selfstudy.model(model)), run)


def weights(found: Fit) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in found.model.state_dict().values()])


def seen_by(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Note the side and the magnitude of every training step from now on."""
    seen: list[tuple[int, float]] = []
    views = EfficientTrain.views

    def noted(self: EfficientTrain, stage: Stage) -> Any:
        def made(images: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
            found = views(self, stage)(images, keys)
            seen.append((found.shape[-1], stage.magnitude))
            return found

        return made

    monkeypatch.setattr(EfficientTrain, "views", noted)
    return seen


RISING = (1.0, 1.0, 3.0, 3.0, 5.0, 5.0, 7.0, 7.0, 9.0, 9.0)
LOW_FIRST = (4, 4, 4, 4, 6, 6, 6, 6, 8, 8)
ARMS = {
    "both": [*zip(LOW_FIRST, RISING, strict=True)],
    "bands": [(band, 9.0) for band in LOW_FIRST],
    "augmentation": [(8, magnitude) for magnitude in RISING],
    "none": [(8, 9.0)] * 10,
}


@pytest.mark.parametrize("curriculum", ARMS)
def test_what_is_seen(curriculum: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: five stages of two steps, and what stands still as in the last of them."""
    seen = seen_by(monkeypatch)
    fit(tmp_path, task(), curriculum=curriculum)
    assert seen == ARMS[curriculum]


def test_stages_of_equal_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: a step on 4 pixels costs a quarter of one on 8, so four times as many of them."""
    seen = seen_by(monkeypatch)
    fit(tmp_path, task(), bands=(4, 8), magnitudes=(1.0, 9.0), equal="cost")
    assert seen == [(4, 1.0)] * 8 + [(8, 9.0)] * 2


def test_a_view_is_augmented_before_it_is_cropped() -> None:
    """Oracle: the crop of the augmented view of whole images; with "area" means of pixels."""
    images = task().labelled.pixels(slice(8))
    keys = np.arange(8, dtype=np.uint64)
    method = EfficientTrain(augmentation=RandAugment(probability=1.0))
    whole = method.augmentation(method.training.views(images, keys), keys, 9.0)
    assert torch.equal(method.views(Stage(1.0, 4, 9.0))(images, keys), low_freq_crop(whole, 4))
    assert not torch.allclose(whole, images)
    shrunk = EfficientTrain(crop="area", augmentation=method.augmentation)
    assert torch.equal(shrunk.views(Stage(1.0, 4, 9.0))(images, keys), area_crop(whole, 4))


def test_without_curriculum_it_is_plain_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: `train_classifier` with the same settings and the same first head."""
    made = task()
    start = made.prepared(selfstudy.model(MODEL))
    found = fit(tmp_path / "a", made, curriculum="none", augmentation=STILL, smoothing=0.0)
    with Run(tmp_path / "b", {}) as run:
        key = run.key
        monkeypatch.setattr(
            run, "key", lambda *parts: key("heads") if parts == ("supervised", "heads") else key(*parts)
        )
        plain = run.stage("classifier", lambda: train_classifier(run, start, made.labelled, QUICK))
    pairs = zip(found.model.state_dict().values(), plain.state_dict().values(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_loss_with_smoothing_and_mixing() -> None:
    """Oracle: torch's own smoothing; the mixture of two cross-entropies on the mixed images."""
    made = task()
    some = made.labelled.only(slice(8))
    seen = Seen(3, np.arange(8), some.pixels(slice(None)), torch.from_numpy(some.labels))
    method = EfficientTrain(smoothing=0.2)
    classifier = method.classifier_of(made, made.prepared(selfstudy.model(MODEL)), key=1).eval()
    wanted = functional.cross_entropy(classifier(seen.images), seen.labels, label_smoothing=0.2)
    assert torch.allclose(method.losses_of(classifier, 5)(seen)["loss"], wanted)
    mixed = EfficientTrain(smoothing=0.0, mixup=0.8).losses_of(classifier, 5)(seen)["loss"]
    rng = module.generator(5, 3)
    share, order = float(rng.beta(0.8, 0.8)), torch.from_numpy(rng.permutation(8))
    scores = classifier(share * seen.images + (1 - share) * seen.images[order])
    own, other = (functional.cross_entropy(scores, labels) for labels in (seen.labels, seen.labels[order]))
    assert torch.allclose(mixed, share * own + (1 - share) * other, atol=1e-6)


def test_the_mean_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: m <- 0.6 m + 0.4 w by hand after every step, across the changes of band."""
    made, states = task(), []
    losses_of = EfficientTrain.losses_of

    def noted(self: EfficientTrain, classifier: Any, key: int) -> Any:
        losses = losses_of(self, classifier, key)

        def before(seen: Seen) -> Any:
            states.append(classifier.heads["class"].weight.detach().clone())
            return losses(seen)

        return before

    monkeypatch.setattr(EfficientTrain, "losses_of", noted)
    last = fit(tmp_path / "a", made).model.heads["class"].weight
    mean = states[0]
    for state in [*states[1:], last]:
        mean = 0.6 * mean + 0.4 * state
    found = fit(tmp_path / "b", made, average=0.6).model.heads["class"].weight
    assert len(states) == 20
    assert torch.allclose(found, mean, atol=1e-6) and not torch.allclose(found, last, atol=1e-4)


class Cut(Exception):
    """Ends a training."""


def test_resumed_in_the_middle_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a run that was not cut off: after half of stage 3 the same band, and in the end the same
    weights, with a mean of weights and with mixed images."""
    fields: dict[str, Any] = {
        "training": Supervised(steps=20, batch=8, views=PLAIN),
        "bands": (4, 4, 6, 6, 8),
        "average": 0.9,
        "mixup": 0.4,
    }
    whole = fit(tmp_path / "whole", task(), **fields)
    seen = seen_by(monkeypatch)
    augment = RandAugment.__call__

    def cut(self: RandAugment, images: torch.Tensor, keys: np.ndarray, magnitude: float) -> torch.Tensor:
        if len(seen) == 10:
            raise Cut
        return augment(self, images, keys, magnitude)

    method, made = EfficientTrain(**fields), task()
    start = made.prepared(selfstudy.model(MODEL))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Cut):
        patch.setattr(RandAugment, "__call__", cut)
        with Run(tmp_path / "cut", {}, checkpoint_steps=1) as run:
            method.fit(made.metered(run.meter), start, run)
    assert [band for band, _ in seen] == [4] * 8 + [6] * 2
    with Run(tmp_path / "cut", {}, checkpoint_steps=1) as run:
        resumed = method.fit(made.metered(run.meter), start, run)
    assert seen[10] == (6, 5.0) and [band for band, _ in seen[10:]] == [6] * 6 + [8] * 4
    assert torch.equal(weights(whole), weights(resumed))


def test_what_it_costs(tmp_path: Path) -> None:
    """Oracle: what the run's meter counts; convolutions cost as their pixels do."""
    made = task()
    start = made.prepared(selfstudy.model(MODEL))
    method = EfficientTrain(training=QUICK, bands=(4, 4, 4, 6, 8))
    with Run(tmp_path, {}) as run:
        found = method.fit(made.metered(run.meter), start, run)
        spent = run.meter.snapshot()
    cost = method.cost(made, start)
    assert spent["samples"] == cost["samples"] == 80
    assert spent["flops"] == pytest.approx(cost["flops"], rel=1e-12)
    by_pixels = (3 * 4**2 + 6**2 + 8**2) / 5 / 8**2
    assert cost["flops"] == pytest.approx(3 * forward_flops(start) * 80 * by_pixels, rel=1e-12)
    assert found.metrics["cost_by_pixels"] == pytest.approx(by_pixels)
    step, count = method.trial(made, start)
    step()
    assert count == round(10 * by_pixels)


def test_what_it_costs_with_images_held_out(tmp_path: Path) -> None:
    """Oracle: what the run's meter counts: of 40 images 20 are held out, and a batch of 32 is those left."""
    made = task()
    training = Supervised(steps=4, batch=32, views=PLAIN, held_out=0.5)
    with Run(tmp_path, {}) as run:
        method = EfficientTrain(training=training, bands=(4, 4, 6, 6, 8))
        start = made.prepared(selfstudy.model(MODEL))
        method.fit(made.metered(run.meter), start, run)
        spent = run.meter.snapshot()
    cost = method.cost(made, start)
    assert spent["samples"] == cost["samples"] == 80
    assert spent["flops"] == pytest.approx(cost["flops"], rel=1e-12)


def test_defaults_are_the_paper_s() -> None:
    """Oracle: the paper's table, at a batch of 128 where the rate is 1e-3."""
    found = EfficientTrain()
    assert found.magnitudes == (1, 3, 5, 7, 9) and found.smoothing == 0.1
    training = found.training
    assert (training.optimizer, training.weight_decay, training.schedule) == ("adamw", 0.05, "cosine")
    assert training.warmup == pytest.approx(20 / 300, abs=1e-3)
    assert (training.batch, training.learning_rate, training.clip) == (128, 1e-3, 1.0)


def test_vision_transformers_see_whole_patches(tmp_path: Path) -> None:
    """Oracle: bands are multiples of the patch; others are refused with the nearest before any step."""
    found = fit(tmp_path / "a", task(), "vit?patch=2&hidden=8&layers=1&heads=2")
    assert found.metrics["bands"] == "4-4-6-6-8" and torch.isfinite(weights(found)).all()
    with pytest.raises(
        UsageError, match=r"'vit' cannot see images of 6 pixels: give 4 or 8, a multiple of 4"
    ):
        fit(tmp_path / "b", task(), "vit?patch=4&hidden=8&layers=1&heads=2", bands=(4, 4, 6, 8, 8))
    assert not (tmp_path / "b" / "stages").exists()


def test_networks_of_one_size(tmp_path: Path) -> None:
    """Oracle: bands are refused for a perceptron; the augmentation's curriculum is not, of any length."""
    with pytest.raises(UsageError, match="'mlp' takes images of one side alone, 8 pixels"):
        fit(tmp_path / "a", task(), "mlp?hidden=8")
    fields: dict[str, Any] = {"curriculum": "augmentation", "bands": None, "magnitudes": (1.0, 5.0, 9.0)}
    found = fit(tmp_path / "b", task(), "mlp?hidden=8", **fields)
    assert found.metrics["bands"] == "8-8-8"


def test_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: with accuracies made up so that 6 pixels will do and 4 will not, 6 in both stages, which the
    last training takes; resumed, no training is done again; the cost is at most what is said."""
    seen, splits = seen_by(monkeypatch), set()

    def made_up(self: ImageTask, model: Any, *, split: str = "test", limit: int | None = None) -> Measured:
        splits.add(split)
        return Measured((float(min(band for band, _ in seen[-10:]) >= 6),) * 180)

    monkeypatch.setattr(ImageTask, "evaluate", made_up)
    made = task()
    fields: dict[str, Any] = {
        "magnitudes": (1.0, 9.0),
        "bands": None,
        "search_steps": 10,
        "search_candidates": (4, 6),
    }
    found = fit(tmp_path, made, **fields)
    assert found.metrics["bands"] == "6-6" and found.metrics["cost_by_pixels"] == (6 / 8) ** 2
    assert list(found.metrics["tried"]) == ["8-8", "4-8", "6-8", "6-6"]
    assert [band for band, _ in seen] == [8] * 10 + [4] * 5 + [8] * 5 + [6] * 5 + [8] * 5 + [6] * 20
    count = len(seen)
    assert fit(tmp_path, made, **fields).metrics == found.metrics
    assert len(seen) == count and splits == {"validation"}
    method = EfficientTrain(training=QUICK, **fields)
    most = method.cost(made, made.prepared(selfstudy.model(MODEL)))["samples"]
    assert most == 80 * (1 + 1 + 2 * 2) >= 8 * count


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"bands": (4, 8)}, "2 bands and 5 magnitudes"),
        ({"magnitudes": (1.0, 2.0)}, "5 bands and 2 magnitudes"),
        ({"magnitudes": (1.0, 3.0, 5.0, 7.0, 11.0)}, "from 0 to 10"),
        ({"smoothing": 1.0}, "smoothing 1.0"),
        ({"average": 1.0}, "average 1.0"),
        ({"mixup": -1.0}, "mixup -1.0"),
        ({"search_steps": -1}, "search-steps is -1"),
        ({"search_steps": 5, "bands": (4, 4, 6, 6, 8)}, "to be searched for"),
        ({"search_steps": 5, "curriculum": "none"}, "to be searched for"),
        ({"average": 0.9, "training": Supervised(held_out=0.1)}, "held-out"),
        ({"augmentation": RandAugment(operations=-1)}, "operations"),
        ({"training": Supervised(steps=0)}, "steps"),
    ],
)
def test_bad_fields(wrong: dict[str, Any], word: str) -> None:
    """Oracle: each is named in one paragraph."""
    with pytest.raises(UsageError, match=word):
        EfficientTrain(**wrong).validate()


def test_odd_bands_are_said(tmp_path: Path) -> None:
    """Oracle: a warning, and the even bands in the metrics."""
    with pytest.warns(UserWarning, match="Odd bands are rounded down"):
        found = fit(tmp_path, task(), bands=(5, 5, 7, 7, 8))
    assert found.metrics["bands"] == "4-4-6-6-8"


def test_small_images_are_seen_whole(tmp_path: Path) -> None:
    """Oracle: a warning, and the whole side in the metrics."""
    with pytest.warns(UserWarning, match="Images of 8 pixels are small"):
        found = fit(tmp_path, task(), bands=None)
    assert found.metrics["bands"] == "8-8-8-8-8"


def test_a_search_needs_validation_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: refused before any training."""
    monkeypatch.setattr(ImageTask, "validation", range(0))
    with pytest.raises(DataError, match="has none"):
        fit(tmp_path, task(), bands=None, search_steps=5)
    assert not (tmp_path / "stages").exists()
