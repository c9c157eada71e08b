"""What all encoders of images share: inputs of every kind, statistics, saving, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import selfstudy
from selfstudy.core.errors import DataError, MachineError, UsageError
from selfstudy.data import image_sets
from selfstudy.data.image_folder import squared
from selfstudy.data.image_sets import ImageSet
from selfstudy.models.encoders import base
from selfstudy.models.encoders.base import ImageEncoder, calibrate

SPECS = ("conv?first=4", "resnet?first=4", "vit?hidden=8&layers=1&heads=2", "mlp?hidden=8")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def images(count: int = 40, channels: int = 3, size: int = 8) -> ImageSet:
    """Images that are dark in the first channel and bright in the last."""
    rng = np.random.default_rng(0)
    levels = np.linspace(60, 200, channels)[:, None, None]
    pixels = np.clip(rng.normal(levels, 20, (count, channels, size, size)), 0, 255)
    return ImageSet("drawn", pixels.astype(np.uint8), np.zeros(count, np.int64), ())


def made(spec: str = SPECS[0], **options: int) -> ImageEncoder:
    return selfstudy.model(spec).made_for(images(**options))


def unlike(encoder: ImageEncoder) -> ImageEncoder:
    """Return a copy whose weights and running statistics were changed, as training does."""
    changed = encoder.copy()
    with torch.no_grad():
        for weight in changed.state_dict().values():
            if weight.is_floating_point():
                weight.add_(0.01)
    return changed


# The data's shape and statistics.


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoder_is_made_for_images(spec: str, channels: int) -> None:
    """Oracle: numpy's mean and deviation of each channel; the width that it names."""
    whole = images(channels=channels)
    encoder = selfstudy.model(spec).made_for(whole)
    assert encoder.config["channels"] == channels and encoder.config["size"] == 8
    pixels = whole.images / 255
    assert encoder.mean.flatten().numpy() == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-5)
    assert encoder.deviation.flatten().numpy() == pytest.approx(pixels.std((0, 2, 3)), abs=1e-3)
    assert encoder.embed(whole).shape == (40, encoder.width) and encoder.embed(whole).dtype == np.float32
    assert not encoder.training


def test_features_are_those_of_normalised_images() -> None:
    """Oracle: the network on images less the mean over the deviation."""
    encoder, whole = made(), images()
    by_hand = (whole.pixels(slice(None)) - encoder.mean) / encoder.deviation
    with torch.no_grad():
        expected = encoder.encode(by_hand)
    assert np.allclose(encoder.embed(whole), expected.numpy(), atol=1e-5)


def test_a_dark_channel_divides_by_no_zero() -> None:
    """Oracle: finite features of images whose first channel is constant."""
    whole = images()
    whole.images[:, 0] = 7
    assert np.isfinite(selfstudy.model(SPECS[0]).made_for(whole).embed(whole)).all()


def test_first_weights_depend_on_the_seed_alone() -> None:
    """Oracle: equality around a use of the global generator, which is left as it was."""
    for spec in SPECS:
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        one = made(spec).state_dict()
        assert torch.equal(torch.rand(1), expected), "the global generator was used"
        other, third = made(spec).state_dict(), made(f"{spec}&seed=1").state_dict()
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert any(not torch.equal(one[name], third[name]) for name in one)


def test_made_for_leaves_a_made_encoder_as_it_is() -> None:
    """Oracle: the same object for such images; others are refused with both shapes."""
    encoder = unlike(made())
    assert encoder.made_for(images(count=5)) is encoder
    for options in ({"channels": 1}, {"size": 12}):
        with pytest.raises(UsageError, match=r"takes 8 x 8 images of 3 channels; those of 'drawn'"):
            encoder.made_for(images(**options))


def test_made_for_takes_statistics_where_there_are_none_yet() -> None:
    """Oracle: the encoder that was asked for without channels and size, which takes the same weights."""
    whole = images()
    channels, side, _ = whole.shape
    given = selfstudy.model(f"conv?channels={channels}&size={side}").made_for(whole)
    left_open = selfstudy.model("conv").made_for(whole)
    assert not given.training and np.array_equal(given.embed(whole), left_open.embed(whole))
    for field, wrong in (("channels", channels + 1), ("size", side + 1)):
        with pytest.raises(UsageError, match="channels; those of"):
            selfstudy.model(f"conv?{field}={wrong}").made_for(whole)


def test_made_for_needs_squares() -> None:
    """Oracle: both sides in the message."""
    flat = ImageSet("flat", np.zeros((4, 1, 6, 8), np.uint8), np.zeros(4, np.int64), ())
    with pytest.raises(DataError, match="6 x 8 pixels; make them square"):
        selfstudy.model(SPECS[0]).made_for(flat)


def test_calibration_is_a_plain_average() -> None:
    """Oracle: mean and variance by numpy of what the layer sees; momentum is as before."""
    norm = nn.BatchNorm2d(3, momentum=0.3)
    pixels = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    calibrate(norm, pixels)
    assert norm.running_mean is not None and norm.running_var is not None
    assert np.allclose(norm.running_mean, pixels.mean((0, 2, 3)), atol=1e-6)
    assert np.allclose(norm.running_var, pixels.numpy().var((0, 2, 3), ddof=1), atol=1e-6)
    assert norm.momentum == 0.3 and not norm.training


@pytest.mark.parametrize("field", ["first=0", "stages=0", "channels=-1", "size=-8"])
def test_fields_that_cannot_be_are_refused(field: str) -> None:
    """Oracle: the field and its value in the message."""
    name, _, value = field.partition("=")
    with pytest.raises(UsageError, match=f"field {name} of model 'conv' is {value}"):
        selfstudy.model(f"conv?{field}")


# Inputs.


