"""Alignment, interpolation, effective maps and verification, against forms that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.regression import Batch, Regression
from selfstudy.evaluation.alignment import alignment, interpolate, predictions, products, sensitivities
from selfstudy.evaluation.effective_map import effective_map
from selfstudy.evaluation.out_of_distribution import RANGES, departures, repeated
from selfstudy.evaluation.verification import BEST, references, verify_icl
from selfstudy.models.in_context.descent_weights import gd_attention
from selfstudy.models.in_context.linear_attention import BilinearAttention, LinearSelfAttention
from selfstudy.models.in_context.predictors import gradient_descent, least_squares, ridge, zero

GAUSSIAN = Regression(inputs="gaussian", dimensions=5, context=20, noise=0.5)


def problems(size: int = 200, case: Regression = GAUSSIAN) -> Batch:
    return case.draw(size, generator("alignment"))


def step_layer(step: float) -> BilinearAttention:
    """The (u, M) form of one step."""
    model = BilinearAttention(dimensions=5)
    with torch.no_grad():
        model.u.copy_(torch.tensor([0.0] * 5 + [2.0]))
        model.matrix.zero_()
        model.matrix[:5, :5] = step / 2 * torch.eye(5)
    return model


def test_sensitivities_of_a_linear_model_are_its_weights() -> None:
    """Oracle: the weights after one step, s X^T y; they do not depend on the query."""
    batch = problems()
    weights = 0.03 * (batch.context.inputs.mT @ batch.context.targets[..., None])[..., 0]
    torch.testing.assert_close(sensitivities(gradient_descent(0.03), batch), weights)
    moved = batch._replace(query=batch.query + 1)
    torch.testing.assert_close(sensitivities(gradient_descent(0.03), moved), weights)
    torch.testing.assert_close(sensitivities(gd_attention(5, 0.03), batch), weights, rtol=1e-4, atol=1e-5)


def test_alignment_of_multiples() -> None:
    """Oracle: by hand: twice the step has cosine 1, and the distance and difference of one step."""
    batch = problems()
    one = gradient_descent(0.02)
    found = alignment(gradient_descent(0.04), one, batch)
    assert found.cosine == pytest.approx(1, abs=1e-5)
    assert found.model_difference == pytest.approx(
        float(sensitivities(one, batch).norm(dim=1).mean()), rel=1e-4
    )
    assert found.prediction_difference == pytest.approx(float(predictions(one, batch).abs().mean()), rel=1e-4)
    assert alignment(one, one, batch) == pytest.approx((1, 0, 0), abs=1e-5)
    assert alignment(gradient_descent(-0.02), one, batch).cosine == pytest.approx(-1, abs=1e-5)


def test_any_callable() -> None:
    """Oracle: ridge is nearer to least squares than one step is."""
    batch = problems()
    near = alignment(ridge(0.25), least_squares(), batch)
    assert near.cosine > alignment(gradient_descent(0.04), least_squares(), batch).cosine > 0.8


def test_interpolation() -> None:
    """Oracle: between steps s and t lies the step of their mean, whatever the free factors are."""
    batch = problems()
    one, other = gd_attention(5, 0.02), gd_attention(5, 0.06)
    with torch.no_grad():
        other.query *= -3.0
        other.projection /= -3.0
    for share, step in ((0.0, 0.02), (0.25, 0.03), (1.0, 0.06)):
        mixed = predictions(interpolate(one, other, share), batch)
        torch.testing.assert_close(mixed, predictions(gradient_descent(step), batch), rtol=1e-4, atol=1e-5)
    assert float(products(other).qk[0].diagonal()[:5].mean()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("fields", [{"heads": 2}, {"softmax": True}, {"layer_norm": True}])
def test_interpolation_refused(fields) -> None:
    """Oracle: the forms whose weights are not told by two products; the message has the reason."""
    with pytest.raises(UsageError, match="one factor"):
        interpolate(LinearSelfAttention(dimensions=5, **fields), gd_attention(5, 0.1))


def test_other_interpolations_refused() -> None:
    """Oracle: different shapes; a model without weights to scale by."""
    with pytest.raises(UsageError, match="different shapes"):
        interpolate(gd_attention(4, 0.1), gd_attention(5, 0.1))
    with pytest.raises(UsageError, match="mean diagonal"):
        empty = gd_attention(5, 0.1)
        torch.nn.init.zeros_(empty.query)
        products(empty)


@pytest.mark.parametrize("heads", [1, 2])
def test_the_effective_map(heads: int) -> None:
    """Oracle: the terms written out by einsum add up to the layer's output."""
    batch = problems(50)
    model = LinearSelfAttention(dimensions=5, heads=heads, scale=0.5)
    found = effective_map(model, batch)
    with torch.no_grad():
        u, m = model.bilinear()
        x, y, q = *batch.context, batch.query
        gradient = torch.einsum("bi,bij,jk,bk->b", y, x, found.matrix, q)
        square = torch.einsum("bi,k,bk->b", y**2, found.square, q)
        cubic = torch.einsum("bij,hj,bik,hkl,bl->b", x, u[:, :-1], x, m[:, :-1], q)
        torch.testing.assert_close(gradient + square + cubic, predictions(model, batch), rtol=1e-3, atol=1e-4)
        share = (square + cubic).square().mean() / (gradient + square + cubic).square().mean()
    assert found.spurious_share == pytest.approx(float(share), rel=1e-3)


