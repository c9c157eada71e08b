"""Mixed samples: where interpolation is exact the regulariser is 0, elsewhere it is the formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.mixing import Mixing, mix_batch, mixed_regulariser, mixed_targets
from selfstudy.learning.redundancy import standardised

from .two_processes import in_two_processes

ALPHAS = st.floats(0, 1)
SEEDS = st.integers(0, 10**6)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def order(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).permutation(batch))


def network() -> nn.Sequential:
    """Not linear, and without batch normalisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5)).double()


def test_all_of_the_first_view() -> None:
    """Oracle: alpha = 1 gives m = a, G_A = u'u / B, G_B = u'v / B, and w = u, so that nothing is off."""
    a, b, moved, encoder = drawn(7, 4), drawn(7, 4, seed=1), order(7), network()
    u, v = standardised(encoder(a)), standardised(encoder(b))
    mixed = mix_batch(a, b, 1.0, moved)
    target_a, target_b = mixed_targets(u, v, 1.0, moved)
    torch.testing.assert_close(mixed, a)
    torch.testing.assert_close(target_a, u.T @ u / 7)
    torch.testing.assert_close(target_b, u.T @ v / 7)
    assert mixed_regulariser(u, v, standardised(encoder(mixed)), 1.0, moved).item() < 1e-20


def test_all_of_the_second_view() -> None:
    """Oracle: alpha = 0 without a permutation gives w = v, G_A = v'u / B, G_B = v'v / B."""
    a, b, still, encoder = drawn(7, 4), drawn(7, 4, seed=1), torch.arange(7), network()
    u, v = standardised(encoder(a)), standardised(encoder(b))
    target_a, target_b = mixed_targets(u, v, 0.0, still)
    torch.testing.assert_close(target_a, v.T @ u / 7)
    torch.testing.assert_close(target_b, v.T @ v / 7)
    w = standardised(encoder(mix_batch(a, b, 0.0, still)))
    assert mixed_regulariser(u, v, w, 0.0, still).item() < 1e-20


@given(alpha=ALPHAS, seed=SEEDS)
def test_a_linear_encoder_is_never_off(alpha: float, seed: int) -> None:
    """Oracle: linearity; without standardisation the embedding of a mixture is the mixture of embeddings."""
    a, b, moved, weight = drawn(6, 4, seed=seed), drawn(6, 4, seed=seed + 1), order(6, seed), drawn(4, 5)
    w = mix_batch(a, b, alpha, moved) @ weight
    assert mixed_regulariser(a @ weight, b @ weight, w, alpha, moved).item() < 1e-18


def test_a_linear_encoder_is_off_once_its_columns_are_standardised() -> None:
    """Oracle: two independent signs; the mixture has half their variance, w all of it, so w'u / B is
    1 / sqrt(2) where the target is 1 / 2."""
    u = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)
    v = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    still = torch.arange(4)
    w = standardised(mix_batch(u, v, 0.5, still), epsilon=0.0)
    off = 2**-0.5 - 0.5
    assert mixed_regulariser(u, v, w, 0.5, still).item() == pytest.approx(2 * off**2)


@given(alpha=ALPHAS)
def test_equal_views_have_equal_targets(alpha: float) -> None:
    """Oracle: v = u and no permutation leave G_A = G_B = u'u / B for every alpha."""
    u, still = standardised(drawn(6, 3)), torch.arange(6)
    for target in mixed_targets(u, u, alpha, still):
        torch.testing.assert_close(target, u.T @ u / 6)


@given(alpha=ALPHAS, seed=SEEDS, target_b=st.sampled_from(["uv", "vv"]))
def test_targets_are_correlations(alpha: float, seed: int, target_b: str) -> None:
    """Oracle: a convex mixture of correlations lies between -1 and 1."""
    u, v = (standardised(drawn(5, 3, seed=seed + i)) for i in (0, 1))
    for target in mixed_targets(u, v, alpha, order(5, seed), target_b=target_b):  # type: ignore[arg-type]
        assert target.abs().max().item() <= 1 + 1e-6


@pytest.mark.parametrize("target_b", ["uv", "vv"])
def test_the_regulariser_is_its_formula(target_b: str) -> None:
    """Oracle: a plain second implementation with six products, in value and in gradients."""
    batch, alpha, moved = 7, 0.3, order(7)
    leaves = [standardised(drawn(batch, 5, seed=i)).requires_grad_() for i in range(3)]
    u, v, w = leaves
    of_b = u if target_b == "uv" else v
    predicted = [w.T @ u / batch, w.T @ v / batch]
    expected = [
        (alpha * u.T @ u + (1 - alpha) * v[moved].T @ u) / batch,
        (alpha * of_b.T @ v + (1 - alpha) * v[moved].T @ v) / batch,
    ]
    plain = sum(((m - g) ** 2).sum() for m, g in zip(predicted, expected, strict=True))
    found = mixed_regulariser(u, v, w, alpha, moved, target_b=target_b)  # type: ignore[arg-type]
    torch.testing.assert_close(found, plain)
    ours, theirs = torch.autograd.grad(found, leaves), torch.autograd.grad(plain, leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    targets = mixed_targets(u, v, alpha, moved, target_b=target_b)  # type: ignore[arg-type]
    for one, other in zip(targets, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_flow_through_the_targets() -> None:
    """Oracle: finite differences in float64, of inputs that go through all three passes."""
    encoder, moved = network(), order(5)

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        u, v = standardised(encoder(a)), standardised(encoder(b))
        w = standardised(encoder(mix_batch(a, b, 0.4, moved)))
        return mixed_regulariser(u, v, w, 0.4, moved)

    assert torch.autograd.gradcheck(
        loss, (drawn(5, 4).requires_grad_(), drawn(5, 4, seed=1).requires_grad_())
    )


def test_by_hand() -> None:
    """Oracle: B = 2, D = 1, u = v = w = (1, -1), swapped, alpha = 3/4: targets 1/2, so 2 (1 - 1/2)^2."""
    u = torch.tensor([[1.0], [-1.0]])
    swapped = torch.tensor([1, 0])
    target_a, target_b = mixed_targets(u, u, 0.75, swapped)
    assert target_a.item() == target_b.item() == 0.5
    assert mixed_regulariser(u, u, u, 0.75, swapped).item() == 0.5


def test_the_two_forms_of_the_second_target() -> None:
    """Oracle: they differ by alpha (v'v - u'v) / B, and the first target not at all."""
    u, v, moved = standardised(drawn(6, 3)), standardised(drawn(6, 3, seed=1)), order(6)
    uv, vv = (mixed_targets(u, v, 0.3, moved, target_b=form) for form in ("uv", "vv"))  # type: ignore[arg-type]
    torch.testing.assert_close(vv[0], uv[0])
    torch.testing.assert_close(vv[1] - uv[1], 0.3 * (v.T @ v - u.T @ v) / 6)


def test_the_other_sample_is_the_other_view() -> None:
    """Oracle: by hand; a share of the first view, the rest of the second view of another sample."""
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[10.0], [20.0]])
    assert mix_batch(a, b, 0.5, torch.tensor([1, 0])).flatten().tolist() == [10.0, 5.5]


