"""Masked autoencoding of images: hide most patches, and tell their pixels from the others.

He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377, equations of section 3.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from selfstudy.core.random import uniforms
from selfstudy.models.encoders.masked_decoder import MaskedImageEncoder

STEADY = 1e-6  # added to the variance of a patch


def hidden_count(patches: int, ratio: float) -> int:
    """Return how many patches are hidden: the share rounded, at least one, and one is left to be seen.

    >>> hidden_count(49, 0.75), hidden_count(4, 0.99)
    (37, 3)
    """
    return min(max(1, round(ratio * patches)), patches - 1)


def kept_patches(keys: np.ndarray, patches: int, ratio: float) -> torch.Tensor:
    """Return the places of the patches that are seen, in rising order: [B, K].

    Args:
        keys: [B], a stream for each image.
        patches: T, of an image.
        ratio: share of them that is hidden.
    """
    drawn = uniforms(np.asarray(keys)[:, None], np.arange(patches)[None])
    kept = np.argsort(drawn, axis=1, kind="stable")[:, hidden_count(patches, ratio) :]
    return torch.from_numpy(np.sort(kept, axis=1))


def patch_targets(pixels: torch.Tensor, *, normalised: bool) -> torch.Tensor:
    """Return what is to be told of patches [B, T, P]; normalised, each has mean 0 and variance 1."""
    if not normalised:
        return pixels
    variance, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
    return (pixels - mean) / (variance + STEADY).sqrt()


def masked_image_loss(
    encoder: MaskedImageEncoder,
    images: torch.Tensor,
    keys: np.ndarray,
    *,
    ratio: float = 0.75,
    normalised: bool = True,
) -> torch.Tensor:
    """Return the mean squared error of the pixels of hidden patches; patches that are seen do not count.

    Args:
        encoder: with its decoder.
        images: [B, C, H, W], 0 to 1.
        keys: [B], streams that say which patches are hidden.
        ratio: share of the patches that is hidden.
        normalised: whether each patch's pixels are told less their mean, over their deviation.
    """
    inputs = encoder.seen(images)
    kept = kept_patches(keys, encoder.patches, ratio).to(inputs.device)
    told = encoder.told(encoder.tokens(inputs, kept), kept)
    targets = patch_targets(encoder.pixels_of(inputs), normalised=normalised)
    hidden = torch.ones(targets.shape[:2], device=inputs.device).scatter_(1, kept, 0.0)
    return ((told.float() - targets).square().mean(2) * hidden).sum() / hidden.sum()


def masked_flops(encoder: MaskedImageEncoder, ratio: float) -> float:
    """Return the floating-point operations of one image's loss, two for a multiplication and addition."""
    image = torch.zeros(1, encoder.channels, encoder.size, encoder.size, device=encoder.mean.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        masked_image_loss(encoder, image, np.zeros(1, dtype=np.uint64), ratio=ratio)
    return float(counter.get_total_flops())
