"""Features of whole pools, computed once: kept on disk by what encoder and inputs hold."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from selfstudy.core.files import write_whole
from selfstudy.core.machine import cache_folder
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts, Vectors, fingerprint, require_finite

KEPT_FROM = 1_000_000  # weights of an encoder whose features are worth keeping on disk
KEPT_BYTES = 4 * 2**30  # of all features that are kept
_log = logging.getLogger(__name__)


def features_of(encoder: Any, items: ImageSet | Texts | Vectors) -> torch.Tensor:
    """Return the features [N, width] that a frozen encoder gives, float32.

    Those of an encoder with `KEPT_FROM` weights or more are kept under `cache_folder()`, and read again where
    the same weights meet the same inputs. Beyond `KEPT_BYTES` those go that were not read for the longest.

    Args:
        encoder: an encoder of these inputs, made for them, or a classifier that holds one as `encoder`.
        items: N of them.

    Raises:
        DataError: features that are not finite.
    """
    encoder = getattr(encoder, "encoder", encoder)
    if encoder.weights < KEPT_FROM:
        return _computed(encoder, items)
    path = cache_folder() / "features" / f"{encoder_fingerprint(encoder)}-{fingerprint(items)}.safetensors"
    found = _kept(path)
    if found is None:
        found = _computed(encoder, items)
        _keep(path, found)
    return found


def encoder_fingerprint(encoder: Any) -> str:
    """Return 32 hexadecimal digits of an encoder's configuration and weights."""
    digest = hashlib.blake2b(json.dumps([encoder.kind, encoder.config]).encode(), digest_size=16)
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def _kept(path: Path) -> torch.Tensor | None:
    """Return the features in a file, which is then the latest read; None where there is no whole one."""
    try:
        found = safetensors.torch.load_file(path)["features"]
        os.utime(path)
    except (OSError, SafetensorError):  # not there, removed by another process, or damaged
        return None
    return found


def _keep(path: Path, features: torch.Tensor) -> None:
    def write(temporary: Path) -> None:
        safetensors.torch.save_file({"features": features}, temporary)

    try:
        write_whole(path, write)
    except OSError as error:
        _log.warning("Features are not kept for the next time: %s.", error)
        return
    room = KEPT_BYTES - path.stat().st_size
    for other in sorted(path.parent.glob("*.safetensors"), key=_read_at, reverse=True):
        with contextlib.suppress(OSError):
            if other != path:
                room -= other.stat().st_size
                if room < 0:
                    other.unlink()


def _read_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed by another process
        return 0.0


def _computed(encoder: Any, items: ImageSet | Texts | Vectors) -> torch.Tensor:
    if isinstance(items, Texts):
        found = encoder.embed_texts(items.texts)
    elif isinstance(items, Vectors):
        found = encoder.embed_vectors(torch.from_numpy(items.values))
    else:
        found = items.mapped(lambda pixels, _: encoder.embed_pixels(pixels))
    require_finite(found, items.name)
    return found
