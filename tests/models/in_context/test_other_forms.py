"""Learned features, and tokens that hold inputs or targets: wiring, copying, and what is refused."""

from __future__ import annotations

import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.regression import Context, Regression
from selfstudy.models.in_context.embedded import EmbeddedAttention, FeatureDescent
from selfstudy.models.in_context.paired_tokens import CODES, PairedTokens, position_codes


def problems(d: int = 1, n: int = 5, size: int = 8):
    return Regression(dimensions=d, context=n).draw(size, generator("forms", d))


def test_descent_on_features() -> None:
    """Oracle: s Σ y φ·φ by hand; the attention on features that is this step predicts the same."""
    batch, model = problems(), FeatureDescent(width=6)
    with torch.no_grad():
        model.step.fill_(0.3)
        shown, asked = model.features(batch.context.inputs), model.features(batch.query)
        expected = 0.3 * torch.einsum("bi,bij,bj->b", batch.context.targets, shown, asked)
        torch.testing.assert_close(model(*batch[:2]), expected)
        attention = EmbeddedAttention(width=6)
        attention.features.load_state_dict(model.features.state_dict())
        for name, corner in (("query", None), ("key", None), ("value", -1.0), ("projection", 0.3)):
            weight = getattr(attention.attention, name)
            weight.zero_()
            if corner is None:
                weight[0, 0, :-1, :-1] = torch.eye(6)
            else:
                weight[0, 0, -1, -1] = corner
        torch.testing.assert_close(attention(*batch[:2]), expected)


def test_the_sequence_of_paired_tokens() -> None:
    """Oracle: the tokens by hand: inputs at even places, targets behind them, the query last, then codes."""
    batch, model = problems(d=2, n=3), PairedTokens(dimensions=2)
    sequence = model.sequence(*batch[:2])
    assert sequence.shape == (8, 7, 3 + CODES)
    for i in range(3):
        assert torch.equal(sequence[:, 2 * i, :2], batch.context.inputs[:, i])
        assert torch.equal(sequence[:, 2 * i + 1, 2], batch.context.targets[:, i])
        assert not sequence[:, 2 * i, 2].any() and not sequence[:, 2 * i + 1, :2].any()
    assert torch.equal(sequence[:, -1, :2], batch.query) and not sequence[:, -1, 2].any()
    assert torch.equal(sequence[0, :, 3:], position_codes(7))
    assert len({tuple(code.tolist()) for code in position_codes(101)}) == 101


def test_copying_is_seen() -> None:
    """Oracle: weights that look at the next place by construction take from it and nothing else.

    A rotation by one place maps the code of p to that of p + 1, so the score of each place with the next is
    the largest; multiplied by 200 the softmax takes that token alone.
    """
    batch, model = problems(d=2, n=4), PairedTokens(dimensions=2)
    rates = position_codes(2)[1, :5].asin()
    turn = torch.zeros(CODES, CODES)
    for i, rate in enumerate(rates):
        s, c = torch.sin(rate), torch.cos(rate)
        turn[i, i], turn[i, 5 + i], turn[5 + i, i], turn[5 + i, 5 + i] = c, -s, s, c
    with torch.no_grad():
        model.copy_weights.zero_()
        model.copy_weights[0, 0, 3:, 3:] = 200 * turn
        model.copy_weights[1, 0, 3:, 3:] = torch.eye(CODES)
        model.copy_weights[2, 0, 2, 2] = model.copy_weights[3, 0, 2, 2] = 1.0
    found = model.copying(*batch[:2])
    assert found["next"] > 100 * max(found["own"], found["other"])


def test_refused() -> None:
    """Oracle: a context that is longer than the positions, with both numbers; sizes below 1."""
    model = PairedTokens(dimensions=1, positions=9)
    model(*problems(n=4)[:2])
    with pytest.raises(UsageError, match=r"takes 11 positions, and the model has 9.*positions=11"):
        model(*problems(n=5)[:2])
    for make in (EmbeddedAttention, FeatureDescent, PairedTokens):
        with pytest.raises(UsageError, match="dimensions=0"):
            make(dimensions=0)
    with pytest.raises(UsageError, match="width 2"):
        EmbeddedAttention()(Context(torch.zeros(1, 2, 3), torch.zeros(1, 2)), torch.zeros(1, 3))
