"""Texts that arrive one domain after another; a model is judged on all of them by bits per byte."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.text_domains import Domain, known_domains, made_domains, own_domains
from selfstudy.evaluation.scores import Metric
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import completion_logprobs
from selfstudy.tasks.base import HELD
from selfstudy.tasks.sampled import SampledTask

BITS = Metric(name="bits per byte", lower_is_better=True)
ROWS = 64  # excerpts in a forward pass


class TextStream(SampledTask):
    """Domains of text in the order of their arrival.

    Attributes:
        domains: the texts.
        names: of the domains.
        excerpts: held-out ones by split, the domains in turn; each is judged by itself.

    Args:
        name: the specification that makes this task again.
        domains: two or more, or one.
        excerpt: characters of an excerpt.
        items: excerpts of each domain in an evaluation, or as many as there are.

    Raises:
        UsageError: a size below its least.
        DataError: held-out texts without an excerpt.
    """

    def __init__(self, name: str, domains: Sequence[Domain], *, excerpt: int = 256, items: int = 100) -> None:
        if excerpt < 8 or items < 1:
            raise UsageError(f"excerpt={excerpt} must be at least 8 characters and items={items} at least 1.")
        self.domains, self.names = tuple(domains), tuple(one.name for one in domains)
        self.excerpts = {split: _excerpts(self.domains, split, excerpt, items) for split in HELD}
        super().__init__(name, BITS, len(self.excerpts["test"]))

    def limited(self, train: int) -> Self:
        """Return this task with so many training documents of each domain."""
        fewer = copy.copy(self)
        fewer.domains = tuple(one.limited(train) for one in self.domains)
        return fewer

    def tokens(self, model: LanguageModel) -> list[np.ndarray]:
        """Return the training tokens of each domain: documents, the end token or a blank line between."""
        return [_joined(model, one.splits["train"]) for one in self.domains]

    def measure(self, model: Any, split: str, count: int) -> Sequence[float]:
        """Return the bits per byte of each of the first `count` excerpts of a split."""
        require_language_model(model)
        return excerpt_bits(model, [text for _, text in self.excerpts[split][:count]])

    def by_domain(self, model: LanguageModel, split: str = "validation") -> list[float]:
        """Return the mean bits per byte on the excerpts of each domain in a split."""
        excerpts = self.excerpts[split]
        values = np.asarray(self.measure(model, split, len(excerpts)))
        places = np.array([place for place, _ in excerpts])
        return [float(values[places == place].mean()) for place in range(len(self.domains))]


def excerpt_bits(model: LanguageModel, texts: Sequence[str]) -> list[float]:
    """Return the bits per byte of each text: the cost of its tokens after the first, by their bytes.

    A text longer than the model's context is read in pieces, each without what came before it.
    """
    pieces: list[tuple[int, list[int]]] = []
    rows = model.encode_all(list(texts))
    for place, row in enumerate(rows):
        for begin in range(0, max(1, len(row) - 1), model.context):
            pieces.append((place, row[begin : begin + model.context + 1]))
    nats = np.zeros(len(texts))
    for begin in range(0, len(pieces), ROWS):
        part = pieces[begin : begin + ROWS]
        np.add.at(nats, [place for place, _ in part], _nats(model, [row for _, row in part]))
    heads = model.decode_all([row[:1] for row in rows])
    sizes = [max(1, len(text.encode()) - len(head.encode())) for text, head in zip(texts, heads, strict=True)]
    return (nats / np.array(sizes) / math.log(2)).tolist()


@torch.no_grad()
def _nats(model: LanguageModel, rows: list[list[int]]) -> list[float]:
    """Return the summed negative log-likelihood of each row after its first token."""
    return (-completion_logprobs(model.module, [(row, 1) for row in rows])).tolist()


def require_language_model(model: Any) -> None:
    """Raise a UsageError for a model that is no language model."""
    if not isinstance(model, LanguageModel):
        raise UsageError(
            f"A stream of texts needs a language model, such as byte-lm or tiny-lm; this is a "
            f"{type(model).__name__}."
        )


def _joined(model: LanguageModel, documents: Sequence[str]) -> np.ndarray:
    between = [model.end] if model.end is not None else model.encode_all(["\n\n"], begins=False)[0]
    rows = model.encode_all(list(documents))
    return np.array([token for row in rows for token in (*row, *between)], dtype=np.int64)


def _excerpts(domains: Sequence[Domain], split: str, size: int, items: int) -> list[tuple[int, str]]:
    """Return (domain, text), the domains in turn, as many of each."""
    found = []
    for one in domains:
        cut = (
            text[begin : begin + size] for text in one.splits[split] for begin in range(0, len(text), size)
        )
        found.append([text for text in cut if len(text.encode()) > 1][:items])
    count = min(map(len, found))
    if not count:
        raise DataError(f"A domain has no {split} text of two bytes or more. Give longer texts.")
    return [(place, texts[i]) for i in range(count) for place, texts in enumerate(found)]


def made(*, size: int = 100_000, excerpt: int = 256, items: int = 100) -> TextStream:
    """Return messages, sums and programs that are made up, each of about `size` training bytes."""
    return TextStream(
        f"made-domains?size={size}&excerpt={excerpt}&items={items}",
        made_domains(size),
        excerpt=excerpt,
        items=items,
    )


def known(
    *,
    names: str = "wikitext2,gsm8k,python",
    size: int = 1_500_000,
    excerpt: int = 256,
    items: int = 300,
) -> TextStream:
    """Return known domains in the order of `names`, each of at most `size` training bytes."""
    return TextStream(
        f"domains?names={names}&size={size}&excerpt={excerpt}&items={items}",
        known_domains([name for name in names.split(",") if name], size),
        excerpt=excerpt,
        items=items,
    )


def own(paths: str, *, column: str = "", excerpt: int = 256, items: int = 300) -> TextStream:
    """Return a domain for each file of `paths`; see `data.text_domains.own_domains`."""
    more = f"&column={column}" if column else ""
    return TextStream(
        f"stream:{paths}?excerpt={excerpt}&items={items}{more}",
        own_domains(paths, column),
        excerpt=excerpt,
        items=items,
    )
