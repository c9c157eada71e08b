"""Contrastive losses: second implementations, gradients, masks, precision, and several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.core.errors import DataError
from selfstudy.learning.contrastive import (
    cosines,
    image_text_loss,
    individual_loss,
    info_nce,
    negatives,
    nt_xent,
    queue_loss,
)
from selfstudy.learning.temperatures import IndividualTemperatures, TemperatureLearning

from .two_processes import in_two_processes

seeds = st.integers(0, 2**32 - 1)


def rows(count: int = 4, width: int = 3, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.requires_grad_()


def state(samples: int = 8, first: float = 0.2, **fields: Any) -> IndividualTemperatures:
    return IndividualTemperatures(samples, first, TemperatureLearning(**fields)).double()


def unit(values: torch.Tensor) -> torch.Tensor:
    return values / values.norm(dim=1, keepdim=True)


def plain_nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 1 of SimCLR, one pair at a time."""
    z, count = unit(torch.cat((first, second))), len(first)
    losses = []
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        others = [torch.exp(z[i] @ z[k] / temperature) for k in range(2 * count) if k != i]
        losses.append(-z[i] @ z[j] / temperature + torch.stack(others).sum().log())
    return torch.stack(losses).mean()


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


@settings(max_examples=20, deadline=None)
@given(seed=seeds, count=st.integers(2, 6), temperature=st.floats(0.05, 2))
def test_nt_xent_by_hand(seed: int, count: int, temperature: float) -> None:
    """Oracle: a plain second implementation by pairs, value and gradients to 1e-9."""
    first, second = rows(count, seed=seed), rows(count, seed=seed + 1)
    found, expected = nt_xent(first, second, temperature), plain_nt_xent(first, second, temperature)
    assert torch.allclose(found, expected, atol=1e-9)
    for mine, other in zip(gradients(found, first, second), gradients(expected, first, second), strict=True):
        assert torch.allclose(mine, other, atol=1e-9)


def test_nt_xent_of_one_pair_among_equals() -> None:
    """Oracle: log(2B - 1) where all embeddings are alike; with temperatures of each row as with one."""
    same = torch.ones(5, 3)
    assert float(nt_xent(same, same, 0.1)) == pytest.approx(torch.log(torch.tensor(9.0)))
    first, second = rows(), rows(seed=1)
    each = torch.full((8, 1), 0.3, dtype=torch.float64)
    assert torch.equal(nt_xent(first, second, each), nt_xent(first, second, 0.3))


def test_nt_xent_with_a_mask() -> None:
    """Oracle: images of one group left out of the negatives, written out; the own view always stays."""
    first, second, groups = rows(), rows(seed=1), torch.tensor([0, 0, 1, 2])
    both = groups.repeat(2)
    mask = both[:, None] != both[None]
    z = unit(torch.cat((first, second)))
    losses = []
    for i in range(8):
        j = (i + 4) % 8
        terms = [torch.exp(z[i] @ z[k] / 0.2) for k in range(8) if both[k] != both[i] or k == j]
        losses.append(-z[i] @ z[j] / 0.2 + torch.stack(terms).sum().log())
    assert torch.allclose(nt_xent(first, second, 0.2, mask=mask), torch.stack(losses).mean())


@pytest.mark.parametrize("batch", [2, 5])
def test_the_mask(batch: int) -> None:
    """Oracle: 2B - 2 negatives a row, none of them the row's own image."""
    mask = negatives(batch)
    ids = torch.arange(batch).repeat(2)
    assert mask.sum(1).tolist() == [2 * batch - 2] * (2 * batch)
    assert torch.equal(mask, ids[:, None] != ids[None])


