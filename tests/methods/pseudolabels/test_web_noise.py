"""What is particular to web-noise: images, vectors and texts, its arms, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.app.saving import load
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.evaluation.noise_detection import area_under_curve
from selfstudy.learning import noisy_labels, pretraining
from selfstudy.learning.noisy_step import NoisyTraining
from selfstudy.learning.pretraining import Pretraining
from selfstudy.learning.sample_memory import DetectionRule
from selfstudy.methods.pseudolabels.web_noise import WebNoise
from selfstudy.models.encoders.averaged import AveragedClassifier
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.tasks.noisy_pools import require_noisy

IMAGES, TEXTS = "noisy:digits?train=100&test=40", "noisy:messages?train=200&outside=0&rate=0.3&test=100"
QUICK = {"training": NoisyTraining(epochs=3, batch=32), "detection": DetectionRule(least_noisy=5)}


def fit(folder: Path, spec: Any, model: str, **fields: Any) -> tuple[Fit, Any, dict[str, float]]:
    task = selfstudy.task(spec) if isinstance(spec, str) else spec
    method = WebNoise(**{**QUICK, "start": Pretraining(epochs=1, batch=32), **fields})
    method.validate()
    start = task.prepared(selfstudy.model(model))
    with Run(folder, {}) as run:
        return method.fit(task.metered(run.meter), start, run), task, run.meter.snapshot()


def test_images_from_the_command_line(tmp_path: Path) -> None:
    """Oracle: files of the run: a row for each label, suspects first; a label is given where it is trusted
    and the classifier's own where not; the truth is told by the task."""
    fitted = selfstudy.fit(
        "web-noise",
        task=IMAGES,
        model="conv?first=4&stages=2",
        out=tmp_path / "run",
        start={"epochs": 1, "batch": 32},
        training={"epochs": 3, "batch": 32},
        detection={"least_noisy": 5},
    )
    task = selfstudy.task(IMAGES)
    with (tmp_path / "run/samples/samples.csv").open() as file:
        samples = list(csv.DictReader(file))
    with (tmp_path / "run/labels/labels.csv").open() as file:
        labels = list(csv.DictReader(file))
    assert len(samples) == len(labels) == 100
    doubts = [float(row["suspect"]) for row in samples]
    assert doubts == sorted(doubts, reverse=True)
    noisy = {row["item"] for row in samples if row["is_noisy"] == "yes"}
    classifier = load(tmp_path / "run")
    told = classifier.classify(task.pool.pixels(slice(None))).tolist()
    for place, row in enumerate(labels):
        trusted = row["item"] not in noisy
        assert row["source"] == ("given" if trusted else "pseudo")
        assert row["label"] == task.classes[task.given[place] if trusted else told[place]]
    assert fitted.metrics["suspect_labels"] == len(noisy) and fitted.metrics["labels wrong"] == 0.5
    assert "detection AUC of linear, of no class" in fitted.metrics
    titles = [picture["title"] for picture in fitted.pictures]
    wanted = (
        "Epoch by epoch",
        "Losses of the given labels",
        "Most suspect labels",
        "Images with the most suspect labels",
    )
    assert titles[:4] == list(wanted) and "Area under the curve of each detector" in titles
    assert isinstance(classifier, ImageClassifier) and set(classifier.heads) == {"class"}
    kept = load(tmp_path / "run", "samples")
    assert np.array_equal(kept.suspect, fitted.parts["samples"].suspect) and kept.guesses.shape == (100, 8)


def test_texts_by_a_perceptron(tmp_path: Path) -> None:
    """Oracle: wrong labels, exchanged by the task, are more suspect than others; the encoder stays as it is;
    the classifier reads texts."""
    fitted, task, spent = fit(
        tmp_path / "run",
        TEXTS,
        "words?width=32",
        training=NoisyTraining(epochs=12, batch=32, warmup_epochs=3),
    )
    wrong = task._truth != task.given
    assert area_under_curve(fitted.parts["samples"].suspect, wrong) > 0.8
    assert isinstance(fitted.model, FeatureClassifier)
    assert np.mean(task.evaluate(fitted.model).values) > 0.6
    assert set(fitted.model.predict(["my card was charged twice", "the seam is broken"])) <= set(task.classes)
    encoder = task.prepared(selfstudy.model("words?width=32"))
    assert torch.equal(fitted.model.encoder.directions, encoder.directions)
    assert spent["samples"] == 12 * 7 * 32 and "images" not in [p["title"].lower() for p in fitted.pictures]


def test_two_networks(tmp_path: Path) -> None:
    """Oracle: the mean of two classifiers that differ, twice the samples, and the same from its folder."""
    fitted, task, spent = fit(tmp_path / "run", IMAGES, "conv?first=4&stages=2", co_train=True)
    assert isinstance(fitted.model, AveragedClassifier)
    first, second = (member.scores(task.pool.pixels(slice(8))) for member in fitted.model.members)
    assert not torch.allclose(first, second)
    fitted.model.save(tmp_path / "model")
    again = AveragedClassifier.load(tmp_path / "model")
    assert task.evaluate(again).values == task.evaluate(fitted.model).values
    assert spent["samples"] == 2 * 3 * 4 * 32 + 96  # and three batches of the start


