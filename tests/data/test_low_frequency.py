"""Low-frequency cropping: what it keeps of waves, means, energies and places, and that it is the authors'."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.data.low_frequency import area_crop, low_freq_crop

SIZE = 32
BANDS = st.sampled_from(range(2, SIZE + 1, 2))


def noise(size: int = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transformed(images: torch.Tensor, band: int) -> torch.Tensor:
    """As in the authors' code: both transforms, the four corners, the scale; complex."""
    size, k = images.shape[-1], band // 2
    spectrum = torch.fft.fft2(images)
    kept = torch.zeros(*images.shape[:-2], band, band, dtype=spectrum.dtype)
    kept[..., :k, :k] = spectrum[..., :k, :k]
    kept[..., -k:, :k] = spectrum[..., -k:, :k]
    kept[..., :k, -k:] = spectrum[..., :k, -k:]
    kept[..., -k:, -k:] = spectrum[..., -k:, -k:]
    return torch.fft.ifft2(kept * (band / size) ** 2)


def without_edge(images: torch.Tensor, band: int) -> torch.Tensor:
    """The images with the frequencies below band / 2 alone."""
    spectrum = torch.fft.fft2(images)
    frequency = torch.fft.fftfreq(images.shape[-1], 1 / images.shape[-1]).abs()
    spectrum[..., frequency >= band / 2 - 0.5, :] = 0
    spectrum[..., :, frequency >= band / 2 - 0.5] = 0
    return torch.fft.ifft2(spectrum).real


def wave(frequency: int, points: int, axis: int = -1) -> torch.Tensor:
    line = torch.cos(2 * math.pi * frequency * torch.arange(points, dtype=torch.float64) / points)
    return line.expand(points, points) if axis == -1 else line[:, None].expand(points, points)


@settings(max_examples=20, deadline=None)
@given(BANDS, st.sampled_from([16, 27, 32]))
def test_it_is_the_authors_crop(band: int, size: int) -> None:
    """Oracle: the two Fourier transforms of the authors' code, written out."""
    images = noise(size)
    band = min(band, size // 2 * 2)
    assert torch.allclose(low_freq_crop(images, band), transformed(images, band).real, atol=1e-12)


def test_all_frequencies_are_the_image() -> None:
    """Oracle: the image, to the bit; an odd side too."""
    for size in (32, 27):
        assert torch.equal(low_freq_crop(noise(size), size), noise(size))


@settings(max_examples=20, deadline=None)
@given(BANDS)
def test_means_and_constants_stay(band: int) -> None:
    """Oracle: the mean of the image; a constant; so that normalising before or after is the same."""
    images = noise()
    cropped = low_freq_crop(images, band)
    assert torch.allclose(cropped.mean((2, 3)), images.mean((2, 3)), atol=1e-12)
    assert torch.allclose(low_freq_crop(torch.full((1, 1, SIZE, SIZE), 0.3), band), torch.tensor(0.3))
    normalised = low_freq_crop((images - 0.4) / 0.2, band)
    assert torch.allclose(normalised, (cropped - 0.4) / 0.2, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(BANDS, st.integers(0, SIZE // 2), st.sampled_from([-1, -2]))
def test_waves(band: int, frequency: int, axis: int) -> None:
    """Oracle: below B/2 the same wave on B points; above it nothing; at B/2 half the amplitude, as -B/2 is
    kept without +B/2."""
    if band == SIZE:
        return
    found = low_freq_crop(wave(frequency, SIZE, axis), band)
    if frequency < band // 2:
        assert torch.allclose(found, wave(frequency, band, axis), atol=1e-12)
    elif frequency > band // 2:
        assert found.abs().max() < 1e-12
    else:
        assert torch.allclose(found, wave(frequency, band, axis) / 2, atol=1e-12)


def test_band_limited_images_are_resampled() -> None:
    """Oracle: every second pixel of an image without frequencies of 8 and above, at B = 16."""
    images = without_edge(noise(), 16)
    assert torch.allclose(low_freq_crop(images, 16), images[..., ::2, ::2], atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 15), st.floats(-2, 2))
def test_linear_and_moved_with_the_image(shift: int, factor: float) -> None:
    """Oracle: a sum of images gives the sum; H/B s pixels are s pixels of the crop."""
    first, second = noise(), noise(seed=1)
    crop = low_freq_crop(first, 16)
    assert torch.allclose(
        low_freq_crop(first + factor * second, 16), crop + factor * low_freq_crop(second, 16)
    )
    moved = low_freq_crop(torch.roll(first, (2 * shift, 2 * shift), (2, 3)), 16)
    assert torch.allclose(moved, torch.roll(crop, (shift, shift), (2, 3)), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(BANDS)
def test_energy(band: int) -> None:
    """Oracle: Parseval: |Y|^2 (H/B)^2 is at most |X|^2, and |X|^2 where X has nothing from B/2 on; then the
    transform back is real."""
    images = noise()
    scale = (SIZE / band) ** 2
    assert scale * low_freq_crop(images, band).square().sum() <= images.square().sum() + 1e-9
    limited = without_edge(images, band)
    kept = low_freq_crop(limited, band)
    assert torch.allclose(scale * kept.square().sum(), limited.square().sum())
    if band < SIZE:
        assert transformed(limited, band).imag.abs().max() < 1e-5 * max(1e-3, float(kept.abs().max()))


def test_gradients_flow() -> None:
    """Oracle: finite differences."""
    images = noise(8)[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: low_freq_crop(x, 6), (images,))


def test_other_shapes_and_numbers() -> None:
    """Oracle: sides in proportion; leading dimensions as they come; half precision by way of float32."""
    wide = torch.randn(2, 32, 64)
    assert low_freq_crop(wide, 16).shape == (2, 16, 32)
    assert torch.allclose(low_freq_crop(wide, (16, 20)), transformed_wide(wide, 16, 20), atol=1e-5)
    assert low_freq_crop(torch.randn(20, 20), 12).shape == (12, 12)
    halves = torch.rand(3, 20, 20).half()
    cropped = low_freq_crop(halves, 12)
    assert cropped.dtype == torch.float16
    assert torch.equal(cropped, low_freq_crop(halves.float(), 12).half())


def transformed_wide(images: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    spectrum = torch.fft.fft2(images)
    at = [torch.tensor([*range(band // 2), *range(-(band // 2), 0)]) for band in (rows, columns)]
    kept = spectrum[..., at[0], :][..., at[1]]
    return torch.fft.ifft2(kept * (rows * columns / images.shape[-1] / images.shape[-2])).real


def test_bands_that_are_none() -> None:
    """Oracle: above the side, and below two, an error; an odd band is the even one below, with a warning."""
    for band in (34, 1, 0):
        with pytest.raises(UsageError, match="from 2 to 32"):
            low_freq_crop(noise(), band)
    with pytest.warns(UserWarning, match="odd and becomes 14"):
        assert torch.equal(low_freq_crop(noise(), 15), low_freq_crop(noise(), 14))


def test_area_means() -> None:
    """Oracle: means of two by two pixels; a wave above the band comes in as another, which the crop drops."""
    images = noise()
    by_hand = images.view(2, 3, 16, 2, 16, 2).mean((3, 5))
    assert torch.allclose(area_crop(images, 16), by_hand)
    high = wave(12, SIZE)[None, None]
    assert area_crop(high, 16).abs().max() > 0.1 > low_freq_crop(high, 16).abs().max()
