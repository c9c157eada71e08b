"""Sequence models: what a position may see, how much they carry, and what they refuse."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.models.in_context.sequence_baselines import (
    SequenceFastWeights,
    SequenceLstm,
    SequenceMlp,
    delta_rule,
)
from selfstudy.models.in_context.sequences import SequenceModel, SequenceTransformer, _outer_products

L, M, C = 9, 6, 4
SIZES = {"inputs": M, "classes": C, "positions": L}


def models() -> dict[str, SequenceModel]:
    return {
        "smeared": SequenceTransformer(**SIZES, layers=2, width=16, heads=2),
        "plain": SequenceTransformer(**SIZES, layers=2, width=16, heads=2, smear=False),
        "fast": SequenceTransformer(**SIZES, layers=2, width=16, heads=2, memory="outer-products"),
        "lstm": SequenceLstm(**SIZES, width=16),
        "written": SequenceFastWeights(**SIZES, layers=2, width=12),
        "mlp": SequenceMlp(**SIZES, width=16, token=8),
    }


def examples(batch: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, L, M, generator=generator), torch.randint(C, (batch, L), generator=generator)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(models())), st.integers(0, L - 1), st.integers(0, 9))
def test_a_label_is_seen_one_position_later(name: str, j: int, seed: int) -> None:
    """Oracle: flipping y_j, and all that follows, leaves logits 1 to j bit for bit; y_(j-1) does not."""
    model, (inputs, labels) = models()[name], examples(seed=seed)
    scores = model(inputs, labels)
    later = labels.clone()
    later[:, j:] = (later[:, j:] + 1) % C
    changed = inputs.clone()
    changed[:, j + 1 :] += 1
    assert torch.equal(model(changed, later)[:, : j + 1], scores[:, : j + 1])
    if j:
        before = labels.clone()
        before[:, j - 1] = (before[:, j - 1] + 1) % C
        assert (model(inputs, before)[:, j] != scores[:, j]).any(-1).all()
        assert torch.equal(model(inputs, before)[:, :j], scores[:, :j])


@pytest.mark.parametrize("name", sorted(models()))
def test_the_first_loss(name: str) -> None:
    """Oracle: log C within 0.05, whatever the order of the labels."""
    model, (inputs, labels) = models()[name], examples(batch=64)
    for order in itertools.islice(itertools.permutations(range(C)), 0, 24, 5):
        told = torch.tensor(order)[labels]
        loss = functional.cross_entropy(model(inputs, told).flatten(0, 1), told.flatten())
        assert abs(loss.item() - math.log(C)) < 0.05


@pytest.mark.parametrize("smear", [False, True])
def test_attention_by_hand(smear: bool) -> None:
    """Oracle: one block in loops over positions and heads, with the equations of smeared keys."""
    model = SequenceTransformer(**SIZES, layers=1, width=8, heads=2, smear=smear).double()
    if smear:
        model.blocks[0].mix.data.copy_(torch.tensor([0.3, -2.0]).view(2, 1, 1))
    inputs, labels = examples(batch=1)
    block = model.blocks[0]
    null = torch.tensor([[C]])
    tokens = model.see(inputs.double()) + model.told(torch.cat([null, labels[:, :-1]], 1))
    tokens = (tokens + model.place.weight)[0]  # [L, 8]
    query, key, value = block.ask(block.norm_attention(tokens)).split(8, -1)
    rows = []
    for j in range(L):
        parts = []
        for head in range(2):
            at = slice(4 * head, 4 * head + 4)
            share = torch.sigmoid(block.mix[head, 0, 0]) if smear else 1.0
            keys = [share * key[i, at] + (1 - share) * (key[i - 1, at] if i else 0) for i in range(j + 1)]
            weights = torch.stack([query[j, at] @ k / 2 for k in keys]).softmax(0)
            parts.append(sum(weight * value[i, at] for i, weight in enumerate(weights)))
        rows.append(torch.cat(parts))
    tokens = tokens + block.give(torch.stack(rows))
    tokens = tokens + block.narrow(functional.gelu(block.widen(block.norm_network(tokens))))
    expected = model.tell(model.norm(tokens))
    assert torch.allclose(model(inputs.double(), labels)[0], expected, atol=1e-10)


def test_fast_weights_by_hand() -> None:
    """Oracle: a matrix and a sum of keys for each head, added to position by position."""
    query, key, value = torch.randn(3, 2, L, 4, generator=torch.Generator().manual_seed(0)).double()
    found = _outer_products(query, key, value)
    for head in range(2):
        matrix, total = torch.zeros(4, 4).double(), torch.zeros(4).double()
        for j in range(L):
            k, q = (functional.elu(part[head, j]) + 1 for part in (key, query))
            matrix, total = matrix + torch.outer(value[head, j], k), total + k
            assert torch.allclose(found[head, j], matrix @ q / (total @ q), atol=1e-12)


def test_the_delta_rule_by_hand() -> None:
    """Oracle: a matrix written to position by position; at rate 1 a key just written gives its value back."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, L, 4, generator=generator).double()
    key, rate = functional.normalize(key, dim=-1), torch.rand(2, L, 1, generator=generator).double()
    found = delta_rule(query, key, value, rate)
    for b in range(2):
        matrix = torch.zeros(4, 4).double()
        for j in range(L):
            surprise = value[b, j] - matrix @ key[b, j]
            matrix = matrix + rate[b, j] * torch.outer(surprise, key[b, j])
            assert torch.allclose(found[b, j], matrix @ query[b, j], atol=1e-12)
    assert torch.allclose(delta_rule(key, key, value, torch.ones_like(rate)), value, atol=1e-12)


