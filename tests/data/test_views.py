"""Views: where each pixel of a view comes from, its colours, its streams, and what is refused."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from selfstudy.core.errors import UsageError
from selfstudy.core.random import uniforms
from selfstudy.data.views import ImageViews, VectorViews, view_keys

KEYS = view_keys(7, np.arange(200))
STILL: dict[str, Any] = {"crop": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}
COLOURS = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def images(count: int, channels: int = 3, size: int = 12) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((count, channels, size, size), np.float32))


def sources(views: ImageViews, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each of 200 views the affine map that it takes its pixels by: matrices [200, 2, 2], offsets.

    The images hold their own coordinates, from -1 to 1; the map is fitted in the middle of the view, which
    looks at nothing beyond the edge.
    """
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    middle = ((x.abs() < 0.6) & (y.abs() < 0.6)).flatten()
    made = views(torch.stack([x, y]).expand(200, 2, size, size), KEYS).flatten(2)[:, :, middle]
    given = torch.stack([x.flatten(), y.flatten(), torch.ones(size * size)], 1)[middle].expand(200, -1, 3)
    found = torch.linalg.lstsq(given, made.transpose(1, 2)).solution
    assert (given @ found - made.transpose(1, 2)).abs().max() < 1e-5
    return found[:, :2].transpose(1, 2), found[:, 2]


def test_crops_have_the_area_and_shape_asked_for_and_lie_inside() -> None:
    """Oracle: the affine map of each view, found by least squares from images that hold their coordinates."""
    matrix, offset = sources(ImageViews(**{**STILL, "crop": (0.3, 0.6), "ratio": (0.8, 1.25), "flip": 0.5}))
    width, height = matrix[:, 0, 0].abs(), matrix[:, 1, 1]
    assert matrix[:, 0, 1].abs().max() < 1e-5 and matrix[:, 1, 0].abs().max() < 1e-5
    area, ratio = width * height, width / height
    assert 0.3 <= area.min() < 0.33 and 0.57 < area.max() <= 0.6
    assert 0.8 <= ratio.min() < 0.83 and 1.2 < ratio.max() <= 1.25
    for extent, middle in ((width, offset[:, 0]), (height, offset[:, 1])):
        assert (middle.abs() + extent).max() <= 1 + 1e-5
        assert ((middle / (1 - extent)) ** 2).mean() == pytest.approx(1 / 3, abs=0.08), "anywhere alike"
    assert 70 < (matrix[:, 0, 0] < 0).sum() < 130, "mirrored by half"


def cropped_by_hand(image: np.ndarray, width: float, height: float, x: float, y: float) -> np.ndarray:
    """Return the part [C, S, S] of an image of that width and height (shares) about (x, y), from -1 to 1."""
    size = image.shape[1]
    found = np.empty_like(image)
    for row in range(size):
        for column in range(size):
            places = []
            for place, extent, middle in ((row, height, y), (column, width, x)):
                inside = extent * ((place + 0.5) * 2 / size - 1) + middle
                at = min(max((inside + 1) * size / 2 - 0.5, 0), size - 1)  # the edge is mirrored onto itself
                low = min(int(at), size - 2)
                places.append(((low, 1 - (at - low)), (low + 1, at - low)))
            found[:, row, column] = sum(
                down * across * image[:, i, j] for i, down in places[0] for j, across in places[1]
            )
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_by_hand(channels: int) -> None:
    """Oracle: a plain loop over samples and pixels, between the four nearest, from the same numbers."""
    views, size = ImageViews(**{**STILL, "crop": (0.2, 0.7)}), 7
    whole = images(6, channels, size)
    made = views(whole, KEYS[:6]).numpy()
    for image, key, view in zip(whole.numpy(), KEYS, made, strict=False):
        area, ratio, top, left = (float(uniforms(key, number)) for number in range(4))
        area = 0.2 + 0.5 * area
        ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * ratio)
        width, height = min(1, math.sqrt(area * ratio)), min(1, math.sqrt(area / ratio))
        x, y = (1 - width) * (2 * left - 1), (1 - height) * (2 * top - 1)
        assert np.allclose(view, cropped_by_hand(image, width, height, x, y), atol=1e-5)


