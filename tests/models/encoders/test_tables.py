"""The encoder of table rows: its tokens, what it sees, what it gives, and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, MachineError, UsageError
from selfstudy.data.mixed_tables import Table, table_of
from selfstudy.data.table_columns import FIRST, Rows
from selfstudy.models.encoders.table_tokens import sinusoids
from selfstudy.models.encoders.tables import TabularTransformer

CELLS = {"a": [0.0, 1.0, 0.5, 0.25], "b": [3, 1, 2, 1], "c": ["x", "y", "x", "z"], "d": ["u", "u", "v", "v"]}


def table() -> Table:
    return table_of(CELLS)


def encoder(**fields: Any) -> TabularTransformer:
    sizes = {"width": 8, "layers": 2, "heads": 2, "hidden": 16}
    return TabularTransformer(**{**sizes, **fields}).made_for(table())


@pytest.mark.parametrize("types", [False, True])
def test_tokens_by_hand(types: bool) -> None:
    """Oracle: x W + b of numbers, E[x] + b of categories, W of registers, each plus the code of its place."""
    model = encoder(registers=2, types=types)
    tokeniser, rows = model.tokeniser, model.rows(table())
    if types:
        torch.nn.init.normal_(tokeniser.types)
    place = sinusoids(6, 8, 100.0)
    for row in range(4):
        expected = [tokeniser.slope[0] + place[0], tokeniser.slope[1] + place[1]]
        kind = tokeniser.types if types else torch.zeros(2, 8)
        for column in range(2):
            number = rows.numbers[row, column] * tokeniser.slope[2 + column]
            expected.append(number + tokeniser.bias[column] + kind[0] + place[2 + column])
        for column, start in enumerate((0, FIRST + 3)):
            code = tokeniser.codes[start + rows.codes[row, column]]
            expected.append(code + tokeniser.bias[2 + column] + kind[1] + place[4 + column])
        assert torch.allclose(model.tokens(rows)[row], torch.stack(expected), atol=1e-6)


def test_places_have_codes_of_their_own() -> None:
    """Oracle: sines and cosines by the formula at base 100; all rows differ."""
    codes = sinusoids(30, 8, 100.0)
    assert codes[3, 1] == pytest.approx(np.sin(3 / 100 ** (2 / 8))) and codes[5, 4] == pytest.approx(
        np.cos(5)
    )
    assert torch.cdist(codes, codes).add(torch.eye(30)).min() > 0.05


def test_the_context_is_all_that_is_seen() -> None:
    """Oracle: a value outside the context leaves its encoding bit-identical, and changes the whole row's."""
    model, rows = encoder(), encoder().rows(table())
    changed = Rows(rows.numbers.clone(), rows.codes.clone())
    changed.numbers[:, 1] += 0.3
    changed.codes[:, 1] = FIRST
    before, after = model.tokens(rows), model.tokens(changed)
    seen = [0, 1, 3]  # the register, and columns 0 and 2
    assert torch.equal(model.encode(before[:, seen]), model.encode(after[:, seen]))
    assert (model.encode(before) - model.encode(after)).abs().amax((1, 2)).min() > 1e-3
    assert torch.equal(model.embed_columns(rows, [0, 2]), model.embed_columns(changed, [0, 2]))


def test_what_a_category_never_seen_looks_like() -> None:
    """Oracle: the bias of its column alone, as that of a gap where training has none."""
    model = encoder()
    rows = model.rows({"a": [0, 0], "b": [1, 1], "c": ["new", None], "d": ["u", "u"]})
    tokens = model.tokens(rows)
    assert torch.equal(tokens[0], tokens[1])
    assert torch.allclose(tokens[0, 3], model.tokeniser.bias[2] + model.tokeniser.place[3])


@pytest.mark.parametrize(
    ("fields", "width"),
    [
        ({}, 40),
        ({"keep_registers": False}, 32),
        ({"pooling": "mean"}, 8),
        ({"pooling": "max", "keep_registers": False}, 8),
        ({"pooling": "registers", "registers": 3}, 24),
        ({"registers": 0}, 32),
    ],
)
def test_features_are_made_of_tokens(fields: dict[str, Any], width: int) -> None:
    """Oracle: the pooling in numpy on what `transform` gives; the width as announced."""
    model = encoder(**fields)
    tokens, features = model.transform(table()), model.embed(table())
    registers = model.registers
    assert tokens.shape == (4, registers + 4, 8) and features.shape == (4, width) == (4, model.width)
    kept = tokens if model.config["keep_registers"] else tokens[:, registers:]
    expected = {
        "flatten": kept.reshape(4, -1),
        "mean": kept.mean(1),
        "max": kept.max(1),
        "registers": tokens[:, :registers].reshape(4, -1),
    }[model.pooling]
    assert np.allclose(features, expected, atol=1e-6)


def test_rows_of_any_source_in_any_order(tmp_path: Path) -> None:
    """Oracle: a frame with columns shuffled and one more, a table and a file give a dictionary's features."""
    model = encoder()
    expected = model.embed(CELLS)
    frame = pandas.DataFrame(CELLS)[["d", "b", "a", "c"]].assign(more=1)
    frame.to_csv(tmp_path / "t.csv", index=False)
    for rows in (frame, table(), tmp_path / "t.csv"):
        assert np.array_equal(model.embed(rows), expected)
    assert np.allclose(model.embed(frame.iloc[[2]]), expected[2:3], atol=1e-6), "a row alone"
    with pytest.raises(DataError, match="no column 'c'"):
        model.embed(frame.drop(columns="c"))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Oracle: the same features, bit for bit, from configuration, columns and weights; by name too."""
    model = encoder(registers=2, types=True, seed=5)
    model.save(tmp_path / "m")
    again = TabularTransformer.load(tmp_path / "m")
    assert again.columns == model.columns and np.array_equal(again.embed(CELLS), model.embed(CELLS))
    assert np.array_equal(selfstudy.model(str(tmp_path / "m")).embed(CELLS), model.embed(CELLS))
    (tmp_path / "m" / "config.json").write_text('{"kind": "conv"}')
    with pytest.raises(MachineError, match="holds a model 'conv'"):
        TabularTransformer.load(tmp_path / "m")


def test_first_weights_depend_on_the_seed_alone() -> None:
    """Oracle: equality of two models made around a use of the global generator; another seed differs."""
    one = encoder(seed=1)
    torch.randn(3)
    state = torch.get_rng_state()
    two = encoder(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.tokeniser.slope, encoder(seed=2).tokeniser.slope)


def test_an_encoder_is_made_for_a_table() -> None:
    """Oracle: made once; other rows of the table leave it, other columns and no table are refused."""
    model = encoder()
    assert model.made_for(table().only(slice(2))) is model
    with pytest.raises(UsageError, match="reads the columns a, b, c, d, and the input has no 'd'"):
        model.made_for(table().without("d"))
    with pytest.raises(UsageError, match="made for no table yet"):
        TabularTransformer().embed(CELLS)


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 6, "heads": 4},
        {"width": 3, "heads": 3},
        {"layers": 0},
        {"registers": -1},
        {"dropout": 1.0},
        {"base": 1.0},
        {"pooling": "median"},
        {"pooling": "registers", "registers": 0},
    ],
)
def test_sizes_that_cannot_be(fields: dict[str, Any]) -> None:
    """Oracle: each out of range."""
    with pytest.raises(UsageError):
        TabularTransformer(**fields)
