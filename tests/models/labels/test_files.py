"""Metrics by name: what each means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.labels.files import label_space, name_space
from selfstudy.models.labels.spaces import AnySpace, LabelTree


def square(space: AnySpace) -> np.ndarray:
    return space.distances(np.arange(len(space.names)))


def test_lines() -> None:
    """Oracle: differences of numbers, in order, also of numbers that no item has; spellings stay."""
    space = label_space("line", ["10", "2.0", "-1"])
    assert space.names == ("-1", "2.0", "10") and square(space)[0].tolist() == [0, 3, 11]
    more = label_space("line:1:5", ["1", "3.0", "5"])
    assert more.names == ("1", "2", "3.0", "4", "5") and square(more)[2].tolist() == [2, 1, 0, 1, 2]
    halves = label_space("line:0:1:0.1", ["0.3", "1"])
    assert len(halves.names) == 11 and halves.names[3] == "0.3"


def test_paths() -> None:
    """Oracle: a tree by hand; inner parts are labels, a class may be one of them."""
    space = label_space("paths", ["animal/dog", "animal/cat", "plant", "plant/tree/oak"])
    assert isinstance(space, LabelTree)
    assert set(space.names) == {
        "(any)", "animal", "animal/dog", "animal/cat", "plant", "plant/tree", "plant/tree/oak",
    }  # fmt: skip
    at = {name: place for place, name in enumerate(space.names)}
    far = square(space)
    assert far[at["animal/dog"], at["animal/cat"]] == 2
    assert far[at["animal/dog"], at["plant/tree/oak"]] == 5
    assert far[at["plant"], at["plant/tree/oak"]] == 2
    assert set(label_space("paths:>", ["a > b", "a>c"]).names) == {"(any)", "a", "a > b", "a>c"}
    assert set(label_space("paths::", ["a:b", "c:d"]).names) == {"(any)", "a", "c", "a:b", "c:d"}


def test_trees_and_graphs_from_files(tmp_path: Path) -> None:
    """Oracle: lengths of paths by hand; with a third edge it is a ring."""
    file = tmp_path / "edges.csv"
    file.write_text("parent,child,length\nroot,a,1\nroot,b,2.5\n")
    space = label_space(f"tree:{file}", ["a", "b"])
    assert space.names == ("root", "a", "b") and square(space)[1].tolist() == [1, 0, 3.5]
    file.write_text("parent,child\nroot,a\nroot,b\na,b\n")
    assert square(label_space(f"tree:{file}", ["b"]))[1].tolist() == [1, 0, 1]


def test_embeddings_and_matrices_from_files(tmp_path: Path) -> None:
    """Oracle: distances of three vectors, of a table written by hand."""
    np.savez(
        tmp_path / "v.npz", names=np.array(["x", "y", "z"]), vectors=np.array([[1.0, 0], [0, 1], [-2, 0]])
    )
    for kind, row in (
        ("embeddings", [0, 2**0.5, 3]),
        ("cosine", [0, 1, 2]),
        ("arccos", [0, np.pi / 2, np.pi]),
    ):
        assert np.allclose(square(label_space(f"{kind}:{tmp_path / 'v.npz'}", ["z", "x"]))[0], row)
    file = tmp_path / "d.csv"
    file.write_text("label,low,mid,high\nlow,0,1,3\nmid,1,0,2\nhigh,3,2,0\n")
    space = label_space(f"matrix:{file}", ["high"])
    assert space.names == ("low", "mid", "high") and square(space)[0].tolist() == [0, 1, 3]


def test_names() -> None:
    """Oracle: 1 - cosine of what is left of vectors without their mean."""
    features = np.array([[1.0, 5], [3, 5], [2, 8]])
    near = features - features.mean(0)
    near /= np.linalg.norm(near, axis=1)[:, None]
    assert np.allclose(square(name_space(features, list("abc"))), 1 - near @ near.T)


@pytest.mark.parametrize(
    ("metric", "text", "kind", "words"),
    [
        ("lines", "", UsageError, "no metric 'lines'.*Did you mean 'line'"),
        ("line", "", DataError, "classes that are numbers; 'cat' is none"),
        ("line:5:1", "", UsageError, "line:FIRST:LAST"),
        ("line:a:b", "", UsageError, "line:FIRST:LAST"),
        ("line:1:2:0", "", UsageError, "line:FIRST:LAST"),
        ("line:0:1e12", "", UsageError, "line:FIRST:LAST"),
        ("tree", "", UsageError, "needs a file, as in tree:edges.csv"),
        ("tree:FILE", "from,to\nroot,cat\n", DataError, "columns from, to; edges need parent and child"),
        ("tree:FILE", "parent,child\nroot,dog\n", DataError, "not 'cat', which items have"),
        ("tree:FILE", "parent,child,length\nroot,cat,far\n", DataError, "'far' in the column 'length'"),
        ("embeddings:FILE", "no archive", DataError, "numpy.savez"),
        ("matrix:FILE", "label,cat,dog\ncat,0,1\ncow,1,0\n", DataError, "'cow' beside 'dog'"),
        ("matrix:FILE", "label,cat,dog\ncat,0,1\n", DataError, "1 rows and 2 columns"),
        ("paths", "", DataError, "'/x' is no path"),
    ],
)
def test_what_is_refused(metric: str, text: str, kind: type[Exception], words: str, tmp_path: Path) -> None:
    """Oracle: what is wrong, by construction."""
    file = tmp_path / ("file.npz" if metric.startswith("embeddings") else "file.csv")
    file.write_text(text)
    classes = {"paths": ["/x"]}.get(
        metric, ["1", "2"] if ":" in metric and "line" in metric else ["cat", "3"]
    )
    if "FILE" in metric:
        classes = ["cat"]
    with pytest.raises(kind, match=words):
        label_space(metric.replace("FILE", str(file)), classes)
