"""Pictures of further pre-training: how far weights went, what the loss did, hidden patches as told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from selfstudy.core.random import derive
from selfstudy.data.image_sets import ImageSet
from selfstudy.evaluation.image_rows import image_row, rows_picture
from selfstudy.evaluation.pictures import Picture, line, picture
from selfstudy.learning.masked_images import kept_patches
from selfstudy.models.encoders.masked_decoder import MaskedImageEncoder

SHOWN, MOST_POINTS = 8, 300  # images, and points of a curve
GREY, STEADY = 0.5, 1e-6  # of hidden pixels; added to the variance of a patch


def curves_picture(
    lines: Sequence[Mapping[str, Any]], stages: Sequence[str], key: str, title: str, note: str
) -> Picture:
    """Return a logged figure over the steps, one curve for each stage.

    Args:
        lines: of the log, as `run.metrics()` gives them.
        stages: whose lines are drawn.
        key: of the figure in the log.
        title: above the picture.
        note: what is to be seen.
    """
    curves = []
    for stage in stages:
        of_stage = [logged for logged in lines if logged["stage"] == stage and key in logged]
        shown = of_stage[:: max(1, len(of_stage) // MOST_POINTS)]
        curves.append(line(stage, [one["step"] for one in shown], [one[key] for one in shown]))
    return picture(title, curves, x="step", note=note)


def told_rows(
    encoder: MaskedImageEncoder, images: torch.Tensor, *, ratio: float, normalised: bool
) -> list[np.ndarray]:
    """Return rows of images, of what is seen of them, and of those with hidden patches as they are told.

    Args:
        encoder: with its decoder.
        images: [n, C, H, W], 0 to 1.
        ratio: share of the patches that is hidden.
        normalised: whether the decoder tells pixels less the mean of their patch, over its deviation; the
            true mean and deviation are then put in.
    """
    keys = derive(0, np.arange(len(images)))
    kept = kept_patches(keys, encoder.patches, ratio)
    encoder.eval()
    with torch.no_grad():
        inputs = encoder.seen(images)
        pixels = encoder.pixels_of(inputs)
        told = encoder.told(encoder.tokens(inputs, kept), kept)
    if normalised:
        variance, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
        told = told * (variance + STEADY).sqrt() + mean
    seen = torch.zeros(pixels.shape[:2], dtype=torch.bool).scatter_(1, kept, True)[:, :, None]
    whole = torch.where(seen, pixels, told)
    grey = (GREY - encoder.mean) / encoder.deviation
    nothing = encoder.pixels_of(grey.expand(inputs.shape[1:])[None].expand(inputs.shape))
    rows = []
    for patches in (pixels, torch.where(seen, pixels, nothing), whole):
        shown = encoder.autoencoder.unpatchify(patches) * encoder.deviation + encoder.mean
        rows.append(image_row((shown.clamp(0, 1) * 255).byte().numpy()))
    return rows


def rounds_pictures(
    lines: Sequence[Mapping[str, Any]],
    models: Mapping[str, Any],
    inputs: Any,
    *,
    ratio: float,
    normalised: bool,
) -> list[Picture]:
    """Return the pictures of a fit: distance and masked loss by round, and images with hidden patches told.

    Args:
        lines: of the log.
        models: of each round, by the name of its stage, first to last.
        inputs: of the task; images are shown.
        ratio: share of the patches that is hidden.
        normalised: as in `told_rows`.
    """
    trained = [name for name in models if any(logged["stage"] == name for logged in lines)]
    pictures = [
        curves_picture(
            lines,
            trained,
            "distance",
            "Distance from the original weights",
            "How far all weights are from where every round starts.",
        ),
        curves_picture(
            lines, trained, "masked", "Masked loss", "Of what is hidden, on the batches of each round."
        ),
    ]
    if isinstance(inputs, ImageSet) and len(inputs):
        last = list(models.values())[-1]
        rows = told_rows(last, inputs.pixels(slice(SHOWN)), ratio=ratio, normalised=normalised)
        note = "Images; what the model sees of them; and its guess at the rest."
        if normalised:
            note += " Mean and contrast of a hidden patch are the true ones, which it is not asked for."
        pictures.append(rows_picture("Hidden patches, told", rows, note=note))
    return pictures
