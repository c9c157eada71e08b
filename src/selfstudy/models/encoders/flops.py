"""What one image costs in an encoder, counted by running one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.utils.flop_counter import FlopCounterMode

from selfstudy.models.encoders.base import ImageEncoder

TRAINED = 3  # a training step costs about three times the forward pass


def forward_flops(encoder: ImageEncoder, side: int = 0) -> float:
    """Return the floating-point operations of one image's features, two for a multiplication and addition.

    Args:
        encoder: made for images of some size.
        side: of the image in pixels, where it is another than the encoder was made for.
    """
    side = side or encoder.size
    image = torch.zeros(1, encoder.channels, side, side, device=encoder.mean.device)
    training = encoder.training
    encoder.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder.features(image)
    encoder.train(training)
    return float(counter.get_total_flops())


def shares_of_whole(encoder: ImageEncoder, sides: Iterable[int]) -> dict[int, float]:
    """Return what an image of each side costs, as a share of one of the size the encoder was made for."""
    whole = forward_flops(encoder)
    return {side: forward_flops(encoder, side) / whole for side in {*sides}}
