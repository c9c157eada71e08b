"""Folders of image files: what is found, how it is cut, what is left out, what stays on disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_folder import ImageFile, image_files, read_images, squared
from selfstudy.data.image_store import StoredImages


def picture(path: Path, value: int = 0, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SELFSTUDY_CACHE", str(folder))
    return folder / "images"


# Finding.


def test_files_are_found_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Oracle: the names by hand; other kinds, hidden files and hidden folders are left out."""
    names = ["b/2.jpg", "a/x.PNG", "a/deep/er/1.webp", "top.gif", "b/10.bmp", "b/2.jpeg"]
    for name in names:
        picture(tmp_path / name)
    for name in (".hidden.png", "a/.DS_Store", "a/._x.png", ".git/1.png", "notes.txt", "a/labels.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = image_files(tmp_path)
    assert [file.name for file in found] == sorted(names)
    assert [file.first for file in found] == ["a", "a", "b", "b", "b", ""]
    assert all(file.path.is_file() for file in found)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    """Oracle: each file once for each way to it that does not repeat itself."""
    picture(tmp_path / "real" / "1.png")
    (tmp_path / "set" / "sub").mkdir(parents=True)
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "sub" / "up").symlink_to(tmp_path / "set")
    assert [file.name for file in image_files(tmp_path / "set")] == ["linked/1.png"]


def test_a_name_that_is_no_text_is_found(tmp_path: Path) -> None:
    """Oracle: the bytes of the name, spelt out; the file can be opened."""
    picture(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.path.join(os.fsencode(tmp_path), b"\xff.png"))
    (file,) = image_files(tmp_path)
    assert file.name == "\\xff.png" and file.name.encode() and file.path.is_file()


def test_no_folder_and_no_images_are_refused(tmp_path: Path) -> None:
    """Oracle: what is said of each."""
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "1.png")
    for path, said in (("nowhere", "is not there"), ("1.png", "is a file"), ("empty", "no image files")):
        with pytest.raises(DataError, match=said):
            image_files(tmp_path / path)


# Cutting.


def test_the_middle_square_is_kept() -> None:
    """Oracle: slices by hand, of a wide and a high image, at the size that they have."""
    wide = np.random.default_rng(0).integers(0, 256, (4, 9, 3), dtype=np.uint8)
    assert (squared(wide, 4, 3) == wide[:, 2:6]).all()
    assert (squared(wide.transpose(1, 0, 2), 4, 3) == wide[:, 2:6].transpose(1, 0, 2)).all()


def test_grey_is_a_weighted_sum() -> None:
    """Oracle: the weights of ITU-R 601, to a rounding."""
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    grey = squared(image, 6, 1)
    assert grey.shape == (6, 6)
    assert np.abs(grey - image @ np.array([0.299, 0.587, 0.114])).max() <= 1


def test_what_shrinks_is_smoothed() -> None:
    """Oracle: a chessboard of single pixels becomes its mean, which picking pixels would not give."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = squared(np.repeat(board[:, :, None], 3, 2), 8, 3)
    assert np.abs(small.astype(int)[1:-1, 1:-1] - 127).max() <= 2


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 20),
    channels=st.sampled_from([1, 3]),
    value=st.integers(0, 255),
)
@settings(deadline=None)
def test_one_colour_stays_it(height: int, width: int, size: int, channels: int, value: int) -> None:
    """Oracle: any resampling keeps a constant; the shape is the one asked for."""
    found = squared(np.full((height, width, 3), value, np.uint8), size, channels)
    assert found.shape == ((size, size, 3) if channels == 3 else (size, size)) and (found == value).all()


@pytest.mark.parametrize(("size", "channels"), [(0, 3), (-1, 1), (8, 2), (8, 4)])
def test_other_shapes_are_refused(size: int, channels: int) -> None:
    """Oracle: sizes from 1, channels 1 and 3."""
    with pytest.raises(UsageError, match="cannot be made"):
        squared(np.zeros((4, 4, 3), np.uint8), size, channels)


# Reading.


def numbered(folder: Path, count: int = 45, bad: tuple[int, ...] = ()) -> list[ImageFile]:
    """Write images of one colour each, its number; those of `bad` are damaged."""
    for number in range(count):
        picture(folder / f"{number:03}.png", number, (4 + number % 3, 5))
    for number in bad:
        (folder / f"{number:03}.png").write_bytes(b"damaged")
    return image_files(folder)


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_images_are_in_the_order_of_their_files(tmp_path: Path, cache: Path, memory: float) -> None:
    """Oracle: the number that is each file's colour, in memory and on disk."""
    files = numbered(tmp_path)
    order = np.random.default_rng(0).permutation(len(files))
    images, kept = read_images([files[i] for i in order], "x", size=6, channels=3, memory=memory)
    assert isinstance(images, StoredImages) == (memory == 0.0)
    assert images.shape == (45, 3, 6, 6) and kept.tolist() == list(range(45))
    assert (images[:] == order[:, None, None, None]).all()


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_damaged_files_are_named_and_left_out(
    tmp_path: Path, cache: Path, memory: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: the numbers of the others; the same warning when stored images are read again."""
    files = numbered(tmp_path, bad=(0, 7))
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            images, kept = read_images(files, "my photos", size=4, channels=1, memory=memory)
        assert kept.tolist() == [n for n in range(45) if n not in (0, 7)]
        assert (images[:, 0, 0, 0] if memory else images[:][:, 0, 0, 0]).tolist() == kept.tolist()
        (message,) = [record.getMessage() for record in caplog.records]
        assert (
            "my photos: left out 2 of 45 files" in message and "000.png" in message and "007.png" in message
        )
        caplog.clear()


def test_over_five_percent_is_an_error_that_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    """Oracle: 3 of 45 are more than 2.25; 2 are not (above)."""
    files = numbered(tmp_path, bad=(1, 2, 40))
    for memory in (1.0, 0.0):
        with pytest.raises(DataError, match=r"Over 5% of the 45 .*001\.png.*002\.png.*040\.png"):
            read_images(files, "x", size=4, channels=1, memory=memory)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_what_fits_exactly_stays_in_memory(tmp_path: Path, cache: Path) -> None:
    """Oracle: N C size^2 bytes, one more and one less."""
    files = numbered(tmp_path, count=4)
    most = 4 * 3 * 8 * 8
    for memory, on_disk in ((most, False), (most - 1, True)):
        images, _ = read_images(files, "x", size=8, channels=3, memory=memory / 2**30)
        assert isinstance(images, StoredImages) == on_disk


def test_stored_images_are_read_once_until_something_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a count of files that are decoded, and of folders in the cache."""
    from selfstudy.data import image_folder

    decoded: list[Path] = []
    original = image_folder.image_file
    monkeypatch.setattr(image_folder, "image_file", lambda path: (decoded.append(path), original(path))[1])
    files = numbered(tmp_path, count=5)

    def reads(files: list[ImageFile], **changed: int) -> int:
        decoded.clear()
        read_images(files, "x", **{"size": 4, "channels": 3, "memory": 0.0, **changed})  # type: ignore[arg-type]
        return len(decoded)

    assert [reads(files), reads(files), reads(files, size=5), reads(files, channels=1)] == [5, 0, 5, 5]
    assert reads(files[::-1]) == 5, "the order is another"
    os.utime(files[2].path, ns=(1, 1))
    assert reads(files) == 5, "a file was touched"
    picture(tmp_path / "new.png")
    assert reads(image_files(tmp_path)) == 6
    assert len(list(cache.glob("[!.]*"))) == 6
