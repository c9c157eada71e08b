"""Images on disk: what is read, what is written once, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import MachineError
from selfstudy.data.image_store import StoredImages, stored

IMAGE = (2, 3, 4)


def written(folder: Path, count: int = 20) -> tuple[StoredImages, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, *IMAGE), dtype=np.uint8)
    (folder / "pixels").write_bytes(pixels.tobytes())
    return StoredImages(folder / "pixels", IMAGE, np.arange(count)), pixels


@given(at=st.lists(st.integers(0, 19), max_size=30), then=st.lists(st.integers(0, 9), max_size=5))
@settings(deadline=None, max_examples=50)
def test_indexing_is_that_of_an_array(
    at: list[int], then: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Oracle: numpy on the array that was written: places in any order, again of a part, and slices."""
    images, pixels = written(tmp_path_factory.mktemp("store"))
    places = np.array(at, dtype=np.int64)
    assert np.array_equal(images[places], pixels[places])
    part, of_it = images.only(slice(3, 13)), np.array(then, dtype=np.int64)
    assert np.array_equal(part[of_it], pixels[3:13][of_it]) and part.shape == (10, *IMAGE)
    assert np.array_equal(images.only(places)[:2], pixels[places][:2])
    assert np.array_equal(images[::-3], pixels[::-3]) and len(images) == 20


def test_masks_choose_too(tmp_path: Path) -> None:
    """Oracle: numpy on the array that was written."""
    images, pixels = written(tmp_path)
    mask = np.arange(20) % 3 == 1
    assert np.array_equal(images[mask], pixels[mask]) and len(images.only(mask)) == mask.sum()


def test_a_read_keeps_no_file_open(tmp_path: Path) -> None:
    """Oracle: the descriptors of this process."""
    images, _ = written(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    kept = [images[np.array([3, 1])] for _ in range(5)]
    assert len(kept) == 5 and len(os.listdir("/proc/self/fd")) == before


def test_neighbours_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the number of runs of consecutive rows, counted by hand."""
    from selfstudy.data import image_store

    images, _ = written(tmp_path)
    reads: list[int] = []
    fill = image_store._fill
    monkeypatch.setattr(image_store, "_fill", lambda file, view: (reads.append(len(view)), fill(file, view)))
    assert len(images[np.array([4, 5, 6, 2, 9, 10])]) == 6
    assert [size // 24 for size in reads] == [3, 1, 2]


def test_a_file_that_is_gone_or_short_is_named(tmp_path: Path) -> None:
    """Oracle: the path, and what to do."""
    images, _ = written(tmp_path)
    os.truncate(images.path, 30)
    assert images[:1].shape[0] == 1
    with pytest.raises(MachineError, match=r"ends too early.*written anew"):
        images[:2]
    images.path.unlink()
    with pytest.raises(MachineError, match="cannot be read"):
        images[:1]


# Writing once.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def test_the_same_key_is_written_once(cache: Path) -> None:
    """Oracle: a count of calls."""
    calls = []

    def write(file):
        calls.append(file.write(b"abc"))
        return {"n": 1}

    for _ in range(3):
        path, index = stored("key", write, most=3)
        assert path.read_bytes() == b"abc" and index == {"n": 1}
    stored("other", write, most=3)
    assert len(calls) == 2 and sorted(p.name for p in cache.glob("[!.]*")) == ["key", "other"]


def test_a_failure_leaves_nothing(cache: Path) -> None:
    """Oracle: the folder; the next attempt writes it."""

    def fails(file):
        file.write(b"half")
        raise OSError("the cable")

    with pytest.raises(OSError, match="cable"):
        stored("key", fails, most=4)
    assert [path.name for path in cache.iterdir()] == [".lock"]
    path, _ = stored("key", lambda file: {"bytes": file.write(b"whole")}, most=5)
    assert path.read_bytes() == b"whole"


def test_a_disk_without_room_is_refused_first(cache: Path) -> None:
    """Oracle: more bytes than any disk has; nothing is written."""
    with pytest.raises(MachineError, match=r"GiB free.*SELFSTUDY_CACHE"):
        stored("key", lambda file: pytest.fail("written"), most=2**70)


WRITER = """
import sys, time
from selfstudy.data.image_store import stored

def write(file):
    file.write(b"half" * 1000)
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
    return {}

stored("key", write, most=10)
"""


def test_a_killed_writer_leaves_nothing_that_counts(cache: Path) -> None:
    """Oracle: the files after SIGKILL in the middle, and after the next writer, who did not have to wait."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True)
    assert writer.stdout and writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert not (cache / "key").exists() and any(path.name.endswith(".tmp") for path in cache.iterdir())
    start = time.monotonic()
    path, _ = stored("key", lambda file: {"bytes": file.write(b"whole")}, most=5)
    assert path.read_bytes() == b"whole" and time.monotonic() - start < 30
    assert sorted(found.name for found in cache.iterdir()) == [".lock", "key"], "the leftover is removed"
