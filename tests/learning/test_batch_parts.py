"""Batches in parts: what is in them, and that the gradient stays that of the whole batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.learning import batch_parts as module
from selfstudy.learning.batch_parts import CACHED_TOKENS, batch_parts
from selfstudy.learning.fine_tuning import accumulate
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import update
from selfstudy.learning.optimizers import named_optimizer
from selfstudy.models.language.tiny import random_tiny_model

CPU = torch.device("cpu")


@given(st.lists(st.integers(1, 900), min_size=1, max_size=40), st.none() | st.integers(1, 50))
def test_parts_hold_every_row_once_and_no_more_than_fits(lengths, micro_batch):
    """Law: a partition, longest first, of as few rows a part as are asked for or as fit with padding."""
    parts = batch_parts(range(len(lengths)), lengths, micro_batch, CPU)
    order = [i for part in parts for i in part]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    for part in parts:
        padded = len(part) * lengths[part[0]]
        assert len(part) <= micro_batch if micro_batch else len(part) == 1 or padded <= CACHED_TOKENS


def test_parts_on_accelerators_and_in_several_processes(monkeypatch):
    """Oracle: by hand; an accelerator reads a batch at once, and three processes three times as many rows."""
    assert batch_parts("abc", [1, CACHED_TOKENS, 2], None, torch.device("meta")) == [["b", "c", "a"]]
    monkeypatch.setattr(module, "processes", lambda: 3)
    assert batch_parts("abcd", [1, 1, 2, 1], 1, CPU) == [["c", "a", "b"], ["d"]]
    assert len(batch_parts("abcd", [CACHED_TOKENS] * 4, None, CPU)) == 2


@pytest.mark.parametrize("micro_batch", [None, 7])
def test_the_gradient_is_that_of_plain_unpadded_rows(micro_batch):
    """Oracle: in float64, row by row and unpadded, the loss written out; several parts are read."""
    model = random_tiny_model(2, 32)
    net = model.module.double()
    letters = torch.randint(0, 16, (40, 120), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [(letters[i][: 20 + 2 * i], 5 + i) for i in range(40)]
    joint = Joint(net, named_optimizer("adamw", net.parameters(), fused=False))
    loss = accumulate(joint, rows, micro_batch)
    ours = [weight.grad.clone() for weight in net.parameters()]
    net.zero_grad()
    terms = []
    for tokens, start in rows:
        logprobs = net(torch.tensor([tokens])).logits[0].log_softmax(-1)
        terms += [-logprobs[i - 1, tokens[i]] for i in range(start, len(tokens))]
    plain = torch.stack(terms).mean()
    plain.backward()
    # Losses are computed in float32, whatever the weights are.
    assert loss == pytest.approx(plain.item(), rel=1e-6)
    for mine, weight in zip(ours, net.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad, atol=1e-7, rtol=1e-5)


def test_the_fused_step_is_the_plain_one():
    """Oracle: AdamW without fusing, in float64, over five steps with decay and clipping."""
    weights = []
    for fused in (False, True):
        rng = torch.Generator().manual_seed(1)
        own = [torch.nn.Parameter(torch.ones(shape, dtype=torch.float64)) for shape in ((3, 5), (7,))]
        optimizer = named_optimizer("adamw", own, weight_decay=0.1, fused=fused)
        for step in range(5):
            for weight in own:
                weight.grad = torch.randn(weight.shape, generator=rng, dtype=torch.float64)
            update(optimizer, 0.1 / (step + 1), 1.0)
        weights.append(torch.cat([weight.detach().flatten() for weight in own]))
    torch.testing.assert_close(weights[1], weights[0], atol=1e-12, rtol=0)
