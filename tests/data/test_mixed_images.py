"""Mixed images: what is pasted or averaged, and that targets are mixed by the same share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.data.mixed_images import MIXES, Mixed


@given(st.integers(0, 10_000), st.sampled_from(sorted(MIXES)))
def test_targets_follow_the_images(seed: int, name: str) -> None:
    """Oracle: images of one grey each: the mean grey of a mixture is the same mixture of the greys."""
    greys = torch.tensor([0.1, 0.5, 0.9, 0.3], dtype=torch.float64)
    images = greys[:, None, None, None].expand(4, 1, 6, 7)
    mixed = MIXES[name](images, np.random.default_rng(seed))
    assert torch.allclose(mixed.images.mean((1, 2, 3)), mixed.of(greys))
    assert 0 <= mixed.share <= 1 and sorted(mixed.order.tolist()) == [0, 1, 2, 3]


def test_cutmix_pastes_and_mixup_averages() -> None:
    """Oracle: every pixel of CutMix is of one of two images, none of mixup is; areas are about uniform."""
    images = torch.arange(3.0)[:, None, None, None].expand(3, 1, 8, 8)
    shares = []
    for seed in range(400):
        pasted = MIXES["cutmix"](images, np.random.default_rng(seed))
        pair = torch.stack([images, images[pasted.order]])
        assert bool((pasted.images == pair).any(0).all())
        shares.append(pasted.share)
    assert np.mean(shares) > 0.5 and min(shares) < 0.2 and max(shares) > 0.95
    averaged = MIXES["mixup"](images, np.random.default_rng(2))
    assert averaged.order.tolist() != [0, 1, 2] and len(averaged.images.unique()) == 3


def test_whose_prediction_a_mixture_is() -> None:
    """Oracle: the place of the image with the larger share."""
    order, places = torch.tensor([2, 0, 1]), np.array([7, 8, 9])
    assert Mixed(torch.zeros(3), order, 0.5).larger(places).tolist() == [7, 8, 9]
    assert Mixed(torch.zeros(3), order, 0.4).larger(places).tolist() == [9, 7, 8]
    assert Mixed(torch.zeros(3), order, 0.25).of(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx(
        [2.5, 1.25, 2.25]
    )
