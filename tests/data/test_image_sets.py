"""Sets of images: splits, pixels, reading of files, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import (
    ImageSet,
    as_bytes,
    channels_first,
    image_file,
    image_splits,
    require_images,
    split_images,
)


def numbered(count: int) -> ImageSet:
    """Images [count, 1, 2, 2] whose pixels are their number."""
    images = np.repeat(np.arange(count, dtype=np.uint8), 4).reshape(count, 1, 2, 2)
    return ImageSet("numbered", images, np.arange(count) % 3, ("a", "b", "c"))


def test_pixels_are_the_bytes_over_255() -> None:
    """Oracle: a closed form."""
    pixels = numbered(5).pixels(np.array([4, 0, 4]))
    assert pixels.dtype == torch.float32 and pixels.shape == (3, 1, 2, 2)
    assert pixels[:, 0, 0, 0].tolist() == [np.float32(4 / 255), 0.0, np.float32(4 / 255)]


def test_pixels_are_a_copy() -> None:
    """Oracle: the set's own bytes, after what was returned is written to."""
    whole = numbered(3)
    whole.pixels(slice(None)).fill_(1)
    assert whole.images.max() == 2


def test_a_part_keeps_images_and_labels_together() -> None:
    """Oracle: the number in the pixels."""
    part = numbered(10).only(np.array([7, 2]))
    assert part.images[:, 0, 0, 0].tolist() == [7, 2] and part.labels.tolist() == [1, 2]
    assert part.classes == ("a", "b", "c") and part.shape == (1, 2, 2) and len(part) == 2


@given(count=st.integers(3, 60))
@settings(deadline=None)
def test_splits_share_nothing_and_lose_nothing(count: int) -> None:
    """Oracle: the set of numbers; shares of 70, 10 and 20 % by rounding."""
    parts = split_images(numbered(count))
    numbers = [int(n) for split in parts.values() for n in split.images[:, 0, 0, 0]]
    assert sorted(numbers) == list(range(count))
    assert len(parts["train"]) == round(0.7 * count)
    assert len(parts["train"]) + len(parts["validation"]) == round(0.8 * count)


def test_splits_depend_on_the_size_alone() -> None:
    """Oracle: a second set with other pixels."""
    one, other = numbered(40), numbered(40)
    other = ImageSet("other", other.images + 100, other.labels, other.classes)
    for split, part in split_images(one).items():
        assert (split_images(other)[split].images - 100 == part.images).all()


def test_digits_are_scikit_learns() -> None:
    """Oracle: scikit-learn's array; 16 levels over the whole range of a byte."""
    from sklearn.datasets import load_digits

    splits = image_splits("digits")
    images = np.concatenate([part.images for part in splits.values()])
    assert images.shape == (1797, 1, 8, 8) and images.max() == 255 and images.min() == 0
    own = sorted(image.tobytes() for image in images)
    theirs = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    assert own == sorted(image.tobytes() for image in theirs)
    assert set(splits["test"].labels) == set(range(10))


def test_an_unknown_set_is_refused() -> None:
    """Oracle: the nearest name."""
    with pytest.raises(UsageError, match="Did you mean 'digits'"):
        image_splits("digit")