@given(
    fields=st.fixed_dictionaries(
        {
            name: st.sampled_from([0.0, 0.5, 1.0])
            for name in ("flip", "jitter", "grey", "blur", "solarise", "brightness", "contrast", "saturation")
        }
    ),
    channels=st.sampled_from([1, 3]),
    at=st.lists(st.integers(0, 7), min_size=1, max_size=8),
)
@settings(deadline=None, max_examples=40)
def test_laws_of_all_views(fields: dict[str, Any], channels: int, at: list[int]) -> None:
    """Oracle: laws: shape and range stay; any samples in any order have the views that they have alone."""
    views, eight = ImageViews(**fields), images(8, channels)
    made = views(eight, KEYS[:8])
    assert made.shape == eight.shape and made.min() >= 0 and made.max() <= 1
    assert torch.allclose(views(eight[at], KEYS[:8][at]), made[at], atol=1e-6)


def test_mirrored_twice_is_the_image() -> None:
    """Oracle: the image."""
    views, eight = ImageViews(**{**STILL, "flip": 1.0}), images(8)
    assert torch.allclose(views(views(eight, KEYS[:8]), KEYS[8:16]), eight, atol=1e-6)


def test_turns_and_shifts() -> None:
    """Oracle: as above; a turn keeps lengths and is at most 30 degrees, a shift is a share of the side."""
    matrix, offset = sources(ImageViews(**STILL, rotation=30.0))
    turned = matrix @ matrix.transpose(1, 2)
    assert (turned - torch.eye(2)).abs().max() < 1e-4 and (torch.linalg.det(matrix) > 0).all()
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]) * 180 / math.pi
    assert offset.abs().max() < 1e-5 and 27 < angle.max() <= 30 and -30 <= angle.min() < -27
    matrix, offset = sources(ImageViews(**STILL, shift=0.1))
    assert (matrix - torch.eye(2)).abs().max() < 1e-5
    for along in offset.T:
        assert 0.19 < along.max() <= 0.2 and -0.2 <= along.min() < -0.19, "of a side that is 2 long"


def test_a_mirror_image_is_exact() -> None:
    """Oracle: torch.flip."""
    given = images(200)
    made = ImageViews(**{**STILL, "flip": 1.0})(given, KEYS)
    torch.testing.assert_close(made, given.flip(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "strength", "enhance"),
    [
        ("brightness", 0.4, ImageEnhance.Brightness),
        ("contrast", 0.6, ImageEnhance.Contrast),
        ("saturation", 0.9, ImageEnhance.Color),
    ],
)
def test_colours_as_pillow_changes_them(step: str, strength: float, enhance: Any) -> None:
    """Oracle: Pillow on bytes, with the factor that explains the view best; it rounds to bytes, twice."""
    given = (images(40) * 255).round() / 255
    views = ImageViews(**{**STILL, "jitter": 1.0, **COLOURS, step: strength})
    factors = np.linspace(1 - strength, 1 + strength, 401)
    found = []
    for image, view in zip(given, views(given, KEYS[:40]), strict=True):
        pillow = enhance(Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)))
        candidates = np.stack([np.asarray(pillow.enhance(factor)) for factor in factors]) / 255
        apart = np.abs(candidates - view.permute(1, 2, 0).numpy()).max((1, 2, 3))
        assert apart.min() < 2.5 / 255
        found.append(factors[apart.argmin()])
    assert min(found) < 1 - 0.8 * strength and max(found) > 1 + 0.8 * strength


def test_hue_turns_the_circle_of_colours() -> None:
    """Oracle: colorsys on each pixel: value and saturation stay, the hues of an image turn by one angle."""
    given = images(30, size=4)
    made = ImageViews(**{**STILL, "jitter": 1.0, **COLOURS, "hue": 0.1})(given, KEYS[:30])
    turns = []
    for image, view in zip(given.flatten(2), made.flatten(2), strict=True):
        before, after = (
            np.array([colorsys.rgb_to_hsv(*p) for p in part.T.tolist()]) for part in (image, view)
        )
        np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=1e-4)
        turn = (after[:, 0] - before[:, 0] + 0.5) % 1 - 0.5
        assert np.ptp(turn) < 1e-4
        turns.append(turn.mean())
    assert -0.1001 <= min(turns) < -0.08 and 0.08 < max(turns) <= 0.1001


