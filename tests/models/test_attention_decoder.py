"""The Y/Z model: its equations, its gradients, its symmetries, and what it refuses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selfstudy.core.errors import UsageError
from selfstudy.models.attention_decoder import AttentionDecoder, losses, require_decoder

M, T = 11, 9


def model(**fields: Any) -> AttentionDecoder:
    made = AttentionDecoder(**{"vocabulary": M, "spread": 0.7, **fields}).double()
    return made


def sequences(size: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randint(M, (size, T), generator=generator),
        torch.randint(M, (size, 1), generator=generator),
    )


def plain(net: AttentionDecoder, row: torch.Tensor, place: int) -> torch.Tensor:
    """The equations of one layer for one query, a token at a time."""
    z, y = net.attention.matrix(), net.decoder.matrix()
    keys = row[: place + 1] if net.include_query else row[:place]
    weights = torch.stack([z[key, row[place]] for key in keys]).exp()
    u = torch.zeros(M, dtype=z.dtype)
    for key, weight in zip(keys, weights / weights.sum(), strict=True):
        u[key] = u[key] + weight
    if net.residual:
        u[row[place]] = u[row[place]] + 1
    return y @ (u / u.norm() if net.normalize else u)


VARIANTS = [
    dict(zip(("width", "residual", "include_query", "normalize"), values, strict=True))
    for values in itertools.product((0, 4), (False, True), (False, True), (False, True))
]


@pytest.mark.parametrize("fields", VARIANTS, ids=lambda fields: "-".join(map(str, fields.values())))
def test_logits_of_every_variant(fields: dict[str, Any]) -> None:
    """Oracle: a plain second implementation, a token at a time; values and gradients."""
    net = model(**fields)
    tokens, _ = sequences(3)
    logits = net(tokens, T - 1)
    expected = torch.stack([torch.stack([plain(net, row, place) for place in range(1, T)]) for row in tokens])
    torch.testing.assert_close(logits, expected)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    ours = torch.autograd.grad((logits * direction).sum(), list(net.parameters()))
    theirs = torch.autograd.grad((expected * direction).sum(), list(net.parameters()))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(net(tokens), logits[:, -1:])


@pytest.mark.parametrize("include_query", [False, True])
def test_two_layers(include_query: bool) -> None:
    """Oracle: a plain second implementation over dense vectors, with a ReLU between the layers."""
    net = model(layers=2, residual=True, include_query=include_query)
    tokens, _ = sequences(2)
    x = F.one_hot(tokens, M).double()
    for depth, block in enumerate(net.blocks):
        x = x.relu() if depth else x
        out = []
        for row in x:
            places = []
            for at in range(T):
                keys = row[: at + 1] if include_query else row[:at]
                scores = keys @ block.attention.matrix() @ row[at]
                u = scores.softmax(0) @ keys + row[at] if len(keys) else row[at]
                places.append(block.decoder.matrix() @ (u / u.norm()))
            out.append(torch.stack(places))
        x = torch.stack(out)
    torch.testing.assert_close(net(tokens, T - 1), x[:, 1:])


def test_gradient_of_attention_is_the_closed_form() -> None:
    """Oracle: dL/dZ[:, m] = b * (I - u u^T) g / |b|, g = Y^T (softmax(Y u) - e), derived by hand."""
    net = model()
    tokens, targets = sequences(1)
    loss = losses(net, tokens, targets).mean()
    (gradient,) = torch.autograd.grad(loss, [net.attention.whole])
    z, y, query = net.attention.matrix().detach(), net.decoder.matrix().detach(), tokens[0, -1]
    b = torch.zeros(M, dtype=torch.double).scatter_add(0, tokens[0, :-1], z[tokens[0, :-1], query].softmax(0))
    u = b / b.norm()
    g = y.T @ ((y @ u).softmax(0) - F.one_hot(targets[0, 0], M))
    closed = b * (g - u * (u @ g)) / b.norm()
    torch.testing.assert_close(gradient[:, query], closed, rtol=0, atol=1e-6)
    others = torch.arange(M) != query
    assert (gradient[:, others] == 0).all() and closed.abs().max() > 1e-3
    assert gradient.sum(0).abs().max() < 1e-12


def test_columns_of_the_gradient_sum_to_zero_over_a_batch() -> None:
    """Oracle: softmax ignores a shift; only the columns of the batch's queries move."""
    net = model()
    tokens, targets = sequences(4)
    (gradient,) = torch.autograd.grad(losses(net, tokens, targets).mean(), [net.attention.whole])
    assert gradient.sum(0).abs().max() < 1e-12
    moved = set(gradient.abs().sum(0).nonzero().flatten().tolist())
    assert moved == set(tokens[:, -1].tolist())