def test_half_precision_does_not_reach_the_loss() -> None:
    """Oracle: the same number, bit for bit, as outside of autocast, though products there are in bfloat16."""
    u, v, w = (standardised(drawn(16, 8, seed=seed).float()) for seed in range(3))
    expected = mixed_regulariser(u, v, w, 0.3, order(16))
    with torch.autocast("cpu", torch.bfloat16):
        found = mixed_regulariser(u, v, w, 0.3, order(16))
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def halves(rank: int) -> dict[str, torch.Tensor]:
    """The regulariser of half a batch, each half mixed within itself, through one weight."""
    weight = torch.eye(3, dtype=torch.float64).requires_grad_()
    a, b = (drawn(8, 3, seed=i).chunk(2)[rank] for i in (0, 1))
    w = standardised(mix_batch(a, b, 0.3, order(4)).pow(2) @ weight)
    loss = mixed_regulariser(standardised(a @ weight), standardised(b @ weight), w, 0.3, order(4))
    loss.backward()
    assert weight.grad is not None
    return {"loss": loss, "gradient": weight.grad}


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Oracle: one process with the whole batch and the permutation that moves within halves."""
    first, second = in_two_processes(halves, tmp_path)
    weight = torch.eye(3, dtype=torch.float64).requires_grad_()
    a, b, moved = drawn(8, 3), drawn(8, 3, seed=1), torch.cat([order(4), 4 + order(4)])
    w = standardised(mix_batch(a, b, 0.3, moved).pow(2) @ weight)
    loss = mixed_regulariser(standardised(a @ weight), standardised(b @ weight), w, 0.3, moved)
    loss.backward()
    torch.testing.assert_close(first["loss"], loss.detach())
    torch.testing.assert_close((first["gradient"] + second["gradient"]) / 2, weight.grad)


def test_tokens_cannot_be_mixed() -> None:
    """Oracle: the words of the message, and the option that switches mixing off."""
    tokens = torch.zeros(4, 3, dtype=torch.int64)
    with pytest.raises(DataError, match=r"continuous inputs.*mix embeddings instead.*--mix\.weight 0"):
        mix_batch(tokens, tokens, 0.5, torch.arange(4))


def test_bytes_are_cast_with_a_warning() -> None:
    """Oracle: by hand; half of 3 and half of 4."""
    images = torch.tensor([[3], [4]], dtype=torch.uint8)
    with pytest.warns(UserWarning, match="cast to float"):
        mixed = mix_batch(images, images, 0.5, torch.tensor([1, 0]))
    assert mixed.tolist() == [[3.5], [3.5]]


def test_the_weight_rises() -> None:
    """Oracle: by hand; the small-image form is constant, the ImageNet form half as heavy after its ramp."""
    assert Mixing(weight=4.0).weight_at(0, epoch=5) == 4.0
    ramp = Mixing(weight=2.0, form="imagenet", ramp_epochs=10)
    assert [ramp.weight_at(step, epoch=5) for step in (0, 25, 50, 500)] == [0.0, 0.5, 1.0, 1.0]


def test_shares_follow_the_distribution() -> None:
    """Oracle: mean and variance of Beta(2, 6), 1/4 and 1/48, within 4 standard errors; permutations are."""
    mixing = Mixing(beta=(2.0, 6.0))
    draws = [mixing.draw(np.random.default_rng(seed), 5) for seed in range(2000)]
    shares = np.array([alpha for alpha, _ in draws])
    assert abs(shares.mean() - 0.25) < 4 * (1 / 48 / 2000) ** 0.5
    assert abs(shares.var() - 1 / 48) < 0.2 / 48
    assert all(sorted(moved.tolist()) == list(range(5)) for _, moved in draws[:20])


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"weight": -1.0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"ramp_epochs": -1.0}, "ramp_epochs"),
        ({"beta": (0.0, 1.0)}, "beta"),
        ({"beta": (1.0, -2.0)}, "beta"),
        ({"beta": (1.0, float("nan"))}, "beta"),
    ],
)
def test_settings_that_cannot_be(fields: dict[str, object], word: str) -> None:
    """Oracle: the field's name in the message."""
    with pytest.raises(UsageError, match=word):
        Mixing(**fields).validate()  # type: ignore[arg-type]