@pytest.mark.parametrize(
    ("spec", "model", "fields"),
    [
        (IMAGES, "conv?first=4&stages=2", {}),
        (IMAGES, "conv?first=4&stages=2", {"co_train": True, "simclr": False}),
        (IMAGES, "flat", {"hidden": (16, 8)}),
        (TEXTS, "words?width=16", {"detection": DetectionRule(detectors=())}),
    ],
)
def test_the_cost_is_told_before(
    spec: str, model: str, fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: what the meter says after, and a count of all batches that are drawn; the trial leaves the
    start alone and counts its steps."""
    drawn = []
    for module, name in ((noisy_labels, "epoch_batch"), (pretraining, "epoch_indices")):
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, own=own: drawn.append(len(own(*a))) or own(*a))
    task = selfstudy.task(spec)
    start = task.prepared(selfstudy.model(model))
    method = WebNoise(**{**QUICK, "start": Pretraining(epochs=1, batch=32), **fields})
    before = {name: value.clone() for name, value in start.state_dict().items()}
    step, steps = method.trial(task, start)
    step()
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    expected = method.cost(task, start)
    _, _, spent = fit(tmp_path / "run", spec, model, **fields)
    assert spent["samples"] == expected["samples"] == sum(drawn)
    assert spent["flops"] == pytest.approx(expected["flops"])
    noisy = sum(drawn) - 96 * (model.startswith("conv") and fields.get("simclr", True))
    assert steps * 32 == noisy


def test_without_detectors_nothing_is_suspect(tmp_path: Path) -> None:
    """Oracle: every label is given and there is no judgement of any."""
    fitted, task, _ = fit(
        tmp_path / "run", IMAGES, "conv?first=4&stages=2", detection=DetectionRule(detectors=())
    )
    table = fitted.parts["labels"]
    assert set(fitted.parts) == {"labels"} and table.suspect is None and set(table.sources) == {"given"}
    assert np.array_equal(table.labels, task.given)


def test_own_vectors_with_gaps(tmp_path: Path) -> None:
    """Oracle: a file with wrong labels made here, and items without any, which get a predicted one."""
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 3
    features = rng.normal(size=(400, 6)) + 4 * np.eye(3, 6)[truth]
    labels = np.array(["red", "green", "blue"])[truth]
    wrong = np.arange(400) % 7 == 0
    labels[wrong] = np.array(["green", "blue", "red"])[truth[wrong]]
    labels[::5] = ""
    np.savez(tmp_path / "own.npz", features=features, labels=labels)
    fitted, task, _ = fit(
        tmp_path / "run",
        f"pool:vectors:{tmp_path / 'own.npz'}?labels=0",
        "flat",
        training=NoisyTraining(epochs=15, batch=32, warmup_epochs=3),
    )
    table = fitted.parts["labels"]
    without = task.given == UNKNOWN
    assert {source for source, gap in zip(table.sources, without, strict=True) if gap} == {"predicted"}
    assert without.any() and not table.suspect[without].any()
    rows = {row.tobytes(): place for place, row in enumerate(features.astype(np.float32))}
    places = np.array([rows[row.tobytes()] for row in task.pool.values])  # type: ignore[union-attr]
    assert area_under_curve(table.suspect[~without], wrong[places[~without]]) > 0.9


def test_own_images(tmp_path: Path) -> None:
    """Oracle: a folder made here; files in the wrong folder are named in the table of suspects."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(120):
        bright = number % 2
        folder = (
            tmp_path / "photos" / (("dark", "light")[bright] if number % 10 else ("light", "dark")[bright])
        )
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 90, (8, 8, 3)) + 160 * bright
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    fitted, _, _ = fit(
        tmp_path / "run",
        f"pool:images:{tmp_path / 'photos'}?labels=0&size=8",
        "conv?first=4&stages=2",
        training=NoisyTraining(epochs=12, batch=16, warmup_epochs=3),
    )
    table = fitted.parts["samples"]
    wrong = np.array([int(Path(name).stem) % 10 == 0 for name in table.ids])
    assert "/" in table.ids[0] and area_under_curve(table.suspect, wrong) > 0.9


def test_items_of_one_name_are_refused() -> None:
    """Oracle: the name that occurs twice."""
    task = selfstudy.task(IMAGES)
    task.ids = ("same", *task.ids[1:99], "same")
    with pytest.raises(DataError, match="'same'"):
        require_noisy(task)


def test_a_single_class_is_refused() -> None:
    """Oracle: the number of classes."""
    task = selfstudy.task(IMAGES)
    task.classes = ("only",)
    with pytest.raises(DataError, match="1 classes"):
        require_noisy(task)


@pytest.mark.parametrize(
    "fields",
    [{"projection": 0}, {"hidden": ()}, {"hidden": (0,)}, {"stage": "stage9"}],
)
def test_fields_that_cannot_be(fields: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: the field, before anything is trained."""
    with pytest.raises(UsageError, match=next(iter(fields))):
        fit(tmp_path / "run", IMAGES, "conv?first=4&stages=2", simclr=False, **fields)


def test_the_configuration_is_plain_data() -> None:
    """Oracle: JSON there and back."""
    from selfstudy.core.config import from_dict, to_dict

    method = WebNoise(detection=DetectionRule(detectors=("loss",)), hidden=(4, 4), stage="stage1")
    assert from_dict(WebNoise, json.loads(json.dumps(to_dict(method)))) == method