def test_a_set_that_is_not_here_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the name of the variable and of the file."""
    monkeypatch.delenv("SELFSTUDY_DATA", raising=False)
    with pytest.raises(DataError, match=r"SELFSTUDY_DATA.*fashion_mnist/train\.npz"):
        image_splits("fashion-mnist")


def test_channels_come_first() -> None:
    """Oracle: one pixel of each channel, by index."""
    images = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    assert channels_first(images)[1, 2, 0, 3] == images[1, 0, 3, 2]
    assert channels_first(images[..., 0]).shape == (2, 1, 3, 4)


@pytest.mark.parametrize("shape", [(4,), (4, 4), (0, 4, 4), (1, 2, 3, 3, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """Oracle: the two shapes that images have."""
    with pytest.raises(DataError, match="give images"):
        require_images(np.zeros(shape, np.uint8), "The input")


def test_numbers_that_are_not_finite_name_their_image() -> None:
    """Oracle: the index of the one made bad."""
    images = np.zeros((4, 2, 2))
    images[2, 1, 1] = np.nan
    with pytest.raises(DataError, match=r"1 images .* at index 2"):
        require_images(images, "The input")


def test_numbers_become_bytes() -> None:
    """Oracle: closed forms; bytes are kept as they are, without a copy."""
    images = np.array([[[0.0, 0.5], [1.0, 0.2]]])
    assert as_bytes(images, "x").tolist() == [[[0, 128], [255, 51]]]
    whole = np.array([[[0, 255], [7, 1]]])
    assert as_bytes(whole, "x").dtype == np.uint8 and (as_bytes(whole, "x") == whole).all()
    kept = whole.astype(np.uint8)
    assert as_bytes(kept, "x") is kept


@pytest.mark.parametrize(
    "images", [np.full((1, 2, 2), 255.0), np.full((1, 2, 2), -1), np.full((1, 2, 2), 256)]
)
def test_numbers_outside_their_range_are_refused(images: np.ndarray) -> None:
    """Oracle: 0 to 1, and 0 to 255."""
    with pytest.raises(DataError, match="from 0 to 1"):
        as_bytes(images, "x")


# Files.


def saved(folder: Path, name: str, image: Image.Image, **options: object) -> Path:
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def test_a_file_is_its_pixels(tmp_path: Path) -> None:
    """Oracle: the array that was written, in formats without loss."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for suffix in ("png", "bmp", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        assert (
            image_file(saved(tmp_path, f"a.{suffix}", Image.fromarray(pixels), **options)) == pixels
        ).all()


def test_grey_files_have_three_equal_channels(tmp_path: Path) -> None:
    """Oracle: the array that was written: 8 bits, 16 bits (the high byte), one bit, and a palette."""
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    deep = grey.astype(np.uint16) * 257
    for name, image in {
        "l.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(deep),
        "p.gif": Image.fromarray(grey),
    }.items():
        found = image_file(saved(tmp_path, name, image))
        assert (found == grey[:, :, None]).all(), name
    bit = image_file(saved(tmp_path, "bit.png", Image.fromarray(grey > 150)))
    assert (bit[:, :, 1] == [[0, 0], [255, 255]]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_clear_is_white(tmp_path: Path, mode: str) -> None:
    """Oracle: alpha 0 is white, alpha 1 is the colour, a half is between."""
    image = Image.new("RGBA", (3, 1))
    alphas = (0, 255, 255 if mode == "P" else 128)
    image.putdata([(0, 0, 0, alpha) for alpha in alphas])
    found = image_file(saved(tmp_path, "a.png", image.convert(mode)))
    assert found[0, 0].tolist() == [255] * 3 and found[0, 1].tolist() == [0] * 3
    assert abs(int(found[0, 2, 0]) - (255 - alphas[2])) <= 1


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    """Oracle: EXIF orientation 6 is a turn by 90 degrees clockwise; numpy turns the other way."""
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    found = image_file(saved(tmp_path, "a.png", Image.fromarray(pixels), exif=exif))
    assert (found == np.rot90(pixels, -1)).all()


def test_of_a_moving_picture_the_first_is_taken(tmp_path: Path) -> None:
    """Oracle: two frames of one colour each."""
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert image_file(path)[0, 0].tolist() == [255, 0, 0]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


DAMAGED = {
    "empty": b"",
    "text": b"not an image",
    "header only": png((b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))),
    "wrong data": png(
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)), (b"IDAT", b"xx"), (b"IEND", b"")
    ),
    "a bomb": png((b"IHDR", struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0)), (b"IEND", b"")),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, what: str) -> None:
    """Oracle: the path in the message."""
    path = tmp_path / "bad.png"
    path.write_bytes(DAMAGED[what])
    with pytest.raises(DataError, match=r"bad\.png is no image"):
        image_file(path)


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_file_with_other_bytes_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Oracle: any change of a good file gives an image or a DataError, and nothing else."""
    folder = tmp_path_factory.mktemp("bytes")
    suffix = data.draw(st.sampled_from(["png", "jpg", "gif", "bmp", "webp"]))
    whole = bytearray(saved(folder, f"a.{suffix}", Image.new("RGB", (6, 5), "green")).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = folder / f"b.{suffix}"
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    try:
        assert image_file(path).shape[2] == 3
    except DataError as error:
        assert str(path) in str(error)
