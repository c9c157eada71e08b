"""Heads on the tokens of a table's encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.data.mixed_tables import table_of
from selfstudy.models.encoders.table_heads import ADAPTERS, NETWORKS, TableHead, TablePredictor
from selfstudy.models.encoders.tables import TabularTransformer

CELLS = {"a": [0.0, 1.0, 0.5, 0.2], "b": ["x", "y", "x", "y"]}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_head_takes_tokens(adapter: str, network: str) -> None:
    """Oracle: the shape, a gradient for every weight, and the same of tokens moved and stretched alike."""
    tokens = torch.randn(20, 5, 4)
    head = TableHead(5, 4, 3, adapter=adapter, network=network, hidden=8, key=1)
    head.standardise(tokens)
    outputs = head(tokens)
    assert outputs.shape == (20, 3)
    outputs.square().sum().backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in head.parameters())
    scaled = TableHead(5, 4, 3, adapter=adapter, network=network, hidden=8, key=1)
    scaled.standardise(5 * tokens + 2)
    assert torch.allclose(scaled(5 * tokens + 2), outputs, atol=0.02)


def test_adapters_by_hand() -> None:
    """Oracle: einsum and reductions on standardised tokens; a convolution as three shifted products."""
    tokens = torch.randn(6, 5, 4)
    made = {adapter: TableHead(5, 4, 2, adapter=adapter).adapter for adapter in ADAPTERS}
    own = made["per-feature"]
    assert torch.allclose(own(tokens), torch.einsum("bth,th->bt", tokens, own.weight) + own.bias, atol=1e-6)
    assert torch.equal(made["mean"](tokens), tokens.mean(1)) and torch.equal(
        made["max"](tokens), tokens.amax(1)
    )
    assert torch.equal(made["whole"](tokens), tokens.reshape(6, 20))
    assert made["flatten"](tokens).shape == (6, 5)
    conv, padded = made["conv"], torch.nn.functional.pad(tokens, (0, 0, 1, 1))
    expected = sum(padded[:, shift : shift + 5] @ conv.weight[0, :, shift] for shift in range(3)) + conv.bias
    assert torch.allclose(conv(tokens), expected, atol=1e-6)


def test_a_predictor_is_saved_and_tells_names(tmp_path: Path) -> None:
    """Oracle: the head's outputs by hand; the same after loading; a number is moved and stretched back."""
    encoder = TabularTransformer(width=8, layers=1, heads=2).made_for(table_of(CELLS))
    head = TableHead(3, 8, 2, key=4).eval()
    predictor = TablePredictor(encoder, head, ("no", "yes"))
    outputs = head(torch.from_numpy(encoder.transform(CELLS)))
    assert np.array_equal(predictor.classify(CELLS), outputs.argmax(1).numpy())
    assert set(predictor.predict(CELLS)) <= {"no", "yes"}
    rows = encoder.rows(CELLS)
    assert torch.allclose(predictor(*rows), outputs, atol=1e-5)
    predictor.save(tmp_path / "p")
    assert np.array_equal(TablePredictor.load(tmp_path / "p").predict(CELLS), predictor.predict(CELLS))
    number = TablePredictor(encoder, TableHead(3, 8, 1, key=4).eval(), (), 10.0, 2.0)
    expected = 10 + 2 * number.outputs(CELLS)[:, 0].numpy()
    assert np.allclose(number.predict(CELLS), expected)


def test_heads_that_there_are_not() -> None:
    """Oracle: the nearest name is told."""
    with pytest.raises(UsageError, match=r"no adapter 'flaten'.*'flatten'"):
        TableHead(3, 4, 2, adapter="flaten")
    with pytest.raises(UsageError, match=r"no network 'mpl'.*'mlp'"):
        TableHead(3, 4, 2, network="mpl")
