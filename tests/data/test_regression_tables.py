"""Tables of numbers: reading, splitting by row, standardising, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.regression_tables import read_table


def rows(count: int = 60) -> list[tuple[float, float, str, float]]:
    rng = np.random.default_rng(0)
    return [(float(a), 7.0, f"house {i}", float(3 * a + 1)) for i, a in enumerate(rng.normal(5, 2, count))]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    lines = ["size,floor,name,price", *(",".join(map(str, row)) for row in rows())]
    (tmp_path / "houses.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "houses.csv"


def test_a_csv_table(csv: Path) -> None:
    """Oracle: numeric columns by hand; training rows have mean 0 and deviation 1; constants become 0."""
    table = read_table(str(csv), "price")
    assert table.columns == ["size", "floor"]
    train = table.splits["train"]
    np.testing.assert_allclose(train.features[:, 0].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(train.features[:, 0].std(), 1)
    assert not train.features[:, 1].any()
    # The price is linear in the size, so that both are one column when standardised, in every split.
    for part in table.splits.values():
        np.testing.assert_allclose(part.features[:, 0], part.targets, atol=1e-9)
    assert sum(len(part.features) for part in table.splits.values()) == 60


def test_parquet_gives_the_same(csv: Path, tmp_path: Path) -> None:
    """Oracle: the CSV file of the same rows."""
    columns = dict(zip(("size", "floor", "name", "price"), zip(*rows(), strict=True), strict=True))
    pyarrow.parquet.write_table(
        pyarrow.table({k: list(v) for k, v in columns.items()}), tmp_path / "houses.parquet"
    )
    one, other = read_table(str(csv), "price"), read_table(str(tmp_path / "houses.parquet"), "price")
    for split in one.splits:
        np.testing.assert_array_equal(one.splits[split].features, other.splits[split].features)


def test_equal_rows_are_in_one_split(tmp_path: Path) -> None:
    """Oracle: every row twice; no row of the test split is among those of training."""
    (tmp_path / "twice.csv").write_text("a\n" + "\n".join(f"{i % 50}" for i in range(100)) + "\n")
    splits = read_table(str(tmp_path / "twice.csv")).splits
    values = {split: {round(v, 9) for v in part.features[:, 0]} for split, part in splits.items()}
    assert not values["train"] & values["test"] and not values["train"] & values["validation"]
    assert all(len(splits[split].features) == 2 * len(values[split]) for split in splits)


def test_diabetes() -> None:
    """Oracle: scikit-learn's set has 442 rows of 10 features, and a target that is no feature."""
    for target in ("", "target"):
        table = read_table("diabetes", target)
        assert len(table.columns) == 10 and "target" not in table.columns
        assert sum(len(part.features) for part in table.splits.values()) == 442
        assert (table.splits["test"].targets is None) == (target == "")


def test_refused(csv: Path, tmp_path: Path) -> None:
    """Oracle: one fault each; the message names the column or the row."""
    with pytest.raises(UsageError, match=r"no column 'prise'. Did you mean 'price'"):
        read_table(str(csv), "prise")
    with pytest.raises(UsageError, match="cannot be a feature too"):
        read_table(str(csv), "price", ["size", "price"])
    with pytest.raises(DataError, match="'house 0' in the column 'name'"):
        read_table(str(csv), "", ["name"])
    with pytest.raises(UsageError, match="none of"):
        read_table("houses.xlsx")
    text = csv.read_text().splitlines()
    text[3] = "nan,7.0,x,1.0"
    (tmp_path / "gap.csv").write_text("\n".join(text) + "\n")
    with pytest.raises(DataError, match=r"Row 3 of .*'nan' in the column 'size'"):
        read_table(str(tmp_path / "gap.csv"))
    (tmp_path / "short.csv").write_text("a\n1\n2\n")
    with pytest.raises(DataError, match="2 rows, too few"):
        read_table(str(tmp_path / "short.csv"))
