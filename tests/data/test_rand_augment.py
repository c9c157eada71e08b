"""RandAugment: each operation against Pillow or a plain map, magnitudes, and each image by its own key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from selfstudy.core.errors import UsageError
from selfstudy.data import rand_augment
from selfstudy.data.rand_augment import OPERATIONS, RandAugment
from selfstudy.data.views import view_keys

KEYS = view_keys(3, np.arange(400))


def pictures(count: int = 6, channels: int = 3, size: int = 16) -> torch.Tensor:
    """Bytes as numbers from 0 to 1, with a smooth part, so that no value fills a channel."""
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 200, (count, channels, size, size)) + np.arange(size) * 3
    return torch.from_numpy(noisy.clip(0, 255).astype(np.float32)) / 255


def done(name: str, images: torch.Tensor, level: float, sign: float = 1.0) -> torch.Tensor:
    levels = torch.full((len(images),), level)
    return OPERATIONS[name](images, levels, sign * levels).clamp(0, 1)


def by_pillow(images: torch.Tensor, change: Any) -> torch.Tensor:
    rows = images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    made = [np.asarray(change(Image.fromarray(row))) for row in rows]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255


# What timm's functions of the same name do, by Pillow, at a level from 0 to 1 and a sign.
PILLOW: dict[str, Any] = {
    "autocontrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "equalise": lambda image, level, sign: ImageOps.equalize(image),
    "invert": lambda image, level, sign: ImageOps.invert(image),
    "posterise": lambda image, level, sign: ImageOps.posterize(image, 4 - int(4 * level)),
    "solarise": lambda image, level, sign: ImageOps.solarize(image, 256 - int(256 * level)),
    "solarise, brighter": lambda image, level, sign: image.point(
        lambda value: min(255, value + int(110 * level)) if value < 128 else value
    ),
    "colour": lambda image, level, sign: ImageEnhance.Color(image).enhance(1 + 0.9 * sign * level),
    "contrast": lambda image, level, sign: ImageEnhance.Contrast(image).enhance(1 + 0.9 * sign * level),
    "brightness": lambda image, level, sign: ImageEnhance.Brightness(image).enhance(1 + 0.9 * sign * level),
    "sharpness": lambda image, level, sign: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * sign * level),
}


@pytest.mark.parametrize("name", PILLOW)
@pytest.mark.parametrize("level", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_colours_against_pillow(name: str, level: float, sign: float) -> None:
    """Oracle: Pillow with timm's arguments, to three 255ths for its rounding on the way."""
    images = pictures()
    wanted = by_pillow(images, lambda image: PILLOW[name](image, level, sign))
    off = (done(name, images, level, sign) - wanted).abs()
    # A pixel on a threshold may fall on either side of it.
    assert (off > 3 / 255).float().mean() < 0.01, float(off.max())


@pytest.mark.parametrize("name", ["rotate", "shear x", "shear y", "shift x", "shift y"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_places(name: str, sign: float) -> None:
    """Oracle: on images of their own coordinates, the map of each place, about the middle; grey of one half
    comes in from outside; at level 0 nothing moves."""
    size, level = 33, 0.6
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    v, u = torch.meshgrid(line, line, indexing="ij")
    images = torch.stack([u, v])[None] / 2 + 0.5
    angle = torch.tensor(np.deg2rad(30 * level * sign))
    part = sign * level
    places = {
        "rotate": (angle.cos() * u - angle.sin() * v, angle.sin() * u + angle.cos() * v),
        "shear x": (u + 0.3 * part * v, v),
        "shear y": (u, v + 0.3 * part * u),
        "shift x": (u + 2 * 0.45 * part, v),
        "shift y": (u, v + 2 * 0.45 * part),
    }[name]
    found = done(name, images, level, sign)[0]
    inside = (torch.stack(places).abs() < 0.95).all(0)
    outside = (torch.stack(places).abs() > 1.1).any(0)
    assert torch.allclose(found[:, inside], torch.stack(places)[:, inside] / 2 + 0.5, atol=1e-5)
    assert (found[:, outside] == 0.5).all() and (name == "rotate" or outside.any())
    assert torch.allclose(done(name, images, 0.0), images, atol=1e-5)


def test_flat_channels_stay() -> None:
    """Oracle: stretching or equalising one value is that value."""
    flat = torch.full((2, 3, 8, 8), 100 / 255)
    for name in ("autocontrast", "equalise"):
        assert torch.allclose(done(name, flat, 0.5), flat)


def test_an_image_depends_on_its_key_alone() -> None:
    """Oracle: each image by itself, and the batch in another order; the input is left as it is."""
    images, keys = pictures(40), KEYS[:40]
    kept = images.clone()
    augment = RandAugment(operations=2)
    made = augment(images, keys, 5.0)
    assert torch.equal(images, kept)
    for place in (0, 7, 39):
        alone = augment(images[place : place + 1], keys[place : place + 1], 5.0)
        assert torch.allclose(alone, made[place : place + 1], atol=1e-6)
    assert torch.allclose(augment(images.flip(0), keys[::-1].copy(), 5.0).flip(0), made, atol=1e-6)


def test_how_often_and_how_strongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the fields: half of the images, every operation alike, levels about m / 10 and never outside
    0 to 1, either sign."""
    seen: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    signs: list[float] = []

    def noted(name: str) -> Any:
        def change(images: torch.Tensor, level: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
            seen[name] += level.tolist()
            signs.extend((signed / level.clamp(min=1e-9)).tolist())
            return images

        return change

    monkeypatch.setattr(rand_augment, "OPERATIONS", {name: noted(name) for name in OPERATIONS})
    images = torch.zeros(4000, 1, 2, 2)
    keys = view_keys(1, np.arange(4000))
    RandAugment()(images, keys, 7.0)
    levels = np.concatenate(list(seen.values()))
    assert 1880 < len(levels) < 2120, "half of 4,000, four deviations"
    assert all(80 < len(found) < 190 for found in seen.values())
    assert abs(levels.mean() - 0.7) < 0.005 and abs(levels.std() - 0.05) < 0.005
    assert abs(np.mean(signs)) < 0.1 and set(np.round(signs, 3)) == {-1.0, 1.0}
    for name in seen:
        seen[name].clear()
    RandAugment(operations=3, probability=1.0, spread=3.0)(images, keys, 10.0)
    levels = np.concatenate(list(seen.values()))
    assert len(levels) == 12000 and levels.min() >= 0 and levels.max() == 1
    assert RandAugment(operations=0)(images, keys, 7.0) is images


def test_grey_images() -> None:
    """Oracle: colours of grey images stay; all operations give numbers from 0 to 1."""
    grey = pictures(400, channels=1, size=8)
    made = RandAugment(operations=2, probability=1.0)(grey, KEYS, 9.0)
    assert made.shape == grey.shape and made.min() >= 0 and made.max() <= 1
    assert torch.allclose(done("colour", grey, 0.9), grey)


def test_bad_settings() -> None:
    """Oracle: each is named."""
    for wrong in ({"operations": -1}, {"probability": 1.5}, {"spread": -0.1}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            RandAugment(**wrong).validate()
