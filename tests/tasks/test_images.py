"""Tasks of built-in images: what is in which split, whose labels are known, how models are judged."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import stream_key
from selfstudy.data.image_sets import UNKNOWN, ImageSet, image_splits
from selfstudy.data.views import ImageViews, view_keys
from selfstudy.evaluation.collapse import alignment, effective_rank, least_variance, uniformity
from selfstudy.evaluation.embedding_map import SHOWN
from selfstudy.evaluation.probes import linear_probe, nearest_neighbours
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.models.encoders.convolution import ConvEncoder
from selfstudy.tasks.images import RECOGNISED, ImageTask, digits, labelled_subset


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def keys(images: ImageSet) -> list[bytes]:
    return [image.tobytes() for image in images.images]


def encoder(task: ImageTask) -> ConvEncoder:
    return task.prepared(ConvEncoder(first=8, stages=2))


def unlabelled() -> ImageTask:
    splits = {name: images.only(slice(60)) for name, images in image_splits("digits").items()}
    bare = {
        name: ImageSet("bare", images.images, np.full(len(images), UNKNOWN))
        for name, images in splits.items()
    }
    return ImageTask("bare", bare, bare["train"].only(slice(0)))


def test_splits_share_no_image() -> None:
    """Oracle: the pixels of all digits, counted; the labelled images are training images with their label."""
    task = digits()
    held = {split: task._held[split] for split in ("validation", "test")}
    counted = Counter(keys(task.train)) + Counter(keys(held["validation"])) + Counter(keys(held["test"]))
    whole = image_splits("digits")
    assert counted == sum((Counter(keys(whole[split])) for split in whole), Counter())
    assert set(counted.values()) == {1} and sum(counted.values()) == 1797
    assert (len(task.validation), len(task.test)) == (len(held["validation"]), len(held["test"]))
    labels = dict(zip(keys(whole["train"]), whole["train"].labels.tolist(), strict=True))
    assert [labels[key] for key in keys(task.labelled)] == task.labelled.labels.tolist()


def test_labels_are_not_where_a_method_learns() -> None:
    """Oracle: the unlabelled set and all that is made of it hold `UNKNOWN` and no names of classes."""
    task = digits(train=50)
    for images in (
        task.train,
        task.limited(20).train,
        task.train.only(np.arange(3)),
        task.metered(Meter()).train,
    ):
        assert (images.labels == UNKNOWN).all() and images.classes == ()
    assert task.classes == tuple("0123456789") and len(task.limited(20).train) == 20


@pytest.mark.parametrize("labels", [20, 100, 105, 1257])
def test_the_labelled_subset_is_balanced(labels: int) -> None:
    """Oracle: counts of classes differ by one at most, while every class has enough."""
    found = digits(labels=labels).labelled
    counts = np.bincount(found.labels, minlength=10)
    assert counts.sum() == labels == len(set(keys(found)))
    if labels < 1000:
        assert np.ptp(counts) <= 1


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=2, max_size=5),
    unknown=st.integers(0, 5),
    draw=st.integers(0, 50),
    data=st.data(),
)
def test_rare_classes_give_all_they_have(
    sizes: list[int], unknown: int, draw: int, data: st.DataObject
) -> None:
    """Oracle: a class gives the smaller of its size and a level that all share, give or take one."""
    labels = np.repeat([*range(len(sizes)), UNKNOWN], [*sizes, unknown])
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    count = data.draw(st.integers(2 * len(sizes), sum(sizes)))
    made = ImageSet("made", images, labels, tuple(map(str, range(len(sizes)))))
    found = labelled_subset(made, count, draw)
    counts = np.bincount(found.labels, minlength=len(sizes))
    assert len(found) == count and (labels[found.images.ravel()] == found.labels).all()
    level = counts.max()
    for size, given_count in zip(sizes, counts, strict=True):
        assert given_count in (size, level, level - 1) and given_count <= size


def test_draws_name_images() -> None:
    """Oracle: the same draw gives the same images, another draw others; held-out ones never change."""
    first, again, other = (digits(labels=50, train=200, draw=draw) for draw in (3, 3, 4))
    assert keys(first.train) == keys(again.train) and keys(first.labelled) == keys(again.labelled)
    assert set(keys(first.train)) != set(keys(other.train))
    assert set(keys(first.labelled)) != set(keys(other.labelled))
    assert keys(first._held["test"]) == keys(other._held["test"])
    assert len(first.train) == 200 and len(digits(test=7).test) == 7
    more = digits(labels=60, train=200, draw=3)
    assert set(keys(first.labelled)) < set(keys(more.labelled)), "more labels keep those there were"


@pytest.mark.parametrize("fields", ["labels=30", "labels=100&train=64&draw=2&test=9", "labels=20&tail=0.1"])
def test_the_name_makes_the_task_again(fields: str) -> None:
    """Oracle: the same images from the specification in `name`."""
    task = selfstudy.task(f"digits?{fields}")
    again = selfstudy.task(task.name)
    assert again.name == task.name and keys(again.train) == keys(task.train)
    assert keys(again.labelled) == keys(task.labelled) and len(again.test) == len(task.test)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"labels": 19}, r"labels=19 of 'digits' must be from 20, 2 a class, to 1258"),
        ({"labels": 5000}, "labels=5000"),
        ({"train": 2000}, r"train=2000 must be from 1 to 1258"),
        ({"train": -5}, "train=-5"),
        ({"tail": 2.0}, "tail"),
    ],
)
def test_numbers_that_the_set_does_not_have(fields: dict[str, Any], said: str) -> None:
    """Oracle: the message names the number given and those allowed."""
    with pytest.raises(UsageError, match=said):
        digits(**fields)


def test_sets_that_are_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the message names the variable and the file."""
    monkeypatch.delenv("SELFSTUDY_DATA", raising=False)
    for name in ("fashion-mnist", "cifar10"):
        image_splits.__globals__["_archive"].cache_clear()
        with pytest.raises(DataError, match=r"SELFSTUDY_DATA.*train.npz"):
            selfstudy.task(name)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_encoder_is_judged_by_a_probe_of_the_labelled_subset(split: str) -> None:
    """Oracle: the probe by hand, of features made one image at a time; a limit takes the first."""
    task = digits(labels=80)
    model = encoder(task)
    held = image_splits("digits")[split]
    known, queries = (
        torch.cat([model.embed_pixels(images.pixels(slice(at, at + 1))) for at in range(len(images))])
        for images in (task.labelled, held)
    )
    probe = linear_probe(known, torch.from_numpy(task.labelled.labels), 10)
    right = probe.predict(queries).numpy() == held.labels
    found = task.evaluate(model, split=split).values
    assert len(found) == len(held) and np.mean(np.array(found) == right) > 0.99
    assert task.evaluate(model, split=split, limit=25).values == found[:25]
    assert task.metric == ACCURACY and np.mean(found) > 0.5