def test_mlp_by_hand() -> None:
    """Oracle: its layers on the tokens up to a position, behind zeros, in a loop over positions."""
    model = SequenceMlp(**SIZES, layers=2, width=16, token=8).double()
    inputs, labels = examples(batch=1)
    tokens = model.see(inputs.double()) + model.told(torch.cat([torch.tensor([[C]]), labels[:, :-1]], 1))
    for j in range(L):
        known = torch.cat([torch.zeros(L - 1 - j, 8).double(), tokens[0, : j + 1]]).T.flatten()
        for layer in model.hidden:
            known = functional.gelu(layer(known))
        expected = model.tell(model.norm(known))
        assert torch.allclose(model(inputs.double(), labels)[0, j], expected, atol=1e-10)


def test_accessible_state() -> None:
    """Oracle: counts: 2 layers N width, or N tokens; states and matrices are of one size, whatever N."""
    fast = SequenceTransformer(layers=3, width=64, heads=4, memory="outer-products")
    assert fast.accessible_state(30) == fast.accessible_state(3) == 3 * 4 * (16 * 16 + 16)
    assert SequenceTransformer(layers=3, width=64, heads=4).accessible_state(30) == 2 * 3 * 30 * 64
    assert SequenceLstm(layers=2, width=50).accessible_state(30) == 2 * 2 * 50
    assert SequenceLstm(layers=2, width=50).accessible_state(3) == 2 * 2 * 50
    assert SequenceFastWeights(layers=2, width=20).accessible_state(30) == 2 * (2 * 20 + 20 * 20)
    assert SequenceFastWeights(layers=2, width=20).accessible_state(3) == 2 * (2 * 20 + 20 * 20)
    assert SequenceMlp(layers=2, width=20, token=8).accessible_state(30) == 30 * 8


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from([SequenceLstm, SequenceFastWeights, SequenceMlp]),
    st.integers(1, 3),
    st.sampled_from([32, 64]),
    st.integers(1, 2),
)
def test_as_many_weights(kind: type[SequenceModel], layers: int, width: int, own: int) -> None:
    """Oracle: counting: up to a tenth fewer weights than the transformer, and one more unit would be more."""
    other = SequenceTransformer(layers=layers, width=width, heads=2)
    found = kind.like(other, layers=own)
    wider = kind(**{**found.config, "width": found.width + 1})
    assert 0.9 * other.weights < found.weights <= other.weights < wider.weights
    assert (found.inputs, found.classes, found.positions) == (other.inputs, other.classes, other.positions)


def test_nothing_is_as_small() -> None:
    """Oracle: a transformer of width 2 has fewer weights than the tokens of an MLP; the width is then 1."""
    assert SequenceMlp.like(SequenceTransformer(layers=1, width=2)).width == 1


@pytest.mark.parametrize("name", sorted(models()))
def test_made_again(name: str, tmp_path: Path) -> None:
    """Oracle: the same model by its name, and read back from a file; another seed gives others."""
    model, given_ = models()[name], examples()
    model.save(tmp_path)
    for again in (selfstudy.model(model.name), type(model).load(tmp_path)):
        assert torch.equal(again(*given_), model(*given_))
    other = type(model)(**{**model.config, "seed": 1})
    assert not torch.equal(other(*given_), model(*given_))


def test_refusals() -> None:
    """Oracle: each message names what was given and what is allowed."""
    model, (inputs, labels) = models()["plain"], examples()
    with pytest.raises(UsageError, match="9 examples and one to tell is longer than the 9 positions"):
        model(torch.cat([inputs, inputs[:, :1]], 1), torch.cat([labels, labels[:, :1]], 1))
    with pytest.raises(UsageError, match="inputs of 6 numbers, not 5"):
        model(inputs[..., :5], labels)
    with pytest.raises(UsageError, match="multiple of heads, 3"):
        SequenceTransformer(width=64, heads=3)
    with pytest.raises(UsageError, match="'outer-products'"):
        selfstudy.model("sequence-transformer?memory=outer-product")
    with pytest.raises(UsageError, match="layers of model 'sequence-lstm' is 0"):
        selfstudy.model("sequence-lstm?layers=0")
