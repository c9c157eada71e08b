"""Sets of labelled examples: built in, from files, from arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.labelled_images import from_arrays, labelled_set, pooled


@pytest.mark.parametrize(
    ("name", "examples", "features", "labels"),
    [("digits", 1797, 64, 10), ("wine", 178, 13, 3), ("iris", 150, 4, 3), ("clusters", 1000, 64, 10)],
)
def test_built_in_sets(name: str, examples: int, features: int, labels: int) -> None:
    """Oracle: the sizes that scikit-learn documents; every example is in one split."""
    found = labelled_set(name)
    sizes = {split: len(part.labels) for split, part in found.splits.items()}
    assert sum(sizes.values()) == examples and sizes["train"] == round(0.7 * examples)
    assert found.features == features and len(found.labels) == labels
    rows = np.concatenate([part.inputs for part in found.splits.values()])
    assert len(np.unique(rows, axis=0)) >= 0.99 * examples  # two flowers of iris are equal


def test_standardised() -> None:
    """Oracle: mean 0 and deviation 1 of the training split; constant pixels stay finite and equal."""
    random = np.random.default_rng(0)
    inputs = np.concatenate([3 + 2 * random.standard_normal((100, 3)), np.full((100, 1), 7.0)], 1)
    made = from_arrays(inputs, np.arange(100) % 2)
    train = made.standardised().splits["train"].inputs
    assert abs(train.mean()) < 1e-5 and abs(train.std() - 1) < 1e-5 and train.dtype == np.float32
    by_column = made.standardised("column")
    assert np.allclose(by_column.splits["train"].inputs.std(0)[:3], 1, atol=1e-5)
    for part in by_column.splits.values():
        assert np.isfinite(part.inputs).all() and np.allclose(part.inputs[:, 3], 0)


def test_only() -> None:
    """Oracle: the chosen labels in the order of the choice, with the same inputs."""
    whole = labelled_set("digits")
    some = whole.only(["7", "2"])
    before, after = whole.splits["test"], some.splits["test"]
    assert np.array_equal(after.inputs, before.inputs[np.isin(before.labels, [2, 7])])
    assert np.array_equal(
        after.labels, [0 if label == 7 else 1 for label in before.labels if label in (2, 7)]
    )
    for wrong, words in ((["7", "x"], "no label 'x'"), (["7"], "two labels"), (["7", "7"], "each once")):
        with pytest.raises(UsageError, match=words):
            whole.only(wrong)


def test_pooling() -> None:
    """Oracle: means of 2 x 2 blocks by hand; colours are averaged."""
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    by_hand = image.reshape(8, 2, 8, 2).mean((1, 3)).reshape(1, 64) / 255
    assert np.allclose(pooled(image), by_hand, atol=1e-6)
    assert np.allclose(pooled(np.repeat(image[..., None], 3, -1)), by_hand, atol=1e-6)


def test_fashion_mnist_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: files in the documented layout; validation is what follows in the training file."""
    with pytest.raises(DataError, match=r"SELFSTUDY_DATA.*fashion_mnist/train.npz.*digits"):
        monkeypatch.delenv("SELFSTUDY_DATA", raising=False)
        labelled_set("fashion-mnist")
    random = np.random.default_rng(0)
    (tmp_path / "fashion_mnist").mkdir()
    kept = {}
    for split, size in (("train", 2100), ("test", 40)):
        kept[split] = random.integers(256, size=(size, 28, 28), dtype=np.uint8)
        labels = (np.arange(size) % 10).astype(np.uint8)
        np.savez(tmp_path / "fashion_mnist" / f"{split}.npz", images=kept[split], labels=labels)
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    found = labelled_set("fashion-mnist")
    assert [len(found.splits[split].labels) for split in ("train", "validation", "test")] == [1800, 300, 40]
    assert np.array_equal(found.splits["validation"].inputs, pooled(kept["train"][1800:]))
    assert np.array_equal(found.splits["test"].inputs, pooled(kept["test"]))


def test_tables(tmp_path: Path) -> None:
    """Oracle: the numbers written, found again in one of the splits with their labels."""
    path = tmp_path / "mine.csv"
    path.write_text("a,b,kind\n" + "".join(f"{i},{i / 2},{'xy'[i % 2]}\n" for i in range(40)))
    found = labelled_set(str(path), label="kind")
    assert found.labels == ("x", "y") and found.features == 2 and found.name == "mine"
    for part in found.splits.values():
        assert np.array_equal(part.labels, part.inputs[:, 0].astype(int) % 2)
        assert np.array_equal(part.inputs[:, 1], part.inputs[:, 0] / 2)
    with pytest.raises(UsageError, match="no column 'sort'"):
        labelled_set(str(path), label="sort")
    path.write_text("a,kind\n1,x\nmany,y\n")
    with pytest.raises(DataError, match=r"Row 2 of .* has 'many' in the column 'a'"):
        labelled_set(str(path), label="kind")
    path.write_text("a,kind\n1,x\n2,\n")
    with pytest.raises(DataError, match=r"Row 2 of .* has no label in the column 'kind'"):
        labelled_set(str(path), label="kind")


def test_examples_that_teach_nothing() -> None:
    """Oracle: each is refused with the reason."""
    good = np.zeros((4, 2), dtype=np.float32)
    for inputs, labels, words in (
        (np.array([[1.0, np.nan], [0, 0]]), [0, 1], "not finite, the first at row 0"),
        (np.array([[0, 0], [1.0, np.inf]]), [0, 1], "not finite, the first at row 1"),
        (good, [1, 1, 1, 1], "a single label"),
        (good, [0, 1], "2 labels"),
        (np.zeros(4), [0, 1, 0, 1], "shape"),
        (np.zeros((0, 2)), [], "shape"),
    ):
        with pytest.raises(DataError, match=words):
            from_arrays(inputs, labels)


def test_unknown_sets() -> None:
    """Oracle: the nearest name is suggested."""
    with pytest.raises(UsageError, match="'digits'"):
        labelled_set("digit")
