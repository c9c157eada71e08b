"""Agreement between people who labelled the same items, beyond what chance alone would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """How far people agree.

    Attributes:
        name: of the coefficient.
        value: 1 where all agree, 0 where as by chance; None where chance alone leaves nothing to disagree on.
        share: of pairs of answers to one item that are equal.
        items: that two or more people labelled.
        people: who labelled them.
    """

    name: str
    value: float | None
    share: float
    items: int
    people: int


def agreement(answers: Sequence[Mapping[str, str]]) -> Agreement | None:
    """Return the agreement of answers: Cohen's kappa of two people, Krippendorff's alpha of more.

    Args:
        answers: of each item, from a person's name to the label they gave.

    Returns:
        None where no item has two answers.
    """
    shared = [one for one in answers if len(one) > 1]
    people = sorted({who for one in shared for who in one})
    if not shared:
        return None
    pairs = sum(len(one) * (len(one) - 1) for one in shared)
    equal = sum(count * (count - 1) for one in shared for count in Counter(one.values()).values())
    return Agreement(
        name="Cohen's kappa" if len(people) == 2 else "Krippendorff's alpha",
        value=_cohen(shared, people) if len(people) == 2 else krippendorff_alpha(shared),
        share=equal / pairs,
        items=len(shared),
        people=len(people),
    )


def krippendorff_alpha(answers: Sequence[Mapping[str, str]]) -> float | None:
    """Return Krippendorff's alpha of nominal labels (Krippendorff 2011, "Computing Krippendorff's Alpha").

    alpha = 1 - (n - 1) sum_i sum_{c != k} n_ic n_ik / (m_i - 1) / sum_{c != k} n_c n_k, where item i has m_i
    answers, n_ic of them c, and n are all answers to items that have two or more. People may have left out
    items. None where all answers are equal.
    """
    total: Counter[str] = Counter()
    observed = 0.0
    for one in answers:
        counts, given = Counter(one.values()), len(one)
        if given > 1:
            total += counts
            observed += (given**2 - sum(count**2 for count in counts.values())) / (given - 1)
    every = total.total()
    expected = every**2 - sum(count**2 for count in total.values())
    return 1 - (every - 1) * observed / expected if expected else None


def _cohen(shared: Sequence[Mapping[str, str]], people: Sequence[str]) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    first, second = ([one[who] for one in shared] for who in people)
    if len({*first, *second}) < 2:  # undefined, of which scikit-learn warns
        return None
    return float(cohen_kappa_score(first, second))
