"""How likely a text is under an n-gram model of words, with interpolated Kneser-Ney smoothing.

Kneser and Ney 1995; Chen and Goodman 1999, section 2.7, with one discount of 0.75.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

BEGIN, END = "<s>", "</s>"
DISCOUNT = 0.75

Gram = tuple[str, ...]


class NGrams:
    """A model of sequences of words.

    >>> model = NGrams([["a", "b"], ["a", "c"]], order=2)
    >>> round(sum(model.probability(("a",), word) for word in ("a", "b", "c", END)), 6)
    1.0

    Args:
        texts: lists of words.
        order: words that are looked at, the next one included.
    """

    def __init__(self, texts: Iterable[Sequence[str]], order: int = 4) -> None:
        self.order = order
        counts: list[dict[Gram, int]] = [defaultdict(int) for _ in range(order + 1)]  # by length
        for text in texts:
            padded = (*[BEGIN] * (order - 1), *text, END)
            for end in range(order, len(padded) + 1):
                counts[order][padded[end - order : end]] += 1
        for length in range(order - 1, 0, -1):
            # A shorter run counts once for each word that was seen before it.
            for gram in counts[length + 1]:
                counts[length][gram[1:]] += 1
        self._counts = counts
        self._total: list[dict[Gram, int]] = [defaultdict(int) for _ in range(order + 1)]
        self._kinds: list[dict[Gram, int]] = [defaultdict(int) for _ in range(order + 1)]
        for length in range(1, order + 1):
            for gram, count in counts[length].items():
                self._total[length][gram[:-1]] += count
                self._kinds[length][gram[:-1]] += 1
        self._words = len(counts[1])

    def probability(self, context: Gram, word: str) -> float:
        """Return p(word | the last words of `context`); an unknown word has the share of one unseen word."""
        found = 1 / (self._words + 1) if (word,) not in self._counts[1] else 1 / self._words
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        for length in range(1, len(context) + 2):
            before = context[len(context) - length + 1 :]
            total = self._total[length].get(before, 0)
            if total:
                count = self._counts[length].get((*before, word), 0)
                rest = DISCOUNT * self._kinds[length][before] / total
                found = max(count - DISCOUNT, 0) / total + rest * found
        return found

    def logprobs(self, words: Sequence[str], before: Sequence[str] = ()) -> list[float]:
        """Return log p of each of `words` and of the end after them, given that the text begins `before`."""
        padded = (*[BEGIN] * (self.order - 1), *before, *words, END)
        first = self.order - 1 + len(before)
        return [
            math.log(self.probability(padded[at - self.order + 1 : at], padded[at]))
            for at in range(first, len(padded))
        ]
