"""Masked images: which patches are hidden, what is to be told, and where the loss is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.random import derive
from selfstudy.learning.masked_images import (
    hidden_count,
    kept_patches,
    masked_flops,
    masked_image_loss,
    patch_targets,
)
from selfstudy.models.encoders.masked_decoder import MaskedAutoencoder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def encoder() -> MaskedAutoencoder:
    return MaskedAutoencoder(
        channels=1, size=8, patch=2, hidden=8, layers=1, heads=2, decoder_hidden=8
    ).eval()


def pixels(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 2**63))
def test_how_many_patches_are_hidden(patches: int, ratio: float, key: int) -> None:
    """Oracle: the share rounded, within what leaves one hidden and one seen; places differ and rise."""
    kept = kept_patches(derive(key, np.arange(3)), patches, ratio).numpy()
    count = min(max(round(ratio * patches), 1), patches - 1)
    assert kept.shape == (3, patches - count) and hidden_count(patches, ratio) == count
    assert (np.diff(kept, axis=1) > 0).all() and kept.min() >= 0 and kept.max() < patches


def test_which_patches_depends_on_the_key_alone() -> None:
    """Oracle: the same keys give the same; each patch is seen at its share, within five deviations."""
    keys = derive(1, np.arange(4000))
    kept = kept_patches(keys, 16, 0.75)
    assert torch.equal(kept[5:6], kept_patches(keys[5:6], 16, 0.75))
    seen = torch.bincount(kept.flatten(), minlength=16) / 4000
    assert (seen - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5


def test_normalised_targets() -> None:
    """Oracle: mean 0 and variance 1 of each patch; one of a single colour is 0."""
    patches = torch.rand(3, 5, 16)
    patches[0, 0] = 0.3
    found = patch_targets(patches, normalised=True)
    assert found.mean(2).abs().max() < 1e-5 and not found[0, 0].any()
    assert torch.allclose(found.var(2).flatten()[1:], torch.ones(14), atol=1e-4)
    assert torch.equal(patch_targets(patches, normalised=False), patches)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_over_hidden_patches_alone(normalised: bool) -> None:
    """Oracle: a loop over images and hidden patches, in pixels cut out by hand."""
    model, images, keys = encoder(), pixels(), derive(7, np.arange(2))
    kept = kept_patches(keys, 16, 0.75)
    found = masked_image_loss(model, images, keys, normalised=normalised)
    told = model.told(model.tokens(model.seen(images), kept), kept)
    parts = []
    for image in range(2):
        for place in set(range(16)) - set(kept[image].tolist()):
            row, column = divmod(place, 4)
            patch = images[image, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
            if normalised:
                patch = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            parts.append((told[image, place] - patch).square().mean())
    assert len(parts) == 2 * 12 and torch.allclose(found, torch.stack(parts).mean(), atol=1e-6)


def test_what_is_hidden_is_not_seen() -> None:
    """Oracle: the encoder's states stay the same when hidden pixels are changed."""
    model, images = encoder(), pixels(1)
    kept = kept_patches(derive(7, np.arange(1)), 16, 0.75)
    row, column = divmod(next(p for p in range(16) if p not in kept[0].tolist()), 4)
    other = images.clone()
    other[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 1.0
    assert torch.equal(model.tokens(model.seen(images), kept), model.tokens(model.seen(other), kept))
    assert not torch.equal(model.tokens(model.seen(images)), model.tokens(model.seen(other)))


def test_operations_of_a_masked_pass() -> None:
    """Oracle: two operations for each weight of a block (12 d^2) and of the decoder's first map (d^2), for
    each of the twelve patches more that are seen of 14 instead of 2."""
    model = encoder()
    assert masked_flops(model, 0.1) - masked_flops(model, 0.9) == 12 * 2 * (12 + 1) * 8**2