def test_bfloat16_networks_lose_nothing_in_the_loss() -> None:
    """Oracle: the same numbers in float64, to 1e-5, inside autocast too."""
    first, second = (rows(16, 8, seed=seed).detach().bfloat16() for seed in (0, 1))
    exact = nt_xent(first.double(), second.double(), 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        found = nt_xent(first, second, 0.05)
        weighed = individual_loss(first, second, torch.arange(16), state(16).float())
    assert found.dtype == torch.float32 and float(found) == pytest.approx(float(exact), rel=1e-5)
    same = individual_loss(first.double(), second.double(), torch.arange(16), state(16))
    assert float(weighed["loss"]) == pytest.approx(float(same["loss"]), rel=1e-5)


def test_info_nce_by_hand() -> None:
    """Oracle: the cross-entropy of MoCo written out, value and gradient."""
    queries, keys, queue = rows(), rows(seed=1).detach(), rows(6, seed=2).detach()
    own = (unit(queries) * unit(keys)).sum(1, keepdim=True)
    logits = torch.cat((own, unit(queries) @ unit(queue).T), 1) / 0.3
    expected = -torch.log_softmax(logits, 1)[:, 0].mean()
    found = info_nce(queries, keys, queue, 0.3)
    assert torch.allclose(found, expected)
    assert torch.allclose(gradients(found, queries)[0], gradients(expected, queries)[0])


def plain_individual(
    first: torch.Tensor, second: torch.Tensor, tau: list[float], s: list[float], gamma: float, centred: bool
) -> torch.Tensor:
    """Steps 1 to 4 for one batch of images seen before, a row at a time."""
    z, count = unit(torch.cat((first, second))), len(first)
    total = torch.zeros((), dtype=torch.float64)
    for r in range(2 * count):
        i, partner = r % count, (r + count) % (2 * count)
        positive = z[r] @ z[partner]
        h = torch.stack([z[r] @ z[c] for c in range(2 * count) if c % count != i])
        h = h - positive if centred else h
        terms = torch.exp(h.detach() / tau[i])
        new = (1 - gamma) * s[i] + gamma * terms.mean()
        total = total + (terms / new * h).mean() - (0.0 if centred else positive)
    return total / count


@pytest.mark.parametrize("centred", [False, True])
def test_the_individual_loss_by_hand(centred: bool) -> None:
    """Oracle: a plain second implementation by rows at a second visit, value and gradients to 1e-6."""
    made, ids = state(6, new_mean=0.7), torch.tensor([4, 0, 5])
    individual_loss(rows(3), rows(3, seed=1), ids, made, centred=centred)
    tau, s = made.tau[ids].tolist(), made.log_mean[ids].exp().tolist()
    first, second = rows(3, seed=2), rows(3, seed=3)
    found = individual_loss(first, second, ids, made, centred=centred)
    expected = plain_individual(first, second, tau, s, 0.7, centred)
    assert torch.allclose(found["loss"], expected, atol=1e-6)
    assert not (found["temperature"].requires_grad or found["divergence"].requires_grad)
    for mine, other in zip(
        gradients(found["loss"], first, second), gradients(expected, first, second), strict=True
    ):
        assert torch.allclose(mine, other, atol=1e-6)


def objective(both: torch.Tensor, tau: float) -> torch.Tensor:
    """tau log mean exp(S / tau) less the similarity of the views: summed over views, mean over images."""
    count = len(both) // 2
    similarities = unit(both) @ unit(both).T
    kept = similarities[negatives(count)].view(2 * count, -1)
    positives = similarities.diagonal(count).repeat(2)
    return (tau * torch.exp(kept / tau).mean(1).log() - positives).sum() / count


@pytest.mark.parametrize("tau", [0.07, 0.2, 1.0])
def test_the_gradient_is_that_of_the_objective(tau: float) -> None:
    """Oracle: finite differences of the log-mean-exp objective, where the average is the batch's own."""
    first, second = rows(), rows(seed=1)
    loss = individual_loss(first, second, torch.arange(4), state(first=tau, new_mean=1.0, rate=0.0))["loss"]
    found = torch.cat(gradients(loss, first, second))
    both, small = torch.cat((first, second)).detach(), 1e-6
    expected = torch.empty_like(both)
    for place in range(both.numel()):
        moved = torch.zeros_like(both)
        moved.view(-1)[place] = small
        expected.view(-1)[place] = (objective(both + moved, tau) - objective(both - moved, tau)) / (2 * small)
    assert torch.allclose(found, expected, atol=1e-6)


def test_fixed_temperatures_are_sogclr() -> None:
    """Oracle: at rate 0 no temperature moves, and the gradient is tau times that of the decoupled NT-Xent."""
    made, tau = state(first=0.3, new_mean=1.0, rate=0.0), 0.3
    first, second = rows(), rows(seed=1)
    found = torch.cat(gradients(individual_loss(first, second, torch.arange(4), made)["loss"], first, second))
    z = unit(torch.cat((first, second)))
    logits = z @ z.T / tau
    decoupled = logits.masked_fill(~negatives(4), -torch.inf).logsumexp(1) - logits.diagonal(4).repeat(2)
    other = torch.cat(gradients(decoupled.sum() / 4, first, second))
    assert torch.allclose(found, tau * other, atol=1e-7)
    assert torch.equal(made.tau, torch.full((8,), 0.3).double().float().double())


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_the_order_of_a_batch_does_not_matter(seed: int) -> None:
    """Oracle: a law: permuted images give the same mean, permuted gradients, and the same state."""
    first, second, ids = rows(5, seed=seed), rows(5, seed=seed + 1), torch.tensor([7, 1, 0, 4, 6])
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    states, losses = (state(), state()), []
    for made, at in zip(states, (torch.arange(5), order), strict=True):
        losses.append(individual_loss(first[at], second[at], ids[at], made)["loss"])
    assert torch.allclose(losses[0], losses[1])
    assert torch.allclose(gradients(losses[0], first)[0], gradients(losses[1], first)[0])
    assert torch.allclose(states[0].tau, states[1].tau)


def test_duplicated_images_are_refused() -> None:
    """Oracle: the message names the id."""
    with pytest.raises(DataError, match="id 3 is twice"):
        individual_loss(rows(), rows(seed=1), torch.tensor([3, 1, 3, 0]), state())


def test_features_of_any_length() -> None:
    """Oracle: cosines do not change when features are scaled."""
    first, second = rows(), rows(seed=1)
    assert torch.allclose(cosines(first, second), cosines(7 * first, 0.1 * second))
    losses = [individual_loss(a * first, second, torch.arange(4), state())["loss"] for a in (1, 9)]
    assert torch.allclose(losses[0], losses[1])


def test_the_queue_by_hand() -> None:
    """Oracle: all K + 1 columns less the positive, weighed by softmax at a first visit."""
    queries, keys, queue = rows(), rows(seed=1).detach(), rows(6, seed=2).detach()
    made = state(first=0.25, rho=0.4)
    own = (unit(queries) * unit(keys)).sum(1, keepdim=True)
    h = torch.cat((own, unit(queries) @ unit(queue).T), 1) - own
    weights = torch.softmax(h.detach() / 0.25, 1)
    expected = (weights * h).sum(1).mean()
    divergence = (weights * (7 * weights).log()).sum(1)
    found = queue_loss(queries, keys, queue, torch.arange(4), made)
    assert torch.allclose(found["loss"], expected, atol=1e-7)
    assert torch.allclose(gradients(found["loss"], queries)[0], gradients(expected, queries)[0], atol=1e-7)
    moved = 0.25 - 0.03 * 0.5 * (0.4 - divergence).clamp(-3, 3)
    assert torch.allclose(made.tau[:4], moved, atol=1e-6)


def test_images_and_texts_by_hand() -> None:
    """Oracle: rows for images and columns for texts, B - 1 others each, with a state for each side."""
    images, texts, ids = rows(), rows(seed=1), torch.tensor([5, 2, 7, 0])
    bounds = {"least": 0.005, "rho": 0.5, "clamp": 5.0}
    sides = state(first=0.01, **bounds), state(first=0.02, **bounds)
    found = image_text_loss(images, texts, ids, *sides)
    s = unit(images) @ unit(texts).T
    others, expected = ~torch.eye(4, dtype=torch.bool), torch.zeros(())
    for values, tau, side in ((s, 0.01, sides[0]), (s.T, 0.02, sides[1])):
        h = (values - s.diagonal()[:, None])[others].view(4, 3)
        weights = torch.softmax(h.detach() / tau, 1)
        expected = expected + (weights * h).sum(1).mean()
        divergence = (weights * (3 * weights.clamp(min=1e-300)).log()).sum(1)
        moved = (tau - 0.03 * 0.5 * (0.5 - divergence).clamp(-5, 5)).clamp(0.005, 1)
        assert torch.allclose(side.tau[ids], moved, atol=1e-6)
    assert torch.allclose(found["loss"], expected, atol=1e-6)
    for mine, other in zip(
        gradients(found["loss"], images, texts), gradients(expected, images, texts), strict=True
    ):
        assert torch.allclose(mine, other, atol=1e-6)
    assert set(found) == {
        "loss",
        *(f"{a} {b}" for a in ("image", "text") for b in ("temperature", "divergence")),
    }


def shared_step(first: torch.Tensor, second: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Losses and gradients of both objectives through one weight, and the state, after two steps."""
    made = state(8)
    weight = torch.eye(3, dtype=torch.float64).requires_grad_()
    individual_loss(first @ weight, second @ weight, ids, made)
    loss = individual_loss(second @ weight, first @ weight, ids, made)["loss"]
    other = nt_xent(first @ weight, second @ weight, 0.2)
    return {
        "loss": loss,
        "gradient": gradients(loss, weight)[0],
        "nt_xent": other,
        "nt_xent, gradient": gradients(other, weight)[0],
        "tau": made.tau,
    }


def half(rank: int) -> dict[str, torch.Tensor]:
    parts = [part.detach().chunk(2)[rank] for part in (rows(6), rows(6, seed=1))]
    return shared_step(*parts, torch.tensor([6, 0, 3, 7, 1, 2]).chunk(2)[rank])


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    """Oracle: one process with the whole batch: losses, the mean of the gradients, and the state of all."""
    both = in_two_processes(half, tmp_path)
    whole = shared_step(rows(6).detach(), rows(6, seed=1).detach(), torch.tensor([6, 0, 3, 7, 1, 2]))
    for name in ("loss", "nt_xent"):
        assert all(torch.allclose(found[name], whole[name]) for found in both)
    for name in ("gradient", "nt_xent, gradient"):
        assert torch.allclose((both[0][name] + both[1][name]) / 2, whole[name])
    assert torch.equal(both[0]["tau"], both[1]["tau"])
    assert torch.allclose(both[0]["tau"], whole["tau"])


def test_positives_pull_and_negatives_push() -> None:
    """Oracle: one step against the gradient brings views together and other images apart."""
    first, second = rows(8, 4), rows(8, 4, seed=1)
    loss = individual_loss(first, second, torch.arange(8), state())["loss"]
    both = torch.cat((first, second)).detach()
    moved = both - 0.1 * torch.cat(gradients(loss, first, second))
    for at, sign in ((torch.eye(8, dtype=torch.bool), 1), (negatives(8)[:8, 8:], -1)):
        before, after = (functional.normalize(z, dim=1) for z in (both, moved))
        change = (after[:8] @ after[8:].T - before[:8] @ before[8:].T)[at].mean()
        assert sign * float(change) > 0


def test_look_alikes_come_to_higher_temperatures() -> None:
    """Oracle: the dual on fixed embeddings, 16 near one direction and 48 anywhere: KL of the 16 is larger."""
    near = 3 * torch.eye(32)[0] + 0.3 * rows(16, 32).detach()
    both = torch.cat((near, rows(48, 32, seed=1).detach()))
    made = state(64, rho=0.3)
    for step in range(60):
        at = torch.randperm(64, generator=torch.Generator().manual_seed(step))[:32]
        individual_loss(both[at], both[at] + 0.1 * rows(32, 32, seed=step).detach(), at, made)
    assert float(made.tau[:16].min()) > float(made.tau[16:].max())