def test_a_step_has_no_spurious_terms() -> None:
    """Oracle: the constructions of one step, in both forms."""
    batch = problems()
    for model in (step_layer(0.04), gd_attention(5, 0.04)):
        found = effective_map(model, batch)
        torch.testing.assert_close(found.matrix, 0.04 * torch.eye(5), rtol=1e-5, atol=1e-7)
        assert found.spurious_share < 1e-10
    with pytest.raises(UsageError, match="softmax=True"):
        effective_map(LinearSelfAttention(dimensions=5, softmax=True), batch)


def test_the_gradient_vanishes_at_the_optimum() -> None:
    """Oracle: theorem 1: every coordinate of the gradient in (u, M) is 0 at the step, 4.5 s.e. of 40,000."""
    batch = problems(40_000)
    model = step_layer(1 / 26.25)
    residual = (predictions(model, batch) - batch.answer)[:, None]
    v = torch.cat([batch.context.inputs, batch.context.targets[..., None]], -1)
    moments = v.mT @ v
    with torch.no_grad():
        by_u = residual * (moments @ (batch.query @ model.matrix[:, :5].T)[..., None])[..., 0]
        by_m = residual[..., None] * (moments @ model.u)[:, :, None] * batch.query[:, None]
    for gradient in (by_u, by_m.flatten(1)):
        errors = gradient.std(0) / len(gradient) ** 0.5
        assert (gradient.mean(0).abs() < 4.5 * errors + 1e-12).all()


def test_verification_of_the_best_and_of_others() -> None:
    """Oracle: the best layer passes all; a step that is 20 % too long, and another callable, do not."""
    batch = problems(20_000)
    best = verify_icl(step_layer(1 / 26.25), GAUSSIAN, batch)
    assert all(line["holds"] for line in best["held_to"]) and len(best["held_to"]) == 4
    assert best["distance"] < 1e-9 and best["map"]["relative_error"] < 1e-5
    assert [round(d["learned"] / d["best"], 4) for d in best["map"]["directions"]] == [1.0] * 5
    long = verify_icl(step_layer(1.2 / 26.25), GAUSSIAN, batch)
    assert long["map"]["relative_error"] == pytest.approx(0.2, rel=1e-4)
    assert not all(line["holds"] for line in long["held_to"])
    better = verify_icl(ridge(0.25), GAUSSIAN, batch)  # no layer: below the best one by far
    assert better["map"] is None and better["errors_below"] > 10
    assert [line["holds"] for line in better["held_to"]] == [True, False]


def test_references() -> None:
    """Oracle: by hand: the best layer is first where it is known, and descent where it is no plain step."""
    tuning = problems()
    assert next(iter(references(GAUSSIAN, tuning))) == BEST
    skewed = Regression(inputs="gaussian", dimensions=2, covariance=np.diag([1.0, 0.2]))
    assert "best step of descent" in references(skewed, skewed.draw(200, generator("x")))
    sines = Regression(dimensions=1, responses="sine", scale=10.0)
    names = list(references(sines, sines.draw(200, generator("x"))))
    assert BEST not in names and "ridge, best penalty" in names


def test_departures() -> None:
    """Oracle: errors of predicting 0 by hand: quadratic in the range; the model's are its reference's."""
    case = Regression()

    def draw(**changes):
        return Regression(**changes).draw(300, generator("departures"))

    curves = departures(
        {"the model": gd_attention(10, 0.5), "gradient descent": gradient_descent(0.5), "zero": zero},
        case,
        draw,
    )
    wide = curves["range of inputs"]
    assert wide["at"] == list(RANGES)
    np.testing.assert_allclose(wide["zero"], [wide["zero"][2] * r**2 for r in RANGES], rtol=1e-4)
    for curve in curves.values():
        np.testing.assert_allclose(curve["the model"], curve["gradient descent"], rtol=1e-3)
    assert len(curves["corrupted targets"]["at"]) == 11
    again = repeated(gd_attention(10, 0.5), 0.5, draw())
    np.testing.assert_allclose(again["the model"], again["gradient descent"], rtol=1e-3)
