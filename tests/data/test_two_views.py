"""Two views: their streams, their pipelines, and the warning where they are identical."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from selfstudy.core.random import stream_key
from selfstudy.data.image_sets import image_splits
from selfstudy.data.two_views import two_views
from selfstudy.data.views import ImageViews, view_keys

NONE = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
AT = np.array([5, 3])


def test_streams_and_pipelines() -> None:
    """Oracle: each view made by itself, from the streams that the docstring names."""
    images, turned = image_splits("digits")["train"], ImageViews(rotation=90.0)
    found = two_views(images, ImageViews(), turned, stream_key)(4, AT)
    for which, (views, view) in enumerate(zip((ImageViews(), turned), found, strict=True), start=1):
        alone = views(images.pixels(AT), view_keys(stream_key("view", which, 4), AT))
        assert torch.equal(view, alone)


def test_one_pipeline_gives_two_views() -> None:
    """Oracle: the streams of the two views differ, and steps have their own."""
    views = two_views(image_splits("digits")["train"], ImageViews(), ImageViews(), stream_key)
    first, second = views(0, AT)
    assert not torch.equal(first, second) and not torch.equal(first, views(1, AT)[0])


def test_identical_views_are_said_at_the_first_step() -> None:
    """Oracle: pipelines without steps give the pixels, twice."""
    images = image_splits("digits")["train"]
    views = two_views(images, NONE, NONE, stream_key)
    with pytest.warns(UserWarning, match="views are identical"):
        first, second = views(0, AT)
    assert torch.equal(first, images.pixels(AT)) and torch.equal(second, first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        views(1, AT)
