"""Tasks of a user's own images: splits, classes, labels, what is refused, and a whole fit."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_store import StoredImages
from selfstudy.data.splits import split_of
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.tasks.image_folders import folder
from selfstudy.tasks.images import RECOGNISED, ImageTask


@pytest.fixture(autouse=True)
def one_thread(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(root: Path, **counts: int) -> Path:
    """Write images of one colour each: red is the number in its folder, green that of the folder's name."""
    for place, (name, count) in enumerate(sorted(counts.items())):
        for number in range(count):
            path = root / name.replace("_", "/") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, place, 0)).save(path)
    return root


def known(task: ImageTask, split: str) -> set[tuple[int, int]]:
    """Return (red, green) of each image of a split."""
    images = {"train": task.train, "labelled": task.labelled, **task._held}[split]
    return {(int(image[0, 0, 0]), int(image[1, 0, 0])) for image in images.images[:]}


def test_a_hash_of_the_name_splits(tmp_path: Path) -> None:
    """Oracle: `split_of` on names written by hand; names of files may be the same in two classes."""
    task = folder(str(write(tmp_path, cats=40, dogs=30)), size=8)
    for place, (name, count) in enumerate((("cats", 40), ("dogs", 30))):
        for number in range(count):
            assert (number, place) in known(task, split_of(f"{name}/{number}.png"))
    assert len(task.train) + len(task.validation) + len(task.test) == 70
    assert task.classes == ("cats", "dogs") and task.metric == ACCURACY
    assert (task.train.labels == -1).all() and (
        task.labelled.labels == task.labelled.images[:, 1, 0, 0]
    ).all()
    assert len(task.labelled) == len(task.train), "all labels unless told"


def test_more_files_move_no_image(tmp_path: Path) -> None:
    """Oracle: the splits before, as subsets of those after; the order of the old ones stays."""
    write(tmp_path, cats=30, dogs=30)
    before = folder(str(tmp_path), size=8)
    first = [image.tobytes() for image in before.train.images]
    write(tmp_path, cats=60, dogs=45)
    after = folder(str(tmp_path), size=8)
    for split in ("train", "validation", "test"):
        assert known(before, split) <= known(after, split)
    later = [image.tobytes() for image in after.train.images]
    assert [image for image in later if image in set(first)] == first


def test_the_first_images_are_a_fair_sample(tmp_path: Path) -> None:
    """Oracle: both classes among the first 20 to train on, though files are sorted by class."""
    task = folder(str(write(tmp_path, cats=60, dogs=60)), size=8)
    counts = np.bincount(task.limited(20).train.images[:, 1, 0, 0])
    assert len(counts) == 2 and counts.min() >= 4


def test_images_without_class_are_all_trained_on(tmp_path: Path) -> None:
    """Oracle: their number; the other splits hold labelled images alone; any case and either spelling."""
    write(tmp_path, cats=30, dogs=30, Unlabelled=25)
    for number in range(5):
        Image.new("RGB", (8, 8), (number, 200, 0)).save(tmp_path / f"{number}.png")
    task = folder(str(tmp_path), size=8)
    assert task.classes == ("cats", "dogs")
    assert {place for place in known(task, "train") if place[1] in (0, 200)} == {
        *((n, 0) for n in range(25)),
        *((n, 200) for n in range(5)),
    }
    for split in ("labelled", "validation", "test"):
        assert {green for _, green in known(task, split)} == {1, 2}
    assert set(task.labelled.labels) == {0, 1}


def test_a_folder_without_classes_has_no_labels(tmp_path: Path) -> None:
    """Oracle: the metric, and images by hash in all splits."""
    for number in range(50):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    task = folder(str(tmp_path), size=8)
    assert task.classes == () and task.metric == RECOGNISED and len(task.labelled) == 0
    assert known(task, "test") == {(n, 0) for n in range(50) if split_of(f"{n}.png") == "test"}
    values = task.evaluate(task.prepared(selfstudy.model("conv?first=4"))).values
    assert len(values) == len(task.test) and set(values) <= {0.0, 1.0}
    with pytest.raises(UsageError, match="no classes, so labels=4"):
        folder(str(tmp_path), size=8, labels=4)