def test_grey_and_solarised() -> None:
    """Oracle: luma by hand; what is above one half is inverted, the rest stays."""
    given = images(20)
    grey = ImageViews(**{**STILL, "grey": 1.0})(given, KEYS[:20])
    luma = (given * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(grey, luma.expand_as(given))
    solarised = ImageViews(**STILL, solarise=1.0)(given, KEYS[:20])
    assert torch.equal(solarised, torch.where(given < 0.5, given, 1 - given))


def test_blur() -> None:
    """Oracle: scipy's Gaussian filter with the width that explains the view best."""
    given = images(20, channels=1, size=16)
    made = ImageViews(**STILL, blur=1.0, sigma=(0.5, 1.5))(given, KEYS[:20])
    widths, found = np.linspace(0.5, 1.5, 1001), []
    for image, view in zip(given[:, 0].numpy(), made[:, 0].numpy(), strict=True):
        apart = [np.abs(gaussian_filter(image, w, mode="mirror", radius=3) - view).max() for w in widths]
        assert min(apart) < 2e-3
        found.append(widths[int(np.argmin(apart))])
    assert min(found) < 0.65 and max(found) > 1.35


@pytest.mark.parametrize("name", ["flip", "jitter", "grey", "blur", "solarise"])
def test_steps_happen_with_their_probability_and_to_nothing_else(name: str) -> None:
    """Oracle: binomial counts; images that a step passes by are what they are without it."""
    given, on = images(200), {**STILL, "flip": 0.5, "crop": (0.5, 1.0), "rotation": 10.0, "sigma": (0.5, 2.0)}
    without = ImageViews(**{**on, name: 0.0})(given, KEYS)
    half = ImageViews(**{**on, name: 0.5})(given, KEYS)
    always = ImageViews(**{**on, name: 1.0})(given, KEYS)
    changed = ~torch.isclose(half, without, atol=1e-6).flatten(1).all(1)
    assert 75 < changed.sum() < 125
    assert torch.equal(half[changed], always[changed]) and torch.equal(half[~changed], without[~changed])


def test_a_view_depends_on_its_key_alone() -> None:
    """Oracle: views of a part of a batch, in another order, are equal bit for bit; other keys differ."""
    given, views = images(200), ImageViews(rotation=10.0, blur=0.5, solarise=0.5)
    all_views = views(given, KEYS)
    some = np.array([150, 3, 77])
    assert torch.equal(views(given[some], KEYS[some]), all_views[some])
    assert not torch.isclose(views(given, view_keys(8, np.arange(200))), all_views).flatten(1).all(1).any()
    assert all_views.min() >= 0 and all_views.max() <= 1


def test_grey_images_have_no_colours_to_change() -> None:
    """Oracle: the views without saturation, hue and grey."""
    given = images(200, channels=1)
    plain = ImageViews(saturation=0.0, hue=0.0, grey=0.0)
    assert torch.equal(ImageViews()(given, KEYS), plain(given, KEYS))


def test_nothing_to_do_gives_the_images() -> None:
    """Oracle: the images."""
    given = images(3)
    assert torch.equal(ImageViews(**STILL)(given, KEYS[:3]), given)


def test_noise_of_vectors() -> None:
    """Oracle: mean 0 and deviation 0.3 to five standard errors; rows alone are equal bit for bit."""
    given = torch.arange(50_000.0).view(5000, 10)
    keys = view_keys(3, np.arange(5000))
    added = VectorViews(noise=0.3)(given, keys) - given
    assert abs(float(added.mean())) < 5 * 0.3 / 50_000**0.5
    assert float(added.std()) == pytest.approx(0.3, abs=5 * 0.3 / 100_000**0.5)
    correlation = torch.corrcoef(added.T) - torch.eye(10)
    assert correlation.abs().max() < 5 / 5000**0.5
    assert torch.equal(VectorViews(noise=0.3)(given[5:7], keys[5:7]) - given[5:7], added[5:7])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"flip": 1.5}, r"flip is 1.5; it must be from 0 to 1"),
        ({"jitter": -0.1}, "jitter"),
        ({"contrast": float("nan")}, "contrast"),
        ({"crop": (0.9, 0.5)}, "crop is 0.9,0.5"),
        ({"crop": (0.0, 0.5)}, "crop"),
        ({"crop": (0.5, 1.5)}, "crop"),
        ({"sigma": (0.0, 1.0)}, "sigma"),
        ({"hue": 0.6}, "hue 0.6"),
        ({"shift": 1.0}, "shift 1.0"),
        ({"rotation": 181.0}, "rotation 181"),
    ],
)
def test_settings_that_cannot_be_right(fields: dict[str, Any], said: str) -> None:
    """Oracle: the message names the field and its value."""
    with pytest.raises(UsageError, match=said):
        ImageViews(**fields).validate()
