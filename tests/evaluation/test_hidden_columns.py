"""What the embedding of half of the columns tells of the other half."""

from __future__ import annotations

import numpy as np

from selfstudy.data.mixed_tables import Table, table_of
from selfstudy.evaluation.hidden_columns import hidden_column_errors
from selfstudy.models.encoders.tables import TabularTransformer


def table(count: int, *, dependent: bool, seed: int) -> Table:
    """Eight columns; dependent ones are one number in other words, so that any half tells the rest."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(size=(count, 1)).repeat(8, 1) if dependent else rng.uniform(size=(count, 8))
    cells = {f"n{place}": numbers[:, place] * 3 for place in range(6)}
    words = {f"w{place}": np.where(numbers[:, 6 + place] > 0.5, "up", "down") for place in range(2)}
    return table_of({**cells, **words})


def error(dependent: bool) -> float:
    known, asked = (table(count, dependent=dependent, seed=seed) for count, seed in ((600, 0), (200, 1)))
    model = TabularTransformer(width=8, layers=1, heads=2).made_for(known)
    found = hidden_column_errors(model, model.rows(known), model.rows(asked))
    assert found.shape == (200,) and np.isfinite(found).all() and found.min() >= 0
    return float(found.mean())


def test_the_scale() -> None:
    """Oracle: 1 where columns have nothing to do with each other, near 0 where each tells all others."""
    assert 0.9 < error(dependent=False) < 1.15
    assert error(dependent=True) < 0.15


def test_hidden_columns_are_not_seen() -> None:
    """Oracle: the features of one half are bit-identical whatever is in the other; with two columns too."""
    model = TabularTransformer(width=8, layers=1, heads=2).made_for(table(50, dependent=False, seed=0))
    one, other = table(20, dependent=False, seed=1), table(20, dependent=False, seed=2)
    mixed = Table("t", {**one.cells, **{name: other.cells[name] for name in ("n0", "w1")}})
    names = model.columns.names
    shown = [place for place, name in enumerate(names) if name not in ("n0", "w1")]
    assert np.array_equal(*(model.embed_columns(model.rows(rows), shown).numpy() for rows in (one, mixed)))
    two = table_of({"a": np.arange(30.0), "b": np.arange(30.0)})
    pair = TabularTransformer(width=8, layers=1, heads=2).made_for(two)
    assert hidden_column_errors(pair, pair.rows(two), pair.rows(two)).mean() < 0.1