def test_a_single_class_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: a warning that names it, and a task without labels; the same as classes=false without one."""
    write(tmp_path, photos=50)
    with caplog.at_level(logging.WARNING):
        task = folder(str(tmp_path), size=8)
    assert "single class, the folder 'photos'" in caplog.text and task.classes == ()
    caplog.clear()
    other = folder(str(tmp_path), size=8, classes=False)
    assert not caplog.records and known(task, "test") == known(other, "test")


def test_folders_of_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    """Oracle: where each image lies; without a folder for it a tenth of "train" validates, by hash."""
    write(tmp_path, train_cats=40, train_dogs=40, Test_cats=10, Test_dogs=5, train_unlabelled=7)
    task = folder(str(tmp_path), size=8)
    assert task.classes == ("cats", "dogs") and len(task.test) == 15
    assert {green for _, green in known(task, "test")} == {0, 1}
    for place, name in ((2, "cats"), (3, "dogs")):
        for number in range(40):
            split = split_of(f"{name}/{number}.png", train_end=0.9, validation_end=1.0)
            assert (number, place) in known(task, split)
    assert {(n, 4) for n in range(7)} <= known(task, "train")


def test_a_folder_of_validation_images_is_taken_too(tmp_path: Path) -> None:
    """Oracle: the numbers of files of each folder."""
    write(tmp_path, train_a=12, train_b=12, val_a=3, val_b=4, test_a=5, test_b=6, unlabelled=9)
    task = folder(str(tmp_path), size=8)
    assert (len(task.train), len(task.labelled), len(task.validation), len(task.test)) == (33, 24, 7, 11)


def test_another_folder_to_test_on(tmp_path: Path) -> None:
    """Oracle: its number of images with a class, those known from the first folder."""
    write(tmp_path / "mine", cats=40, dogs=40)
    write(tmp_path / "theirs", cats=6, dogs=7, unlabelled=2)
    task = folder(str(tmp_path / "mine"), size=8, test=str(tmp_path / "theirs"))
    assert len(task.test) == 13 and len(task.train) + len(task.validation) == 80
    write(tmp_path / "theirs", foxes=1)
    with pytest.raises(DataError, match=r"foxes/0\.png is of the class 'foxes'.*cats, dogs"):
        folder(str(tmp_path / "mine"), size=8, test=str(tmp_path / "theirs"))


def test_some_labels_are_drawn(tmp_path: Path) -> None:
    """Oracle: as many of each class; another draw gives others."""
    root = str(write(tmp_path, cats=40, dogs=40, foxes=40))
    one, again, other = (folder(root, size=8, labels=9, draw=draw) for draw in (0, 0, 1))
    assert np.bincount(one.labelled.labels).tolist() == [3, 3, 3]
    assert known(one, "labelled") == known(again, "labelled") != known(other, "labelled")
    with pytest.raises(UsageError, match=r"labels=5 of .* must be from 6"):
        folder(root, size=8, labels=5)


RARE = next(name for name in map("b{}".format, range(99)) if split_of(f"{name}/0.png") == "test")
REFUSED: dict[str, tuple[dict[str, int], dict[str, Any], type[Exception], str]] = {
    "too few": ({"a": 2, "b": 2}, {}, DataError, "Give more"),
    "a class out of train": ({"a": 60, RARE: 1}, {}, DataError, f"No image of {RARE} falls into the train"),
    "train without test": ({"train_a": 5, "train_b": 5}, {}, DataError, "none named test"),
    "splits and others": ({"train_a": 5, "test_a": 5, "masks": 5}, {}, DataError, "beside them masks"),
    "no size": ({"a": 5}, {"size": 0}, UsageError, "size=0"),
    "negative labels": ({"a": 5}, {"labels": -1}, UsageError, "labels=-1"),
    "negative memory": ({"a": 5}, {"memory": -1.0}, UsageError, "memory=-1"),
    "test twice": ({"train_a": 5, "test_a": 5}, {"test": "."}, UsageError, "leave test="),
    "no test folder": ({"a": 5, "b": 5}, {"test": "nowhere"}, DataError, "nowhere is not there"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_right_is_refused(tmp_path: Path, what: str) -> None:
    """Oracle: the part of the message that names it."""
    counts, fields, kind, said = REFUSED[what]
    with pytest.raises(kind, match=said):
        folder(str(write(tmp_path, **counts)), **{"size": 8, **fields})


def test_damaged_files_count_against_no_split(tmp_path: Path) -> None:
    """Oracle: the splits of all files, less the damaged ones; colours are labels."""
    write(tmp_path, cats=40, dogs=40)
    whole = folder(str(tmp_path), size=8)
    for name in ("cats/3.png", "dogs/11.png", "dogs/12.png"):
        (tmp_path / name).write_bytes(b"damaged")
    for memory in (2.0, 0.0):
        task = folder(str(tmp_path), size=8, memory=memory)
        assert len(task.train) + len(task.validation) + len(task.test) == 77
        for split in ("train", "validation", "test"):
            assert known(task, split) == known(whole, split) - {(3, 0), (11, 1), (12, 1)}
        for held in task._held.values():
            assert (held.images[:][:, 1, 0, 0] == held.labels).all()
        assert (task.labelled.images[:][:, 1, 0, 0] == task.labelled.labels).all()


def test_the_specification_makes_the_task_again(tmp_path: Path) -> None:
    """Oracle: the same images; a path with signs of its own."""
    root = write(tmp_path / "my photos & more", cats=30, dogs=30)
    task = folder(str(root), size=16, grey=True, labels=8, draw=3)
    again = selfstudy.task(task.name)
    assert again.name == task.name and again.train.shape == (1, 16, 16)
    assert np.array_equal(again.train.images, task.train.images)
    assert np.array_equal(again.labelled.images, task.labelled.images)


def test_stored_and_held_images_give_the_same_run(tmp_path: Path) -> None:
    """Oracle: the run with all in memory, bit for bit: weights and figures."""
    root = write(tmp_path / "photos", cats=45, dogs=45, unlabelled=10)
    fitted = []
    for memory in (2.0, 0.0):
        task = folder(str(root), size=8, memory=memory)
        assert isinstance(task.train.images, StoredImages) == (memory == 0.0)
        fields = {"projector": (8,), "pretraining": {"epochs": 1, "batch": 16}}
        out = tmp_path / f"run-{memory}"
        fitted.append(selfstudy.fit("barlow-twins", task=task, model="conv?first=4", out=out, **fields))
    one, other = (fit.model.state_dict() for fit in fitted)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert fitted[0].metrics == fitted[1].metrics


def test_the_command_line_takes_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the exit code, the files of the run, and the encoder on the files themselves."""
    from selfstudy.app.cli import main

    monkeypatch.chdir(tmp_path)
    write(Path("photos"), cats=40, dogs=40)
    task = "images:photos?size=8&labels=10"
    command = ["fit", "barlow-twins", "--task", task, "--model", "conv?first=4", "--out", "run"]
    assert main([*command, "--projector", "8", "--pretraining.epochs", "1", "--pretraining.batch", "16"]) in (
        0,
        None,
    )
    assert "accuracy" in capsys.readouterr().out
    encoder = selfstudy.load("run")
    files = ["photos/cats/0.png", Path("photos/dogs/5.png")]
    assert encoder.embed(files).shape == (2, encoder.width)
    shutil.rmtree("photos")
    with pytest.raises(DataError, match="photos is not there"):
        selfstudy.task(task)
