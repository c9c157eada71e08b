"""Pictures of a curriculum of inputs: its stages, and what the network sees in each of them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from selfstudy.data.rand_augment import LARGEST
from selfstudy.evaluation.image_rows import image_row, rows_picture
from selfstudy.evaluation.pictures import Picture, line, picture
from selfstudy.learning.curriculum import CurriculumSchedule


def stages_picture(schedule: CurriculumSchedule, size: int, steps: int) -> Picture:
    """Return the side of what is seen and the magnitude of the augmentation over the steps.

    Args:
        schedule: of the training.
        size: of the images in pixels.
        steps: of the training.
    """
    stages = [schedule(step / steps) for step in range(steps)]
    steady = {"line": {"shape": "hv"}}
    return picture(
        "The curriculum",
        [
            line("side of what is seen", range(steps), [stage.band for stage in stages], **steady),
            line(
                "magnitude of the augmentation (right)",
                range(steps),
                [stage.magnitude for stage in stages],
                yaxis="y2",
                line={"shape": "hv", "dash": "dot"},
            ),
        ],
        x="step",
        y="pixels",
        note=f"Where a step costs what its pixels do, all steps cost {100 * schedule.cost(size):.0f} % of "
        f"those on whole images of {size} pixels.",
        layout={
            "yaxis": {"rangemode": "tozero"},
            "yaxis2": {"overlaying": "y", "side": "right", "range": [0, 1.05 * LARGEST], "showgrid": False},
        },
    )


def seen_picture(
    schedule: CurriculumSchedule,
    images: torch.Tensor,
    crop: Callable[[torch.Tensor, int], torch.Tensor],
) -> Picture:
    """Return images as they are seen in the stages with their bands, each magnified to the whole side.

    Args:
        schedule: of the training.
        images: a row of them, [N, C, H, W], 0 to 1.
        crop: makes images of a band of them.
    """
    size = images.shape[-1]
    bands = sorted({*schedule.bands})
    nearest = [torch.arange(size) * band // size for band in bands]
    seen = [crop(images, band) for band in bands]
    rows = [made[:, :, at][:, :, :, at] for made, at in zip(seen, nearest, strict=True)]
    return rows_picture(
        "What the network sees",
        [image_row(row.clamp(0, 1).mul(255).round().byte().numpy()) for row in rows],
        note="From above: images of " + ", ".join(map(str, bands)) + " pixels a side, magnified.",
    )
