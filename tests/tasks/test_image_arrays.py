"""Tasks of arrays of images: splits by content, labels of any kind, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.splits import SPLITS
from selfstudy.tasks.image_arrays import arranged, from_arrays


def drawn(count: int, shape: tuple[int, ...] = (6, 6), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def names(task: Any, split: str) -> set[bytes]:
    images = task.train if split == "train" else task._held[split]
    return {image.tobytes() for image in images.images}


def test_more_images_move_none_and_equal_ones_stay_together() -> None:
    """Oracle: the splits before, as subsets of those after; the copies of an image are in one split."""
    images = drawn(60)
    before, after = from_arrays(images), from_arrays(np.concatenate([drawn(30, seed=1), images, images[:9]]))
    for split in SPLITS:
        assert names(before, split) <= names(after, split)
    total = [names(after, split) for split in SPLITS]
    assert sum(map(len, total)) == 90 and len(set.union(*total)) == 90


def test_the_name_holds_the_content() -> None:
    """Oracle: equal arrays give an equal name; a changed pixel or label gives another."""
    images, labels = drawn(60), np.arange(60) % 2
    one = from_arrays(images, labels)
    changed = images.copy()
    changed[3, 2, 1] ^= 1
    assert one.name == from_arrays(images.copy(), labels.copy()).name
    assert len({one.name, from_arrays(changed, labels).name, from_arrays(images, 1 - labels).name}) == 3


@pytest.mark.parametrize("labels", [["cat", "dog"], [7, 3], [True, False], [0.5, 1.5]])
def test_labels_of_any_kind(labels: list[Any]) -> None:
    """Oracle: the label of each image by its first pixel; names are sorted."""
    images = drawn(80)
    images[:, 0, 0] = np.arange(80)
    task = from_arrays(images, [labels[number % 2] for number in range(80)])
    assert task.classes == tuple(map(str, sorted(labels)))
    expected = [sorted(labels).index(labels[int(image[0, 0, 0]) % 2]) for image in task.labelled.images]
    assert task.labelled.labels.tolist() == expected


@pytest.mark.parametrize("missing", [None, -1])
def test_images_without_label_are_all_trained_on(missing: Any) -> None:
    """Oracle: their first pixels."""
    images = drawn(90)
    images[:, 0, 0] = np.arange(90)
    task = from_arrays(images, [missing if number < 30 else number % 3 for number in range(90)])
    assert {n for n in range(30)} <= {int(image[0, 0, 0]) for image in task.train.images}
    assert task.classes == ("0", "1", "2") and min(int(i[0, 0, 0]) for i in task.labelled.images) >= 30


def test_numbers_from_0_to_1_are_images() -> None:
    """Oracle: the bytes that they were made of, grey and in colour."""
    for shape in ((6, 6), (6, 6, 3), (6, 6, 1)):
        images = drawn(60, shape)
        whole, shares = from_arrays(images), from_arrays(images / 255)
        assert whole.name == shares.name and whole.train.shape == (3 if 3 in shape else 1, 6, 6)


@given(
    keys=st.lists(st.text(max_size=6), min_size=1, max_size=50, unique=True),
    data=st.data(),
)
@settings(deadline=None)
def test_the_order_loses_and_mixes_nothing(keys: list[str], data: st.DataObject) -> None:
    """Oracle: laws: each image once, splits in their order, given splits kept, no unlabelled held out."""
    count = len(keys)
    labels = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count)))
    origins = data.draw(st.lists(st.sampled_from(["", "", "test"]), min_size=count, max_size=count))
    order, splits = arranged(keys, labels, origins)
    places = [SPLITS.index(split) for split in splits]
    assert places == sorted(places) and len(set(order.tolist())) == len(order)
    labelled = (labels >= 0).any()
    left = [i for i in range(count) if labelled and labels[i] < 0 and origins[i]]
    assert sorted([*order.tolist(), *left]) == list(range(count))
    for place, split in zip(order, splits, strict=True):
        assert split == "test" or not origins[place]
        assert labels[place] >= 0 or not labelled or split == "train"


REFUSED: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "no images": (np.zeros((0, 4, 4)), None, {}, DataError, "give images"),
    "flat": (np.zeros((60, 16)), None, {}, DataError, "give images"),
    "not square": (drawn(60, (4, 6)), None, {}, DataError, "square"),
    "five channels": (drawn(60, (4, 4, 5)), None, {}, DataError, "1 or 3"),
    "bytes as floats": (drawn(60).astype(float), None, {}, DataError, "0 to 1"),
    "not finite": (np.full((60, 4, 4), np.nan), None, {}, DataError, "not finite"),
    "labels short": (drawn(60), [0, 1], {}, DataError, "60 images and 2 labels"),
    "one label": (drawn(60), [1] * 60, {}, DataError, "single label, 1"),
    "too few": (drawn(3), [0, 1, 0], {}, DataError, "Give more"),
    "count without labels": (drawn(60), None, {"count": 5}, UsageError, "no classes"),
    "count too small": (drawn(60), [0, 1] * 30, {"count": 3}, UsageError, "must be from 4"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_right_is_refused(what: str) -> None:
    """Oracle: the part of the message that names it."""
    images, labels, fields, kind, said = REFUSED[what]
    with pytest.raises(kind, match=said):
        from_arrays(images, labels, **fields)


def test_a_fit_takes_it(tmp_path: Any) -> None:
    """Oracle: the run's own record of its task, and another run's arrays refused."""
    task = from_arrays(drawn(90, (8, 8)), [0, 1] * 45, name="mine")
    fields: dict[str, Any] = {
        "projector": (4,),
        "pretraining": {"epochs": 1, "batch": 32},
        "out": tmp_path / "r",
    }
    fitted = selfstudy.fit("barlow-twins", task=task, model="conv?first=2", **fields)
    assert fitted.model.embed(drawn(3, (8, 8))).shape == (3, fitted.model.width)
    other = from_arrays(drawn(90, (8, 8), seed=1), [0, 1] * 45, name="mine")
    with pytest.raises(UsageError, match="another configuration: task"):
        selfstudy.fit("barlow-twins", task=other, model="conv?first=2", **fields)
