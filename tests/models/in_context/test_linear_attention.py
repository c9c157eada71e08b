"""Linear self-attention: against loops over tokens, its invariances, and the weights that are descent."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.regression import Batch, Context, Regression
from selfstudy.models.in_context.descent_weights import gd_attention
from selfstudy.models.in_context.linear_attention import BilinearAttention, LinearSelfAttention
from selfstudy.models.in_context.predictors import descent_path, gradient_descent


def problems(size: int = 100, d: int = 4, n: int = 6, name: str = "p", **fields) -> Batch:
    return Regression(dimensions=d, context=n, **fields).draw(size, generator("test", name))


def grown(seed: int = 0, **fields) -> LinearSelfAttention:
    """A model whose weights are large enough that all of them matter."""
    return LinearSelfAttention(**{"dimensions": 4, "scale": 0.5, "seed": seed, **fields})


def by_loops(model: LinearSelfAttention, context: Context, query: torch.Tensor) -> list[float]:
    """The definition, token by token, head by head."""
    predictions = []
    for x, y, asked in zip(*context, query, strict=True):
        seen = [torch.cat([x_i, y_i[None]]) for x_i, y_i in zip(x, y, strict=True)]
        seen.append(torch.cat([asked, torch.zeros(1)]))
        for layer in range(model.layers):
            i = layer % len(model.query)
            norm = model.norm or (lambda token: token)
            normed = [norm(token) for token in seen]
            after = []
            for token, own in zip(seen, normed, strict=True):
                change = torch.zeros_like(token)
                for h in range(model.query.shape[1]):
                    q = own @ model.query[i, h]
                    scores = torch.stack([q @ (other @ model.key[i, h]) for other in normed[:-1]])
                    weights = torch.softmax(scores, 0) if model.softmax else scores
                    values = [other @ model.value[i, h] for other in normed[:-1]]
                    mixed = sum(w * v for w, v in zip(weights, values, strict=True))
                    change = change + mixed @ model.projection[i, h]
                after.append((token + change).clamp(-model.clip, model.clip))
            seen = after
        predictions.append(-float(seen[-1][-1]))
    return predictions


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"layers": 3},
        {"layers": 2, "recurrent": False, "heads": 2},
        {"layers": 2, "heads": 2, "softmax": True},
        {"layers": 2, "layer_norm": True},
        {"layers": 2, "clip": 0.3, "scale": 4.0},
    ],
)
def test_against_loops(fields) -> None:
    """Oracle: a second implementation by loops over problems, tokens and heads."""
    model, batch = grown(**fields), problems(5)
    with torch.no_grad():
        expected = by_loops(model, *batch[:2])
        torch.testing.assert_close(model(*batch[:2]), torch.tensor(expected), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.layerwise(*batch[:2])[-1], model(*batch[:2]), rtol=1e-5, atol=1e-6)


def explicit_step(batch: Batch, step: float, start: torch.Tensor) -> torch.Tensor:
    """The weights after one step on ½ Σ (w·x - y)², by automatic differentiation."""
    w = start.expand(len(batch.query), -1).clone().requires_grad_()
    x, y = batch.context
    (0.5 * ((x @ w[..., None])[..., 0] - y) ** 2).sum().backward()
    return (w - step * w.grad).detach()


@settings(max_examples=15, deadline=None)
@given(step=st.floats(-1, 1), start=st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_the_construction_is_a_step_from_any_start(step: float, start: list[float]) -> None:
    """Oracle: the step by automatic differentiation, on 100 problems; the layer adds what w_0·x lacks."""
    w0, batch = torch.tensor(start), problems()
    after = explicit_step(batch, step, w0)
    expected = ((after - w0) * batch.query).sum(-1)
    model = gd_attention(4, step, start=w0)
    torch.testing.assert_close(model(*batch[:2]).detach(), expected, rtol=1e-5, atol=1e-5)
    path = descent_path(*batch[:2], step, 1, start=w0)
    torch.testing.assert_close(path[1], (after * batch.query).sum(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("curvature", [0.0, 0.1])
def test_layers_are_steps(curvature: float) -> None:
    """Oracle: K steps of descent, or of GD++, after each layer."""
    batch = problems()
    model = gd_attention(4, 0.3, layers=4, curvature=curvature)
    explicit = descent_path(*batch[:2], 0.3, 4, curvature)
    torch.testing.assert_close(model.layerwise(*batch[:2]).detach(), explicit, rtol=1e-4, atol=1e-5)


def test_the_curvature_moves_the_tokens() -> None:
    """Oracle: x (I - γ X^T X), for the query and, through the next layer, the context."""
    batch, gamma = problems(3), 0.2
    x, y = batch.context
    moved = torch.eye(4) - gamma * x.mT @ x
    slope = x.mT @ y[..., None]
    first = 0.3 * (slope[..., 0] * batch.query).sum(-1)
    rest = y - 0.3 * (x @ slope)[..., 0]
    second = gradient_descent(0.3)(Context(x @ moved, rest), (batch.query[:, None] @ moved)[:, 0])
    both = gd_attention(4, 0.3, layers=2, curvature=gamma)(*batch[:2]).detach()
    torch.testing.assert_close(both, first + second, rtol=1e-5, atol=1e-6)


def test_invariances() -> None:
    """Oracle: the same prediction with the context permuted; a step of descent is linear in y and x_q."""
    batch, order = problems(), torch.tensor([3, 1, 5, 0, 2, 4])
    mixed = Context(batch.context.inputs[:, order], batch.context.targets[:, order])
    for model in (grown(), grown(layers=2, heads=2, softmax=True)):
        with torch.no_grad():
            torch.testing.assert_close(model(mixed, batch.query), model(*batch[:2]), rtol=1e-4, atol=1e-5)
    step = gd_attention(4, 0.4)
    with torch.no_grad():
        tripled = step(Context(batch.context.inputs, 3 * batch.context.targets), batch.query)
        torch.testing.assert_close(tripled, 3 * step(*batch[:2]))
        both = step(batch.context, batch.query + 1.0)
        ones = step(batch.context, torch.ones_like(batch.query))
        torch.testing.assert_close(both, step(*batch[:2]) + ones, rtol=1e-4, atol=1e-5)


def test_a_factor_between_the_weights_is_free() -> None:
    """Oracle: (c W_Q, P / c) gives the same outputs."""
    model, batch = grown(layers=2), problems()
    other = model.copy()
    with torch.no_grad():
        other.query *= 5.0
        other.projection /= 5.0
        torch.testing.assert_close(other(*batch[:2]), model(*batch[:2]), rtol=1e-4, atol=1e-5)


def test_repeated_is_damped_descent() -> None:
    """Oracle: a construction applied 20 times at 3/4 is descent with 3/4 of its step."""
    batch = problems()
    learned = gd_attention(4, 0.4).repeated(*batch[:2], 20, 0.75).detach()
    torch.testing.assert_close(learned, descent_path(*batch[:2], 0.3, 20), rtol=1e-4, atol=1e-5)
    curved = gd_attention(4, 0.4, curvature=0.5).repeated(*batch[:2], 20, 0.75).detach()
    torch.testing.assert_close(curved, learned)  # changes of x are left out


@pytest.mark.parametrize("heads", [1, 2])
def test_the_bilinear_form(heads: int) -> None:
    """Oracle: the layer itself: Σ_h Σ_i (u·v_i)(v_i^T M x_q)."""
    batch = problems()
    v = torch.cat([batch.context.inputs, batch.context.targets[..., None]], -1)
    for model in (grown(heads=heads), BilinearAttention(dimensions=4, scale=0.5)):
        with torch.no_grad():
            u, m = model.bilinear()
            terms = torch.einsum("bij,hj,bik,hkl,bl->b", v, u, v, m, batch.query)
            torch.testing.assert_close(model(*batch[:2]), terms, rtol=1e-4, atol=1e-5)


def test_first_weights() -> None:
    """Oracle: variance scale / (layers D) within 4 standard errors; a seed names them; others differ."""
    model = LinearSelfAttention(dimensions=40, layers=2, scale=0.5, seed=3)
    weights = model.query.detach().flatten()
    variance = 0.5 / (2 * 41)
    assert abs(float(weights.var()) / variance - 1) < 4 * math.sqrt(2 / len(weights))
    assert torch.equal(model.query, LinearSelfAttention(dimensions=40, layers=2, scale=0.5, seed=3).query)
    other = LinearSelfAttention(dimensions=40, layers=2, scale=0.5, seed=4)
    assert not torch.equal(model.query, other.query) and not torch.equal(model.query, model.key)


def test_the_clip_goes_by_depth() -> None:
    """Oracle: the authors' rule, 10 for more than three layers; inf is none."""
    clips = [LinearSelfAttention(layers=k).clip for k in (1, 3, 4)]
    assert clips == [math.inf, math.inf, 10.0]
    assert LinearSelfAttention(layers=9, clip=math.inf).clip == math.inf


def test_refused() -> None:
    """Oracle: a width that differs, with both; sizes out of range; a deep model as a bilinear map."""
    with pytest.raises(UsageError, match=r"width 11 .*width 5"):
        LinearSelfAttention()(*problems(2)[:2])
    for fields in ({"dimensions": 0}, {"layers": 0}, {"heads": 0}, {"scale": 0.0}, {"clip": -1.0}):
        with pytest.raises(UsageError, match=next(iter(fields))):
            LinearSelfAttention(**fields)
    for fields in ({"layers": 2}, {"softmax": True}, {"layer_norm": True}):
        with pytest.raises(UsageError, match="one layer"):
            LinearSelfAttention(**fields).bilinear()
