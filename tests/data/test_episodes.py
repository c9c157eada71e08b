"""Episodes: whole, without repetition, the same by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.data import episodes as module
from selfstudy.data.episodes import Episodes

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(-1, 7), [30, 40, 45, 50, 55, 60, 65, 70]))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 7),
    st.sampled_from([None, 0.5, 5.0]),
    st.integers(0, 99),
)
def test_what_an_episode_has(ways: int, shots: int, queries: int, imbalance: float | None, seed: int) -> None:
    """Oracle: the labels: W different classes, S shown of each, queries of the same classes in the right
    number, and no item twice."""
    drawn = Episodes(ways=ways, shots=shots, queries=queries, imbalance=imbalance).draw(LABELS, 6, seed=seed)
    assert drawn.support.shape == (6, ways * shots) and drawn.queries.shape == (6, ways * queries)
    for support, asked, told in zip(drawn.support, drawn.queries, drawn.query_labels, strict=True):
        classes = LABELS[support].reshape(ways, shots)
        assert (classes == classes[:, :1]).all() and len(set(classes[:, 0])) == ways and classes.min() >= 0
        assert (LABELS[asked] == classes[told, 0]).all()
        assert len({*support, *asked}) == ways * (shots + queries)
        if imbalance is None:
            assert (np.bincount(told, minlength=ways) == queries).all()
    assert drawn.support_labels.tolist() == [way for way in range(ways) for _ in range(shots)]


def test_an_episode_is_a_function_of_seed_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: fewer episodes, or other blocks, are the same first ones; another seed has others."""
    kind = Episodes(ways=3, shots=2, queries=5, imbalance=1.0)
    whole = kind.draw(LABELS, 9, seed=4)
    monkeypatch.setattr(module, "BLOCK", 1)
    few = kind.draw(LABELS, 4, seed=4)
    for one, other in zip(whole, few, strict=True):
        part = one if one.ndim == 1 else one[:4]
        np.testing.assert_array_equal(part, other)
    assert (kind.draw(LABELS, 4, seed=5).support != few.support).any()


def test_classes_and_items_are_drawn_evenly() -> None:
    """Oracle: binomial counts: each class in 3 of 7 episodes, each item of a class of 40 in one of 40."""
    drawn = Episodes(ways=3, shots=1, queries=1).draw(LABELS, 4000)
    counts = np.bincount(LABELS[drawn.support].ravel(), minlength=7)
    assert (abs(counts - 4000 * 3 / 7) < 5 * np.sqrt(4000 * 3 / 7 * 4 / 7)).all()
    of_first = drawn.queries[LABELS[drawn.queries] == 0]
    each = np.bincount(of_first, minlength=len(LABELS))[LABELS == 0]
    assert (abs(each - len(of_first) / 40) < 5 * np.sqrt(len(of_first) / 40)).all()


def test_shares_are_dirichlet() -> None:
    """Oracle: the variance of a share: (1/W)(1 - 1/W) / (W a + 1), beside that of 100 draws from it."""
    kind = Episodes(ways=4, shots=1, queries=9, imbalance=2.0)
    told = kind.draw(LABELS, 3000, classes=np.arange(4)).query_labels
    counts = np.stack([np.bincount(one, minlength=4) for one in told])
    assert (counts.sum(1) == 36).all()
    share, draws = 3 / 16, 36
    wanted = share / (4 * 2 + 1) * draws**2 + draws * share * (1 - 1 / (4 * 2 + 1))
    assert counts.var(0).mean() == pytest.approx(wanted, rel=0.08)


def test_episodes_of_some_classes() -> None:
    """Oracle: the classes that were asked for."""
    drawn = Episodes(ways=2).draw(LABELS, 50, classes=np.array([1, 5, 6]))
    assert set(LABELS[drawn.support].ravel()) == {1, 5, 6}


def test_what_cannot_be_drawn() -> None:
    """Oracle: each is named: no way, too many, a class with too few items, a parameter of 0."""
    with pytest.raises(UsageError, match="shots=0"):
        Episodes(shots=0).draw(LABELS, 3)
    with pytest.raises(UsageError, match="9 ways are asked for and there are 7 classes"):
        Episodes(ways=9).draw(LABELS, 3)
    with pytest.raises(UsageError, match="Class 0 has 40 items; episodes may need 1 to show and 50"):
        Episodes(queries=10, imbalance=1.0).draw(LABELS, 3)
    with pytest.raises(UsageError, match="imbalance=0"):
        Episodes(imbalance=0.0).draw(LABELS, 3)