def test_all_forms_of_an_image_give_one_vector(tmp_path: Path) -> None:
    """Oracle: the features of the set; arrays of bytes, of shares, of int64, and files of the same pixels."""
    for channels in (1, 3):
        whole, encoder = images(count=6, channels=channels), made(channels=channels)
        expected = encoder.embed(whole)
        last = whole.images.transpose(0, 2, 3, 1)
        arrays = [last, last / 255, last.astype(np.int64), (last / 255).astype(np.float32)]
        arrays += [last[..., 0]] if channels == 1 else []
        for array in arrays:
            assert np.allclose(encoder.embed(array), expected, atol=1e-5)
        paths = []
        for number, image in enumerate(last):
            paths.append(tmp_path / f"{channels}-{number}.png")
            Image.fromarray(image if channels == 3 else image[..., 0]).save(paths[-1])
        assert np.allclose(encoder.embed(paths), expected, atol=1e-5)
        assert np.allclose(encoder.embed([str(path) for path in paths]), expected, atol=1e-5)
        for one in (paths[0], str(paths[0])):
            assert np.allclose(encoder.embed(one), expected[:1], atol=1e-5)


def test_files_of_another_size_are_cut_and_resized(tmp_path: Path) -> None:
    """Oracle: `squared` on the pixels of the file."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    encoder = made()
    assert np.array_equal(encoder.embed([tmp_path / "a.png"]), encoder.embed(squared(pixels, 8, 3)[None]))


WRONG: dict[str, tuple[Any, str]] = {
    "another size": (
        np.zeros((2, 9, 9, 3), np.uint8),
        "9 x 9 with 3 channels; this encoder takes 8 x 8 with 3",
    ),
    "another number of channels": (np.zeros((2, 8, 8), np.uint8), "8 x 8 with 1 channels"),
    "one image without its batch": (np.zeros((8, 8, 3), np.uint8), "8 x 3 with 1 channels"),
    "none": (np.zeros((0, 8, 8, 3), np.uint8), "at least one"),
    "an empty list": ([], "at least one"),
    "not finite": (np.full((1, 8, 8, 3), np.inf), "not finite"),
    "bytes as floats": (np.full((1, 8, 8, 3), 200.0), "from 0 to 255, or others from 0 to 1"),
    "negative": (np.full((1, 8, 8, 3), -0.1), "from 0 to 255, or others from 0 to 1"),
    "no file": (["nowhere.png"], "nowhere.png is no image"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_such_image_is_refused(what: str) -> None:
    """Oracle: what is given and what is taken, in the message."""
    given, said = WRONG[what]
    with pytest.raises(DataError, match=said):
        made().embed(given)


def test_files_need_an_encoder_that_knows_its_size(tmp_path: Path) -> None:
    """Oracle: the word that tells what to do."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="made_for"):
        selfstudy.model(SPECS[0]).embed([tmp_path / "a.png"])


def test_embedding_changes_nothing() -> None:
    """Oracle: the weights and running statistics before; the mode is put back."""
    encoder = made("resnet?first=4").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first = encoder.embed(images())
    assert encoder.training and np.array_equal(first, encoder.embed(images()))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_large_sets_are_read_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the features in one piece; the sizes of the parts, smaller where images are large."""
    encoder, whole = made(), images(count=23)
    expected = encoder.embed(whole)
    seen: list[int] = []
    features = type(encoder).features
    monkeypatch.setattr(
        type(encoder), "features", lambda self, part: (seen.append(len(part)), features(self, part))[1]
    )
    monkeypatch.setattr(image_sets, "AT_ONCE", 10)
    monkeypatch.setattr(base, "LARGEST_BATCH", 6)
    assert np.allclose(encoder.embed(whole), expected, atol=1e-5) and seen == [6, 4, 6, 4, 3]
    monkeypatch.setattr(base, "LARGEST_SIDE", 4)
    seen.clear()
    encoder.embed(whole)
    assert max(seen) == 1, "6 images of 4 x 4 are 1.5 of 8 x 8"


def test_a_set_is_mapped_over_places() -> None:
    """Oracle: the places, in order, and each image's own mean."""
    whole = images(count=7)
    found = whole.mapped(lambda pixels, at: torch.stack([pixels.mean((1, 2, 3)), torch.from_numpy(at)], 1))
    assert found[:, 1].tolist() == list(range(7))
    assert np.allclose(found[:, 0], whole.images.mean((1, 2, 3)) / 255, atol=1e-6)


# Saving.


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_saved_is_loaded(spec: str, tmp_path: Path) -> None:
    """Oracle: every weight, statistic and feature, bit for bit; loading by the folder's name too."""
    encoder = unlike(made(spec))
    encoder.save(tmp_path / "saved")
    for again in (type(encoder).load(tmp_path / "saved"), selfstudy.model(str(tmp_path / "saved"))):
        one, other = encoder.state_dict(), again.state_dict()
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        assert np.array_equal(encoder.embed(images()), again.embed(images()))
        assert again.name == encoder.name and again.made_for(images()) is again
    with pytest.raises(MachineError, match="holds a model"):
        type(selfstudy.model("vit" if "vit" not in spec else "conv")).load(tmp_path / "saved")


@pytest.mark.parametrize("spec", SPECS)
def test_the_name_makes_the_untrained_encoder_again(spec: str) -> None:
    """Oracle: the first weights; the statistics of data are not in a name."""
    encoder = made(spec)
    again = selfstudy.model(encoder.name)
    assert again.config == encoder.config
    for weight, other in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_a_copy_has_weights_of_its_own() -> None:
    """Oracle: the original's features after the copy is changed."""
    encoder = made()
    before = encoder.embed(images())
    assert not np.array_equal(unlike(encoder).embed(images()), before)
    assert np.array_equal(encoder.embed(images()), before)