def test_what_changes_nothing() -> None:
    """Oracle: a shift of a column of Z, and another order of the context, leave the loss as it is."""
    net = model()
    tokens, targets = sequences()
    before = losses(net, tokens, targets)
    order = torch.randperm(T - 1, generator=torch.Generator().manual_seed(2))
    moved = torch.cat([tokens[:, :-1][:, order], tokens[:, -1:]], 1)
    torch.testing.assert_close(losses(net, moved, targets), before)
    with torch.no_grad():
        net.attention.whole += torch.randn(M, dtype=torch.double)
    torch.testing.assert_close(losses(net, tokens, targets), before)
    with torch.no_grad():
        net.attention.whole += torch.randn(M, 1, dtype=torch.double)
    assert (losses(net, tokens, targets) - before).abs().max() > 1e-3


def test_exchanged_tokens_give_exchanged_matrices() -> None:
    """Oracle: renaming the tokens of the data renames rows and columns of the trained Z and Y."""
    rename = torch.from_numpy(np.random.default_rng(3).permutation(M))
    trained = []
    for renamed in (False, True):
        net = model(spread=0.0)
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9)
        for step in range(20):
            tokens, targets = sequences(seed=step)
            loss = losses(net, *((rename[tokens], rename[targets]) if renamed else (tokens, targets))).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        trained.append([net.attention.matrix().detach(), net.decoder.matrix().detach()])
    for one, other in zip(*trained, strict=True):
        torch.testing.assert_close(other[rename][:, rename], one)
        assert one.abs().max() > 0.01


@pytest.mark.parametrize("width", [0, 4])
def test_zero_start_is_uniform(width: int) -> None:
    """Oracle: at Z = 0 attention is 1 / (T - 1) and at Y = 0 the loss is log M."""
    net = AttentionDecoder(vocabulary=M, width=width)
    tokens, targets = sequences()
    weights = net.weigh(tokens)
    torch.testing.assert_close(weights[:, 0, :-1], torch.full((len(tokens), T - 1), 1 / (T - 1)))
    assert (weights[..., -1] == 0).all()
    torch.testing.assert_close(losses(net, tokens, targets), torch.full((len(tokens), 1), float(np.log(M))))


def test_first_weights_come_from_the_seed() -> None:
    """Oracle: equal seeds, equal weights; other seeds, others; columns of the random factor have length 1."""
    one, two, other = (AttentionDecoder(vocabulary=500, width=50, seed=seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))
    assert not torch.equal(one.attention.pre, other.attention.pre)
    # The mean square length of 500 columns has standard error sqrt(2 / 50 / 500) = 0.009; 5 of them.
    assert abs(float(one.attention.pre.detach().square().sum(0).mean()) - 1) < 0.045


@pytest.mark.parametrize(
    "fields",
    [
        {"vocabulary": 1},
        {"width": -1},
        {"layers": 0},
        {"layers": 2},
        {"spread": -0.1},
        {"spread": float("nan")},
    ],
)
def test_fields_out_of_range(fields: dict[str, Any]) -> None:
    """Oracle: each limit of the constructor."""
    with pytest.raises(UsageError):
        AttentionDecoder(**fields)


def test_large_vocabularies_need_a_width() -> None:
    """Oracle: 20,000 tokens are the most for whole matrices."""
    with pytest.raises(UsageError, match="width"):
        AttentionDecoder(vocabulary=20_001)
    assert AttentionDecoder(vocabulary=20_001, width=2).weights == 4 * 2 * 20_001


def test_a_query_without_keys() -> None:
    """Oracle: with T = 1 there is none; the first position has none unless it is its own key."""
    tokens, _ = sequences()
    with pytest.raises(UsageError, match="attend"):
        model()(tokens[:, :1])
    with pytest.raises(UsageError, match="attend"):
        model().weigh(tokens, T)
    assert model(include_query=True).weigh(tokens, T)[0, 0, 0] == 1


def test_models_that_do_not_fit() -> None:
    """Oracle: both sizes, and the model that fits, are in the message."""

    class Task:
        name, vocabulary = "words", 2001

    with pytest.raises(UsageError, match=r"34 tokens.*2001.*vocabulary=2001&width=64"):
        require_decoder(AttentionDecoder(), Task())
    with pytest.raises(UsageError, match="str"):
        require_decoder("tiny-lm", Task())
