"""The low spatial frequencies of images, as smaller images.

Wang et al. 2023, "EfficientTrain", arXiv 2211.09703, section 4.1. Of the discrete Fourier transform of each
channel the B x B lowest frequencies are kept, -B/2 .. B/2 - 1 along each axis, scaled by (B / H)^2, and
transformed back on B x B points. Constant images stay as they are, so that it makes no difference whether
each channel is normalised before or after.
"""

from __future__ import annotations

import functools
import warnings

import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError


def low_freq_crop(images: torch.Tensor, band: int | tuple[int, int]) -> torch.Tensor:
    """Return the B x B lowest frequencies of images as images of B x B pixels; gradients flow through.

    Computed as Re(A X A^T) with A [B, H] the transform, the crop and the transform back of one axis: two
    small products of matrices instead of two Fourier transforms. Frequency -B/2 has no partner at +B/2, and
    what is imaginary there is left out, as in the authors' code. Half-precision numbers are multiplied as
    float32.

    Args:
        images: [..., H, W].
        band: B, even and at most H; of images that are not square that of the height, with the same share of
            the width, or both. An odd B below H is rounded down, with a warning.

    Returns:
        [..., B, B], or [..., B_h, B_w].

    Raises:
        UsageError: B above H, or below 2.
    """
    height, width = images.shape[-2:]
    both = (band, round(band * width / height)) if isinstance(band, int) else band
    rows, columns = _checked(both[0], height), _checked(both[1], width)
    wide = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
    if rows < height or columns < width:
        first, second = (_axis(*of).to(wide) for of in ((height, rows), (width, columns)))  # [2, B, H]
        found = first[0] @ wide @ second[0].mT
        wide = found - first[1] @ wide @ second[1].mT if second[1].any() and first[1].any() else found
    return wide.to(images.dtype)


def area_crop(images: torch.Tensor, band: int) -> torch.Tensor:
    """Return images [B, C, H, W] shrunk to `band` x `band` pixels by the mean of what each pixel covers.

    What low-frequency cropping is compared with: frequencies above the band come in as others.
    """
    return functional.interpolate(images, (band, band), mode="area")


def _checked(band: int, size: int) -> int:
    if not 2 <= band <= size:
        raise UsageError(f"The band {band} must be from 2 to {size}, the side of the images in pixels.")
    if band % 2 and band < size:
        warnings.warn(f"The band {band} is odd and becomes {band - 1}.", stacklevel=3)
        return band - 1
    return band


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _axis(size: int, band: int) -> torch.Tensor:
    """Return the real and the imaginary part of A along an axis: [2, band, size], float64."""
    if band == size:
        whole = torch.eye(size, dtype=torch.float64)
        return torch.stack([whole, torch.zeros_like(whole)])
    spectrum = torch.fft.fft(torch.eye(size, dtype=torch.float64), dim=0)  # [frequency, pixel]
    kept = torch.cat([spectrum[: band // 2], spectrum[-(band // 2) :]]) * (band / size)
    return torch.view_as_real(torch.fft.ifft(kept, dim=0)).movedim(-1, 0).contiguous()
