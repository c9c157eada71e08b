"""Metrics between labels by name, as the field `metric` of a task has them: `line`, `tree:edges.csv`, ..."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.data.tables import finite_numbers, number, read_columns
from selfstudy.models.labels.building import edges_space, embedding_space, matrix_space
from selfstudy.models.labels.spaces import AnySpace

ANY = "(any)"  # the root above the first parts of paths
POINTS = 1_000_000  # most numbers of a line


def label_space(metric: str, classes: Sequence[str]) -> AnySpace:
    """Return the labels and distances that a metric by name means; there may be labels that no item has.

        line                 classes are numbers, their distance is the difference
        line:1:5:0.5         the same, with all numbers from 1 to 5 in steps of 0.5
        paths                classes are paths such as animal/dog: a tree, its inner nodes labels too
        paths:>              the same, with another separator
        tree:edges.csv       edges, columns parent, child and (1 unless given) length; any graph
        embeddings:FILE.npz  `names` [N] and `vectors` [N, d]; by Euclidean distance
        cosine:FILE.npz      the same by 1 - cosine
        arccos:FILE.npz      the same by angle
        matrix:FILE.csv      a row and a column for each label; the first column has their names
        names                MiniLM's embeddings of the classes' names, around their mean, by 1 - cosine
        names:FILE.txt       the same, with more names, one a line

    Args:
        metric: the name, and what follows the colon.
        classes: that items have.

    Raises:
        UsageError: no such metric.
        DataError: a file that cannot be used, or a class that is not among the metric's labels.
    """
    kind, _, rest = metric.partition(":")
    if kind not in METRICS:
        raise UsageError(f"There is no metric {metric!r} between labels. {nearest(kind, METRICS)}")
    space = METRICS[kind](rest, tuple(classes))
    known = set(space.names)
    missing = [name for name in classes if name not in known]
    if missing:
        raise DataError(
            f"The metric {metric!r} knows {len(known)} labels, but not {', '.join(map(repr, missing[:5]))}, "
            f"which items have. {nearest(missing[0], space.names)}"
        )
    return space


def _line(rest: str, classes: tuple[str, ...]) -> AnySpace:
    numbers = {name: number(name) for name in classes}
    wrong = [name for name, value in numbers.items() if not np.isfinite(value)]
    if wrong:
        raise DataError(
            f"The metric 'line' is for classes that are numbers; {wrong[0]!r} is none. Give a "
            "tree or a matrix."
        )
    if rest:
        had = set(numbers.values())
        numbers |= {f"{value:g}": value for value in _points(rest) if value not in had}
    names = sorted(numbers, key=lambda name: numbers[name])
    return embedding_space(np.array([[numbers[name]] for name in names]), names)


def _points(rest: str) -> list[float]:
    """Return the numbers of FIRST:LAST or FIRST:LAST:STEP."""
    said = [number(part) for part in rest.split(":")]
    first, last, step = [*said, 1.0][:3] if len(said) in (2, 3) else (np.nan, np.nan, np.nan)
    count = (last - first) / step if step else np.nan
    if not 0 <= count <= POINTS:
        raise UsageError(
            f"line:{rest} must be line:FIRST:LAST or line:FIRST:LAST:STEP, such as line:1:5:0.5."
        )
    return [round(first + step * i, 9) for i in range(int(count + 1e-9) + 1)]


def _paths(rest: str, classes: tuple[str, ...]) -> AnySpace:
    separator = rest or "/"
    edges: dict[tuple[str, str], None] = {}
    for name in classes:
        parts = [part.strip() for part in name.split(separator)]
        if not all(parts):
            raise DataError(f"The class {name!r} is no path of names joined by {separator!r}.")
        # A class keeps its own spelling, whatever blanks it has about the separator.
        nodes = [ANY, *(separator.join(parts[:end]) for end in range(1, len(parts))), name]
        edges |= dict.fromkeys(itertools.pairwise(nodes))
    return _named_edges(list(edges), None)


def _tree(rest: str, classes: tuple[str, ...]) -> AnySpace:
    columns = read_columns(_file("tree", rest, "edges.csv"))
    if not {"parent", "child"} <= set(columns):
        raise DataError(
            f"{rest} has the columns {', '.join(columns)}; edges need parent and child, and may have length."
        )
    pairs = list(zip(map(str, columns["parent"]), map(str, columns["child"]), strict=True))
    lengths = finite_numbers(rest, "length", columns["length"]) if "length" in columns else None
    return _named_edges(pairs, lengths)


def _named_edges(pairs: list[tuple[str, str]], lengths: np.ndarray | None) -> AnySpace:
    names = tuple(dict.fromkeys(name for pair in pairs for name in pair))
    codes = {name: code for code, name in enumerate(names)}
    return edges_space(np.array([[codes[a], codes[b]] for a, b in pairs]), lengths, names)


def _vectors(between: str) -> Callable[[str, tuple[str, ...]], AnySpace]:
    def read(rest: str, classes: tuple[str, ...]) -> AnySpace:
        path = _file("embeddings", rest, "vectors.npz")
        try:
            with np.load(path, allow_pickle=False) as data:
                names, vectors = data["names"], data["vectors"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{rest} cannot be read as embeddings of labels ({error}). Write it with "
                "numpy.savez(path, names=[N], vectors=[N, d])."
            ) from None
        return embedding_space(vectors, [str(name) for name in names], between=between)  # type: ignore[arg-type]

    return read


def _matrix(rest: str, classes: tuple[str, ...]) -> AnySpace:
    columns = read_columns(_file("matrix", rest, "distances.csv"))
    first, *names = columns
    rows = [str(name) for name in columns[first]]
    if rows != names:
        other = next(
            (pair for pair in zip(rows, names, strict=False) if pair[0] != pair[1]), (rows[-1:], "-")
        )
        raise DataError(
            f"{rest} has {len(rows)} rows and {len(names)} columns of labels, which must be the same in the "
            f"same order: there is {other[0]!r} beside {other[1]!r}."
        )
    return matrix_space(np.stack([finite_numbers(rest, name, columns[name]) for name in names], 1), names)


def _names(rest: str, classes: tuple[str, ...]) -> AnySpace:
    from selfstudy.models.loading import model

    more: list[str] = []
    if rest:
        try:
            more = Path(rest).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{rest} cannot be read as names of labels, one a line: {error}.") from None
    names = tuple(dict.fromkeys([*classes, *(name.strip() for name in more if name.strip())]))
    return name_space(model("minilm").embed(spoken(names)), names)


def name_space(features: np.ndarray, names: Sequence[str]) -> AnySpace:
    """Return the space of features [N, d] of labels' names: 1 - cosine, around their mean."""
    features = np.asarray(features, dtype=np.float64)
    return embedding_space(features - features.mean(0), names, between="cosine")


def spoken(names: Sequence[str]) -> list[str]:
    """Return names as words.

    >>> spoken(["card_arrival", "ENTY:animal"])
    ['card arrival', 'ENTY animal']
    """
    return [" ".join(name.replace("_", " ").replace(":", " ").replace("/", " ").split()) for name in names]


def _file(kind: str, rest: str, example: str) -> str:
    if not rest:
        raise UsageError(f"The metric {kind!r} needs a file, as in {kind}:{example}.")
    return rest


METRICS: dict[str, Callable[[str, tuple[str, ...]], AnySpace]] = {
    "line": _line,
    "paths": _paths,
    "tree": _tree,
    "embeddings": _vectors("euclidean"),
    "cosine": _vectors("cosine"),
    "arccos": _vectors("arccos"),
    "matrix": _matrix,
    "names": _names,
}
