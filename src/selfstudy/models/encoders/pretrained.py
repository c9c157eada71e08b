"""What loading pretrained encoders of transformers shares, whatever they read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import ImageSet

if TYPE_CHECKING:
    from selfstudy.models.encoders.base import ImageEncoder

Encoder = TypeVar("Encoder", bound="ImageEncoder")

# What transformers raises where there is no such model, or where its files cannot be used.
FAILURES = (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError)


@contextlib.contextmanager
def explained(name: str, what: str, advice: str) -> Iterator[None]:
    """Explain to the user why a model cannot be loaded.

    Args:
        name: hub id or folder.
        what: is loaded, such as "vision backbone".
        advice: what to give instead.
    """
    try:
        yield
    except FAILURES as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(f"No {what} could be loaded from {name!r}: {reason}. {advice}") from error


def without_dropout(config: Any) -> Any:
    """Switch dropout off in a configuration, and return it."""
    for field, value in config.to_dict().items():
        if "drop" in field and isinstance(value, float):
            setattr(config, field, 0.0)
    return config


def require_trained(name: str, missing: Sequence[str]) -> None:
    """Refuse a model that lacks weights, but for those of its pooling layer.

    Raises:
        UsageError: names how many, and the first one.
    """
    untrained = [key for key in missing if "pool" not in key]
    if untrained:
        raise UsageError(
            f"{name!r} lacks {len(untrained)} of the weights of its architecture, {untrained[0]} first. Save "
            "the whole model."
        )


def fitted_to(encoder: Encoder, images: ImageSet) -> Encoder:
    """Return a pretrained encoder for the channels and the size of `images`, with its own statistics.

    Raises:
        DataError: they are not square, or have channels that the network cannot take.
    """
    channels, height, width = images.shape
    if (channels, height, width) == (encoder.channels, encoder.size, encoder.size):
        return encoder
    if height != width or channels not in (1, len(encoder.mean)):
        raise DataError(
            f"The images of {images.name!r} have {height} x {width} pixels and {channels} channels; "
            f"{encoder.name} takes square ones with {len(encoder.mean)} channels, or with one."
        )
    made = encoder.copy()
    made.channels, made.size = channels, height
    made.config = {**encoder.config, "channels": channels, "size": height}
    return made
