"""The greedy search for bands, on made accuracies."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.search.bands import greedy_search

CANDIDATES = (96, 128, 160, 192, 224)


def test_the_published_search() -> None:
    """Oracle: where a stage is good enough from its published band on, the search ends in the published
    list, having tried what algorithm 1 tries, stage by stage and from below."""
    needed = (160, 160, 160, 192, 224)
    found = greedy_search(
        lambda bands: 80.0 - sum(band < least for band, least in zip(bands, needed, strict=True)),
        CANDIDATES,
        5,
    )
    assert found.bands == needed
    assert [tried.bands for tried in found.tried] == [
        (224,) * 5,
        (96, 224, 224, 224, 224), (128, 224, 224, 224, 224), (160, 224, 224, 224, 224),
        (160, 160, 224, 224, 224),
        (160, 160, 160, 224, 224),
        (160, 160, 160, 160, 224), (160, 160, 160, 192, 224),
        (160, 160, 160, 192, 192),
    ]  # fmt: skip
    assert [tried.accuracy >= 80 for tried in found.tried] == [1, 0, 0, 1, 1, 1, 0, 1, 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(CANDIDATES), min_size=1, max_size=4), st.integers(0, 9))
def test_no_band_falls_and_none_is_worse(needed: list[int], seed: int) -> None:
    """Oracle: the law: bands rise, and what is found was tried and is as good as whole images; with needs
    that rise, the smallest such list of all."""

    def accuracy(bands: tuple[int, ...]) -> float:
        return -float(sum(band < least for band, least in zip(bands, needed, strict=True)))

    found = greedy_search(accuracy, CANDIDATES[::-1], len(needed))
    assert list(found.bands) == sorted(found.bands)
    assert accuracy(found.bands) == 0 and found.bands in [tried.bands for tried in found.tried]
    if needed == sorted(needed):
        rising = [
            bands
            for bands in itertools.product(CANDIDATES, repeat=len(needed))
            if list(bands) == sorted(bands) and accuracy(bands) == 0
        ]
        assert found.bands == min(rising, key=sum)


def test_nothing_smaller_will_do() -> None:
    """Oracle: whole images, with every smaller candidate tried at each stage; one candidate needs one."""
    found = greedy_search(lambda bands: float(min(bands) == 32), (16, 24, 32), 3)
    assert found.bands == (32, 32, 32) and len(found.tried) == 1 + 2 * 3 - 2 * 2
    assert greedy_search(lambda bands: 1.0, (32,), 3).bands == (32, 32, 32)
    for candidates, stages in (((), 3), ((16, 32), 0)):
        with pytest.raises(UsageError, match="needs candidates and stages"):
            greedy_search(lambda bands: 1.0, candidates, stages)
