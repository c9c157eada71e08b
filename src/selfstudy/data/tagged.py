"""Sentences whose words have tags, and the nested samples that a learning curve is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np

Sentences = Sequence[Sequence[str]]


@dataclass(frozen=True)
class TaggedTexts:
    """N sentences of T words in all, with a tag for each word.

    Attributes:
        name: of the set.
        sentences: [N], of words.
        labels: [T], places of the tags in `classes`, sentence after sentence.
        classes: names of the tags.
    """

    name: str
    sentences: tuple[tuple[str, ...], ...]
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def lengths(self) -> np.ndarray:
        """Words of each sentence: [N]."""
        return np.array([len(sentence) for sentence in self.sentences], dtype=np.int64)

    @property
    def words(self) -> int:
        """T."""
        return len(self.labels)

    def only(self, which: slice | np.ndarray) -> Self:
        """Return the sentences at places [n], in that order."""
        places = np.arange(len(self))[which]
        ends = np.cumsum(self.lengths)
        starts = ends - self.lengths
        parts = [self.labels[starts[place] : ends[place]] for place in places]
        return replace(
            self,
            sentences=tuple(self.sentences[place] for place in places),
            labels=np.concatenate(parts) if parts else self.labels[:0],
        )


def tagged(
    name: str,
    sentences: Iterable[Iterable[str]],
    tags: Iterable[Iterable[str]],
    classes: Sequence[str] | None = None,
) -> TaggedTexts:
    """Return sentences with the names of their tags as a set; sentences without words are left out.

    >>> tagged("two", [["a", "cat"], ["runs"]], [["DET", "NOUN"], ["VERB"]]).classes
    ('DET', 'NOUN', 'VERB')

    Args:
        name: of the set.
        sentences: words.
        tags: as many.
        classes: all tags that there are; None are those that occur.
    """
    pairs = [(tuple(words), tuple(told)) for words, told in zip(sentences, tags, strict=True)]
    pairs = [(words, told) for words, told in pairs if words]
    names = tuple(sorted({tag for _, told in pairs for tag in told})) if classes is None else tuple(classes)
    codes = {tag: code for code, tag in enumerate(names)}
    labels = np.array([codes[tag] for _, told in pairs for tag in told], dtype=np.int64)
    return TaggedTexts(name, tuple(words for words, _ in pairs), labels, names)


class Level(NamedTuple):
    """One of the nested samples D_1, D_2, ...

    Attributes:
        number: i, from 1.
        items: how many sentences, or images, it has; the first ones of one order.
        units: x, how many words, or images.
    """

    number: int
    items: int
    units: int


def nested_levels(sizes: Any, kernel: int, step: int) -> list[Level]:
    """Return nested samples that grow by `step` units from `kernel`, each cut at the end of an item.

    >>> [level.units for level in nested_levels([4, 4, 4, 4], kernel=5, step=4)]
    [8, 12, 16]

    Args:
        sizes: [N], units of each item in the order that they are taken in.
        kernel: units of the first sample, at least.
        step: further units of each later one, at least; a sample that would be the same as the one before is
            left out.
    """
    ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
    if not len(ends) or ends[-1] < kernel:
        return []
    wanted = np.arange(kernel, ends[-1] + 1, step)
    items = np.unique(np.searchsorted(ends, wanted) + 1)
    return [Level(number, int(item), int(ends[item - 1])) for number, item in enumerate(items, 1)]
