"""Agreement between people, against published examples and definitions."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from selfstudy.evaluation.agreement import agreement, krippendorff_alpha

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C: four people, twelve items; "."
# is an item that one has left out.
EXAMPLE = {"A": "123321412...", "B": "1233224125.3", "C": ".3332342251.", "D": "12332441251."}


def test_alpha_of_the_published_example() -> None:
    """Oracle: the nominal alpha printed there, 0.743."""
    table = [{who: line[at] for who, line in EXAMPLE.items() if line[at] != "."} for at in range(12)]
    assert krippendorff_alpha(table) == pytest.approx(0.743, abs=5e-4)


def by_definition(table: list[dict[str, str]]) -> float:
    """A plain second implementation: the coincidence matrix, pair by pair."""
    pairs: dict[tuple[str, str], float] = {}
    for said in table:
        for (first, one), (second, other) in product(said.items(), repeat=2):
            if first != second:
                pairs[one, other] = pairs.get((one, other), 0) + 1 / (len(said) - 1)
    total = sum(pairs.values())
    margin: dict[str, float] = {}
    for (one, _), weight in pairs.items():
        margin[one] = margin.get(one, 0) + weight
    observed = sum(weight for (one, other), weight in pairs.items() if one != other) / total
    expected = sum(
        margin[one] * margin[other] for one, other in product(margin, repeat=2) if one != other
    ) / (total * (total - 1))
    return 1 - observed / expected


WORDS = st.lists(
    st.dictionaries(st.sampled_from("ABCD"), st.sampled_from("xyz"), min_size=1), min_size=1, max_size=12
)


@given(WORDS)
def test_alpha_is_that_of_the_coincidence_matrix(table: list[dict[str, str]]) -> None:
    """Oracle: a plain second implementation by pairs; none where all answers are equal."""
    shared = [said for said in table if len(said) > 1]
    every = {answer for said in shared for answer in said.values()}
    found = krippendorff_alpha(table)
    assert found is None if len(every) < 2 else found == pytest.approx(by_definition(table))


def test_two_people_have_cohens_kappa() -> None:
    """Oracle: a closed form: agreement 0.7, by chance 0.5, hence 0.4; the share of equal pairs is counted."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = agreement([{"Ann": one, "Bob": other} for one, other in pairs] + [{"Ann": "y"}])
    assert found is not None and found.name == "Cohen's kappa"
    assert found.value == pytest.approx(0.4) == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
    assert (found.share, found.items, found.people) == (pytest.approx(0.7), 50, 2)


def test_nothing_in_common_is_no_agreement() -> None:
    """Oracle: limits: no item with two answers; one label alone; three people who all agree."""
    assert agreement([{"Ann": "y"}, {"Bob": "n"}, {}]) is None
    alike = agreement([{"Ann": "y", "Bob": "y"}])
    assert alike is not None and alike.value is None and alike.share == 1
    three = agreement([dict.fromkeys("ABC", one) for one in "xyx"])
    assert three is not None and three.name == "Krippendorff's alpha" and three.value == pytest.approx(1)
