"""Predicting latents: what is gathered, what the predictor is told, and the loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from selfstudy.learning.latent_prediction import LatentPredictor, latent_loss, taken


def predictor(columns: int = 5, registers: int = 1) -> LatentPredictor:
    return LatentPredictor(8, columns, registers, inner=4, layers=2, heads=2, key=3)


def test_tokens_are_taken_row_by_row() -> None:
    """Oracle: a loop over rows and places, the first and the last among them."""
    tokens = torch.randn(3, 6, 2)
    places = torch.tensor([[0, 5], [5, 1], [2, 0]])
    found = taken(tokens, places)
    for row in range(3):
        for at in range(2):
            assert torch.equal(found[row, at], tokens[row, places[row, at]])


def test_the_loss_by_hand() -> None:
    """Oracle: the mean squared difference of two rows on paper; 0 for equal ones; float32 of bfloat16."""
    predicted = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]], requires_grad=True)  # 1 mask, 2 rows, 1 column
    told = torch.tensor([[[[0.0, 4.0]], [[1.0, 0.0]]]], requires_grad=True)
    loss = latent_loss(predicted, told)
    assert loss.item() == pytest.approx((1 + 4 + 1 + 0) / 4)
    loss.backward()
    assert torch.allclose(predicted.grad, 2 * (predicted - told).detach() / 4) and told.grad is None
    assert latent_loss(told, told).item() == 0
    assert latent_loss(told.bfloat16(), told.bfloat16()).dtype == torch.float32


def test_masks_are_predicted_apart() -> None:
    """Oracle: each mask alone gives what it gives among others, and a row alone what it gives in a batch."""
    model = predictor().eval()
    encoded, context = torch.randn(3, 3, 8), torch.tensor([[0, 1], [2, 3], [4, 0]])
    targets = torch.tensor([[[2, 3], [0, 1], [1, 2]], [[4, 2], [4, 0], [3, 1]]])
    whole = model(encoded, context, targets)
    assert whole.shape == (2, 3, 2, 8)
    for mask in range(2):
        for row in range(3):
            alone = model(
                encoded[row : row + 1], context[row : row + 1], targets[mask : mask + 1, row : row + 1]
            )
            assert torch.allclose(alone[0, 0], whole[mask, row], atol=1e-5)


def test_the_asked_column_is_what_the_predictor_is_told() -> None:
    """Oracle: asking in another order gives the same answers in that order; other columns, others."""
    model = predictor().eval()
    encoded, context = torch.randn(1, 3, 8), torch.tensor([[0, 1]])
    one, other = (model(encoded, context, torch.tensor([[asked]])) for asked in ([2, 4], [4, 2]))
    assert torch.allclose(one[0, 0], other[0, 0].flip(0), atol=1e-5)
    assert (one[0, 0, 0] - one[0, 0, 1]).abs().max() > 1e-3


def test_the_context_is_told_by_column_too() -> None:
    """Oracle: the same tokens said to be of other columns give another answer; a register has no column."""
    model = predictor().eval()
    encoded, asked = torch.randn(1, 3, 8), torch.tensor([[[3]]])
    answers = [model(encoded, torch.tensor([context]), asked) for context in ([0, 1], [1, 0], [0, 2])]
    assert (answers[0] - answers[1]).abs().max() > 1e-4 and (answers[0] - answers[2]).abs().max() > 1e-4
    swapped = model(encoded[:, [0, 2, 1]], torch.tensor([[1, 0]]), asked)
    assert torch.allclose(swapped, answers[0], atol=1e-5)


def test_weights_are_named_and_places_fixed() -> None:
    """Oracle: the same key gives the same weights, another key others; the code of places is no weight."""
    one, two = predictor(), predictor()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert "places" not in dict(one.named_parameters()) and one.places.shape == (5, 4)
    assert isinstance(one.leave[-1], nn.Linear) and one.query.abs().max() < 0.1
