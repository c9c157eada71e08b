"""The loops of a training pass against torch in float64, which differentiates plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selfstudy.models.language import training_kernels as kernels
from selfstudy.models.language.operations import GATES

EPS = np.float32(1e-6)
RNG = np.random.default_rng


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def exact(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array).double().requires_grad_() for array in arrays]


def close(got: np.ndarray, exact: torch.Tensor | None, atol: float = 1e-5) -> None:
    assert exact is not None
    torch.testing.assert_close(torch.from_numpy(got).double(), exact.detach(), rtol=1e-5, atol=atol)


def test_norm() -> None:
    """Oracle: torch's rms_norm; both gradients are added to what is there."""
    rng = RNG(0)
    state, weight, given = numbers(rng, 7, 33), numbers(rng, 33), numbers(rng, 7, 33)
    rows, scale = exact(state, weight)
    F.rms_norm(rows, (33,), scale, 1e-6).backward(torch.from_numpy(given).double())
    out, of_weight = np.ones_like(state), np.ones_like(weight)
    kernels.normed_back(state, weight, EPS, given, out, of_weight)
    assert rows.grad is not None and scale.grad is not None
    close(out, 1 + rows.grad)
    close(of_weight, 1 + scale.grad)


@pytest.mark.parametrize(
    ("name", "function"), [("silu", F.silu), ("gelu_pytorch_tanh", lambda x: F.gelu(x, approximate="tanh"))]
)
def test_gate(name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Oracle: torch's activations, also far from 0, where a naive exponential overflows."""
    rng = RNG(1)
    gate_up, given = 3 * numbers(rng, 9, 40), numbers(rng, 9, 20)
    gate_up[0, :2] = 200, -200
    (both,) = exact(gate_up)
    gate, up = both.chunk(2, -1)
    (function(gate) * up).backward(torch.from_numpy(given).double())
    out = np.empty_like(gate_up)
    kernels.gated_back(gate_up, *map(np.float32, GATES[name]), given, out)
    close(out, both.grad, 3e-5)


def plain_attention(mixed: torch.Tensor, texts: np.ndarray, heads: int, scaling: float) -> torch.Tensor:
    """Token by token, [N, heads, D]."""
    key_heads = (mixed.shape[1] - heads) // 2
    shared = heads // key_heads
    keys, values = (
        mixed[:, heads + i * key_heads :][:, :key_heads].repeat_interleave(shared, 1) for i in (0, 1)
    )
    out = []
    for stem, stem_end, first, end in texts.tolist():
        for n in range(first, end):
            seen = [*range(stem, stem_end), *range(first, n + 1)]
            weights = (torch.einsum("hd,whd->hw", mixed[n, :heads], keys[seen]) * scaling).softmax(-1)
            out.append(torch.einsum("hw,whd->hd", weights, values[seen]))
    return torch.stack(out)


@pytest.mark.parametrize(("heads", "key_heads", "width"), [(4, 4, 32), (4, 2, 12), (3, 1, 40)])
def test_attention(heads: int, key_heads: int, width: int) -> None:
    """Oracle: attention token by token: stems, texts of 1 token, and more than are looked at together."""
    rng = RNG(2)
    texts = np.array(
        [
            [0, 0, 0, 11],
            [0, 11, 11, 12],
            [0, 11, 12, 12 + kernels.QUERIES + 9],
            [0, 0, 85, 90],
            [85, 90, 90, 98],
        ]
    )
    mixed, given = numbers(rng, 98, heads + 2 * key_heads, width), numbers(rng, 98, heads, width)
    scaling = np.float32(width**-0.5)
    out, logs, back = np.empty_like(given), np.empty_like(given[:, :, 0]), np.full_like(mixed, np.nan)
    kernels.attend(mixed, texts, heads, scaling, out, logs)
    kernels.attend_back(mixed, texts, heads, scaling, out, logs, given, back)
    (rows,) = exact(mixed)
    taken = plain_attention(rows, texts, heads, float(scaling))
    taken.backward(torch.from_numpy(given).double())
    close(out, taken)
    close(back, rows.grad)
