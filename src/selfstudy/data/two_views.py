"""Two random views of each image of a batch, from streams that a step names."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from selfstudy.data.image_sets import ImageSet
from selfstudy.data.views import ImageViews, view_keys

TwoViews = Callable[[int, np.ndarray], tuple[torch.Tensor, torch.Tensor]]
"""From a step and the places of its inputs [B] to two views of them, both [B, ...]."""


def two_views(
    images: ImageSet, views: ImageViews, other_views: ImageViews, key: Callable[..., int]
) -> TwoViews:
    """Return how the two views of a step's images are made; warns where those of step 0 are identical.

    Args:
        images: whose places are asked for.
        views: makes the first view.
        other_views: makes the second.
        key: names the streams ("view", 1, step) and ("view", 2, step), as `run.key` does.
    """

    def both(step: int, at: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = images.pixels(at)
        first = views(pixels, view_keys(key("view", 1, step), at))
        second = other_views(pixels, view_keys(key("view", 2, step), at))
        if step == 0 and torch.equal(first, second):
            warnings.warn(
                "The two views are identical, so that agreeing on them teaches nothing: what makes "
                "views differ is switched off, or the images are constant.",
                stacklevel=2,
            )
        return first, second

    return both
