"""Reading and writing text encoders of transformers: what is refused, and what is kept quiet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from selfstudy.core.errors import UsageError
from selfstudy.models.encoders.pretrained import explained, require_trained, without_dropout

MOST_TOKENS = 512  # of a text, where neither the user nor the model's files say
WHAT = "text encoder"
ADVICE = (
    "Give the id of an encoder on the Hugging Face hub (owner/name), or a folder in its layout: config.json, "
    "model.safetensors, tokenizer.json."
)
# Architectures that count their places from behind the number of the padding.
_PLACES_BEHIND_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")


def read_encoder(name: str, subfolder: str = "") -> tuple[Any, Any]:
    """Return the network of a text encoder, in evaluation mode and without dropout, and its tokenizer.

    Code that comes with a model is never run.

    Args:
        name: hub id or folder.
        subfolder: in which they lie.

    Raises:
        UsageError: there is no such model, or it is not a whole encoder of texts with its tokenizer.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    where: dict[str, Any] = {"subfolder": subfolder} if subfolder else {}
    config = without_dropout(_asked(AutoConfig, name, **where))
    _require_encoder(name, config)
    tokenizer = _asked(AutoTokenizer, name, **where)
    _require_tokenizer(name, tokenizer)
    options = {"config": config, "dtype": torch.float32, "output_loading_info": True, **where}
    with quiet(), torch.random.fork_rng(devices=[]):
        network, found = _asked(AutoModel, name, **options)
    missing = sorted(found["missing_keys"])
    require_trained(name, missing)
    words = network.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > words:
        raise UsageError(
            f"The tokenizer of {name!r} has {len(tokenizer)} tokens, its network only {words}: they do not "
            "belong together."
        )
    for key in missing:  # of the pooling layer, which is not used: not random, so that two loads are equal
        network.get_parameter(key).data.zero_()
    return network.eval(), tokenizer


def most_tokens(config: Any, tokenizer: Any) -> int:
    """Return the tokens of a text that a network has places for."""
    places = getattr(config, "max_position_embeddings", None) or MOST_TOKENS
    if config.model_type in _PLACES_BEHIND_PADDING:
        places -= config.pad_token_id + 1
    return int(min(places, max(1, tokenizer.model_max_length)))


def write_network(folder: Path, network: Any) -> None:
    """Write a transformers model: config.json, model.safetensors."""
    with quiet():
        network.save_pretrained(folder)


def write_tokenizer(folder: Path, tokenizer: Any, length: int) -> None:
    """Write a tokenizer that cuts texts to `length` tokens where it is asked to cut them."""
    kept, tokenizer.model_max_length = tokenizer.model_max_length, length
    plain(tokenizer).save_pretrained(folder)
    tokenizer.model_max_length = kept


def plain(tokenizer: Any) -> Any:
    """Make a tokenizer forget how it last cut and padded; return it."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def beginning(tokenizer: Any, *, lower: bool, prefix: str) -> Any:
    """Make a tokenizer put texts into lower case and something before them, itself; return it."""
    from tokenizers import normalizers

    steps: list[Any] = [normalizers.Prepend(prefix)] if prefix else []
    steps += [normalizers.Lowercase()] if lower else []
    own = tokenizer.backend_tokenizer.normalizer
    if steps:
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([*steps, *([own] if own else [])])
    return tokenizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars, and from reporting weights that are not used."""
    from transformers.utils import logging as transformers_logging

    from selfstudy.models.language.model import no_bars

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with no_bars():
            yield
    finally:
        transformers_logging.set_verbosity(before)


def _require_encoder(name: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )

    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if causal or getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False):
        reason = "which writes texts"
    elif kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        reason = "which is no encoder of texts"
    else:
        return
    raise UsageError(
        f"{name!r} is a {kind} model, {reason}. Give an encoder, such as BERT, or one of "
        "sentence-transformers."
    )


def _require_tokenizer(name: str, tokenizer: Any) -> None:
    if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UsageError(
            f"{name!r} has no tokenizer with a vocabulary. Save it beside the weights: tokenizer.json."
        )
    if tokenizer.pad_token_id is None:
        raise UsageError(
            f"The tokenizer of {name!r} has no token for padding. Set its pad_token and save it."
        )
    tokenizer.padding_side = "right"


def _asked(kind: Any, name: str, **options: Any) -> Any:
    with explained(name, WHAT, ADVICE):
        return kind.from_pretrained(name, **options)
