"""Pictures of a curriculum: the stages over the steps, and images as they are seen."""

from __future__ import annotations

import numpy as np
import torch

from selfstudy.data.low_frequency import low_freq_crop
from selfstudy.evaluation.curriculum_pictures import seen_picture, stages_picture
from selfstudy.learning.curriculum import curriculum

SCHEDULE = curriculum((4, 4, 8), (1.0, 5.0, 9.0))


def test_stages() -> None:
    """Oracle: by hand: two steps a stage; (2 (4/8)^2 + 1) / 3 of the cost."""
    made = stages_picture(SCHEDULE, 8, 6)
    sides, magnitudes = (trace["y"] for trace in made["traces"])
    assert sides == [4, 4, 4, 4, 8, 8] and magnitudes == [1, 1, 5, 5, 9, 9]
    assert "50 %" in made["note"] and "8 pixels" in made["note"]


def test_what_is_seen() -> None:
    """Oracle: each pixel of the cropped image twice along each axis, above the image as it is."""
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shown = np.array(seen_picture(SCHEDULE, images, low_freq_crop)["traces"][0]["z"])
    low = (low_freq_crop(images, 4).clamp(0, 1) * 255).round().repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (shown[:8, :8, 0] == low[0, 0].numpy()).all()
    assert (shown[10:18, 20:28, 1] == (images[2, 0] * 255).round().numpy()).all()
