"""What attention is made of: composition, masses, entropy, order, and when it stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selfstudy.core.errors import UsageError
from selfstudy.data.cooccurrence import Cooccurrence, draw, synthetic
from selfstudy.evaluation.attention import (
    attention_composition,
    attention_entropy,
    class_logits,
    common_mass,
    entropy,
    freeze_step,
    order_correlation,
    rank_advantage,
    token_masses,
    uniform_entropy,
)
from selfstudy.models.attention_decoder import AttentionDecoder

TABLE = synthetic(last=2, next=2, common=4, own=5)
LOGITS = arrays(float, TABLE.probabilities.shape, elements=st.floats(-30, 30))


def test_at_zero_attention_is_the_data() -> None:
    """Oracle: c = P and its entropy at Z = 0; in a long sequence u is P, normalised, up to sampling."""
    model = AttentionDecoder(vocabulary=TABLE.vocabulary)
    logits = class_logits(model, TABLE)
    composition = attention_composition(logits, TABLE.probabilities)
    np.testing.assert_array_equal(composition, TABLE.probabilities)
    weights = np.concatenate([np.ones(4), np.linspace(0.1, 1, 5)])
    weights /= weights.sum()
    np.testing.assert_allclose(entropy(composition), -(weights * np.log(weights)).sum())
    np.testing.assert_allclose(common_mass(composition, TABLE), weights[:4].sum())


@given(LOGITS, st.floats(-50, 50))
@settings(max_examples=50, deadline=None)
def test_laws_of_the_composition(logits: np.ndarray, shift: float) -> None:
    """Oracle: rows sum to 1, 0 where P is 0, no change by a shift of a column, limits of the entropy."""
    composition = attention_composition(logits, TABLE.probabilities)
    np.testing.assert_allclose(composition.sum(1), 1)
    assert (composition[TABLE.probabilities == 0] == 0).all()
    np.testing.assert_allclose(
        attention_composition(logits + shift, TABLE.probabilities), composition, rtol=1e-9, atol=1e-15
    )
    assert (entropy(composition) >= 0).all() and (entropy(composition) <= np.log(9) + 1e-9).all()
    assert (common_mass(composition, TABLE) <= 1 + 1e-9).all()


def test_the_composition_is_the_limit_of_attention() -> None:
    """Oracle: mean attention by token over long sequences, within 5 standard errors of 64 of them."""
    model = AttentionDecoder(vocabulary=TABLE.vocabulary, spread=1.0)
    expected = attention_composition(class_logits(model, TABLE), TABLE.probabilities)
    tokens, targets = draw(TABLE, 256, 4000, np.random.default_rng(0))
    with torch.no_grad():
        weights = model.weigh(tokens)[:, 0]
    bag = torch.zeros(256, TABLE.vocabulary).scatter_add(1, tokens, weights).numpy()
    for k, row in enumerate(expected):
        bags = bag[targets[:, 0].numpy() == 2 + k]
        error = bags.std(0) / np.sqrt(len(bags)) + 1e-6
        assert (abs(bags.mean(0) - row) < 5 * error + 1e-4).all()


def test_logits_that_are_not_finite() -> None:
    """Oracle: the message, for nan and for infinity."""
    for value in (np.nan, np.inf):
        with pytest.raises(UsageError, match="not finite"):
            attention_composition(np.array([[0.0, value]]), np.array([[0.5, 0.5]]))


def test_order() -> None:
    """Oracle: 1 in the order of P, -1 against it, by hand for one exchange, 0 where all are equal."""
    table = synthetic(last=1, next=2, common=2, own=4)
    p = table.probabilities
    assert order_correlation(p, table) == pytest.approx(1)
    assert order_correlation(-p, table) == pytest.approx(-1)
    assert order_correlation(np.zeros_like(p), table) == 0
    values = p.copy()
    first, second = np.flatnonzero(table.distinct[0])[:2]
    values[0, [first, second]] = values[0, [second, first]]
    # One exchange of neighbours among four: 1 - 6 * 2 / (4 * 15) = 0.8; the other class has 1.
    assert order_correlation(values, table) == pytest.approx(0.9)
    same = synthetic(last=1, next=2, own=4, least=1.0)
    assert np.isnan(order_correlation(same.probabilities, same))


def test_freezing() -> None:
    """Oracle: by hand, with a mass that comes back: only what stays counts."""
    steps, masses = [0, 5, 10, 15, 20], [0.6, 0.4, 0.5, 0.402, 0.4]
    assert freeze_step(steps, masses) == 15
    assert freeze_step(steps, masses, tolerance=0.11) == 5
    assert freeze_step(steps, [0.5] * 5) == 0
    assert freeze_step([0], [0.5]) == 0
    assert freeze_step([0, 1], [0.1, 0.9]) == 1


def test_ranks() -> None:
    """Oracle: ranks by hand: (3 + 2) / 2 of distinct against (1 + 0) / 2 of common ones, over 3."""
    table = Cooccurrence(
        last=np.array([0, 0]),
        next=np.array([1, 2]),
        probabilities=np.array([[0, 0, 0, 0.25, 0.25, 0.5, 0], [0, 0, 0, 0.25, 0.25, 0, 0.5]]),
        common=np.array([[0, 0, 0, 1, 1, 0, 0]] * 2, dtype=bool),
    )
    logits = np.array([[9.0, 9, 9, -1, -2, 1, 2]] * 2)
    np.testing.assert_allclose(rank_advantage(logits, table), [(2.5 - 0.5) / 3])
    np.testing.assert_allclose(rank_advantage(-logits, table), [-(2.5 - 0.5) / 3])
    np.testing.assert_allclose(rank_advantage(0 * logits, table), [0])
    assert len(rank_advantage(np.zeros((1, 23)), synthetic(last=1, next=1, common=10, own=11))) == 0


def test_probes_of_weights() -> None:
    """Oracle: log n for uniform weights of n keys, 0 for a single one."""
    model = AttentionDecoder(vocabulary=5)
    tokens = torch.randint(5, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = attention_entropy(model.weigh(tokens, 6))
    torch.testing.assert_close(found.double(), uniform_entropy(7, 6).expand(2, 6))
    torch.testing.assert_close(
        uniform_entropy(3, 3, include_query=True), torch.tensor([1.0, 2, 3]).double().log()
    )


def test_masses_on_tokens() -> None:
    """Oracle: a loop over queries and keys; queries that are no last token give nan."""
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(TABLE.vocabulary, size=(3, 8)))
    tokens[:, ::3] = torch.from_numpy(rng.integers(2, size=(3, 3)))
    weights = torch.from_numpy(rng.dirichlet(np.ones(8), size=(2, 3, 5)))
    masses = token_masses(weights, tokens, TABLE)
    for name, of in (("common", TABLE.common), ("distinct", TABLE.distinct)):
        for head, b, q in np.ndindex(2, 3, 5):
            query = int(tokens[b, 3 + q])
            rows = of[TABLE.last == query]
            expected = (
                sum(float(weights[head, b, q, t]) for t in range(8) if rows.any(0)[tokens[b, t]])
                if len(rows)
                else np.nan
            )
            assert float(masses[name][head, b, q]) == pytest.approx(expected, nan_ok=True)