def test_a_classifier_is_judged_by_what_it_tells() -> None:
    """Oracle: a classifier that looks the label up, and one that always says 3."""
    task, test = digits(), image_splits("digits")["test"]
    labels = dict(zip(keys(test), test.labels.tolist(), strict=True))

    def knows(pixels: torch.Tensor) -> torch.Tensor:
        return torch.tensor([labels[image.tobytes()] for image in (pixels * 255).round().byte().numpy()])

    assert task.evaluate(SimpleNamespace(classify=knows)).values == (1.0,) * len(test)
    says = SimpleNamespace(classify=lambda pixels: torch.full((len(pixels),), 3))
    assert np.mean(task.evaluate(says).values) == np.mean(test.labels == 3)


def test_there_are_two_splits_to_evaluate_on() -> None:
    """Oracle: the message names them."""
    with pytest.raises(UsageError, match=r"'train'.*'test' or 'validation'"):
        digits().evaluate(None, split="train")


def test_without_labels_views_are_to_be_recognised() -> None:
    """Oracle: the nearest first view of each second view, in a loop."""
    task = unlabelled()
    model, pixels = encoder(task), image_splits("digits")["test"].pixels(slice(60))
    first, second = (
        torch.nn.functional.normalize(
            model.embed_pixels(ImageViews()(pixels, view_keys(stream_key("look", which), np.arange(60))))
        )
        for which in (1, 2)
    )
    expected = [float(max(range(60), key=lambda j: float(first[j] @ second[i])) == i) for i in range(60)]
    assert task.metric == RECOGNISED
    assert list(task.evaluate(model).values) == expected and sum(expected) > 0


def test_a_look_before_and_after() -> None:
    """Oracle: neighbours and monitors by hand; all by name, for both models; the map holds its inputs."""
    task = digits(labels=60)
    before, after = encoder(task), task.prepared(ConvEncoder(first=8, stages=2, seed=1))
    found = task.look(before, after, {"by class": SimpleNamespace(by_input=np.arange(1258.0)), "other": 3})
    test = image_splits("digits")["test"]
    pixels = test.pixels(slice(None))
    for when, model in (("before", before), ("after", after)):
        features = model.embed_pixels(pixels)
        known = model.embed_pixels(task.labelled.pixels(slice(None)))
        told = nearest_neighbours(known, torch.from_numpy(task.labelled.labels), features, 10)
        row = found["metrics"][f"nearest neighbours, {when}"]
        assert row["accuracy"] == pytest.approx(np.mean(told.numpy() == test.labels), abs=0.005)
        views = [
            model.embed_pixels(
                ImageViews()(pixels, view_keys(stream_key("look", which), np.arange(len(test))))
            )
            for which in (1, 2)
        ]
        expected = {
            "effective rank": effective_rank(features),
            "least variance": least_variance(features),
            "uniformity": uniformity(features),
            "alignment": alignment(*views),
        }
        for name, value in expected.items():
            assert found["metrics"][f"{name}, {when}"] == pytest.approx(value, rel=1e-3, abs=1e-6)
    shown = found["pictures"][-1]
    assert sum(len(trace["x"]) for trace in shown["traces"]) == 2 * min(SHOWN, len(test))
    assert len(found["pictures"]) == 2, "and a figure of each unlabelled image, by class"


def test_a_look_without_labels() -> None:
    """Oracle: no neighbours, one group on the map."""
    task = unlabelled()
    model = encoder(task)
    found = task.look(model, model, {"part": SimpleNamespace(by_input=np.zeros(60))})
    assert not [name for name in found["metrics"] if "neighbours" in name]
    assert {trace["name"] for trace in found["pictures"][0]["traces"]} == {"unlabelled"}
    assert len(found["pictures"]) == 1
