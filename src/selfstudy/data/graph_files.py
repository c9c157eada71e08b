"""Graphs of a user's files and of `$SELFSTUDY_DATA/graphs`."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.geometric_graphs import geometric_set
from selfstudy.data.graphs import Features, Graph, cleaned, few_filled
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.readers import plain_text
from selfstudy.data.tables import finite_numbers, read_columns, require_column

IDENTITY = "identity"
GEOMETRIC = "torch-geometric:"
ID_COLUMNS = ("id", "node")


class Nodes(NamedTuple):
    """What a table says of the nodes."""

    features: Features
    ids: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]


def read_graph(path: str, *, features: str = "", label: str = "", id: str = "", relation: str = "") -> Graph:
    """Return the graph of a file.

    Args:
        path: edges, a .csv, .tsv or .txt file whose first two columns name nodes, with or without a header;
            or an .npz archive of everything; or `torch-geometric:` and a data set, as in
            torch-geometric:Planetoid/Cora.
        features: of edges, the table of the nodes: .csv, .parquet, .jsonl, or an .npz of features alone;
            "identity" gives each node a feature of its own.
        label: column of the table with what nodes are; empty cells are unknown.
        id: column of the table with the nodes' ids; "id" or "node", where there is one, else nodes are the
            rows, numbered from 0.
        relation: column of the edges that names the relation of each; without it there is one.

    Raises:
        UsageError: a kind of file that is not read, or a column that is not there.
        DataError: edges of unknown nodes, or features that are no numbers.
    """
    if path.startswith(GEOMETRIC):
        return geometric_set(path.removeprefix(GEOMETRIC))
    if Path(path).suffix == ".npz":
        return archive(Path(path))
    if not features:
        raise UsageError(
            f"The edges {path} come without features. Name the table of the nodes, features=nodes.csv, or "
            "give each node a feature of its own, features=identity."
        )
    pairs, relations = _edge_list(Path(path), relation)
    if features == IDENTITY:
        ids = sorted({node for pair in pairs for node in pair}, key=_natural)
        nodes = Nodes(sparse.eye_array(len(ids), format="csr"), ids, np.full(len(ids), UNKNOWN), ())
    else:
        nodes = _nodes(features, label, id)
    places = {node: place for place, node in enumerate(nodes.ids)}
    if pairs and relation == "" and not set(pairs[0]) & set(places):
        pairs, relations = pairs[1:], relations[1:]  # a header
    for line, pair in enumerate(pairs, 1):
        for node in pair:
            if node not in places:
                raise DataError(
                    f"Edge {line} of {path} names the node {node!r}, which {features} does not have. Give "
                    "its features, or take the edge out."
                )
    ends = np.array([[places[node] for node in pair] for pair in pairs], np.int64).reshape(-1, 2).T
    kinds = np.array(relations)
    numbered = nodes.ids == [str(place) for place in range(len(nodes.ids))]
    return cleaned(
        Path(path).stem,
        nodes.features,
        [ends[:, kinds == kind] for kind in dict.fromkeys(relations)] or [ends],
        labels=nodes.labels,
        classes=nodes.classes,
        nodes=() if numbered else nodes.ids,
    )


def _edge_list(path: Path, relation: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the pairs of node ids, and the relation of each."""
    if not path.is_file():
        raise DataError(f"There is no file {path}. Give the path of a list of edges, from {Path.cwd()}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            f"{path} is not UTF-8 text. Give edges as .csv, .tsv or .txt, or all as .npz."
        ) from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if path.suffix == ".txt":
        rows = [line.split() for line in lines]
    else:
        rows = list(csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ","))
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise DataError(f"Line {number} of {path} names no two nodes: {lines[number - 1]!r}.")
    kinds = [""] * len(rows)
    if relation:
        header = [cell.strip() for cell in rows[0]] if rows else []
        require_column(str(path), relation, header)
        at, rows = header.index(relation), rows[1:]
        kinds = [row[at].strip() if len(row) > at else "" for row in rows]
    return [(row[0].strip(), row[1].strip()) for row in rows], kinds


def _nodes(source: str, label: str, id: str) -> Nodes:
    """Return the nodes of a table, or of an archive of features alone."""
    if Path(source).suffix == ".npz":
        with _opened(Path(source)) as data:
            found = _stored_features(data, source)
        count = found.shape[0]
        return Nodes(found, [str(place) for place in range(count)], np.full(count, UNKNOWN), ())
    columns = read_columns(source)
    for name in filter(None, (label, id)):
        require_column(source, name, columns)
    id = id or next((name for name in ID_COLUMNS if name in columns and name != label), "")
    numbers = [name for name in columns if name not in (label, id)]
    if not numbers:
        raise DataError(f"The table {source} has no column of features. Give one, or take features=identity.")
    values = np.stack([finite_numbers(source, name, columns[name]) for name in numbers], axis=1)
    values = values.astype(np.float32)
    ids = [plain_text(cell) for cell in columns[id]] if id else [str(place) for place in range(len(values))]
    if len(set(ids)) != len(ids):
        twice = next(node for place, node in enumerate(ids) if node in ids[:place])
        raise DataError(f"The table {source} has the node {twice!r} twice in column {id!r}. Keep one.")
    told = [plain_text(cell) for cell in columns[label]] if label else [""] * len(values)
    classes = tuple(sorted(set(filter(None, told)), key=_natural))
    place = {name: at for at, name in enumerate(classes)}
    labels = np.array([place.get(cell, UNKNOWN) for cell in told])
    return Nodes(few_filled(values), ids, labels, classes)


def archive(path: Path, name: str = "") -> Graph:
    """Return the graph of an .npz archive.

    It holds `edge_index` [2, E], or one `edges_NAME` for each relation; features as `x` [N, F], or in CSR
    form as `x_indptr`, `x_indices`, `x_data` and `x_shape`; and `labels` [N] where there are any, below 0
    unknown.
    """
    with _opened(path) as data:
        relations = [
            data[key] for key in sorted(data.files) if key == "edge_index" or key.startswith("edges_")
        ]
        if not relations:
            raise DataError(f"{path} has no edges: it needs an array edge_index, or edges_ and a name.")
        features = _stored_features(data, str(path))
        labels = data["labels"] if "labels" in data.files else None
    return cleaned(name or path.stem, features, relations, labels=labels)


def built_in(name: str) -> Graph:
    """Return a graph of `$SELFSTUDY_DATA/graphs`, such as "cora".

    Raises:
        DataError: it is not there.
    """
    file = f"graphs/{name}_planetoid.npz"
    path = library_file(file)
    if path is None:
        raise DataError(
            f"The graph {name!r} is not on this machine: set ${VARIABLE} to a folder that holds {file} "
            "(kimiyoung/planetoid). The task 'blocks' needs no files."
        )
    return archive(path, name)


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"There is no file {path}. Give the path of an .npz archive, from {Path.cwd()}.")
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{path} is not an .npz archive of plain arrays: {error}") from None


def _stored_features(data: Any, source: str) -> Features:
    names = set(data.files)
    if {"x_indptr", "x_indices", "x_data", "x_shape"} <= names:
        parts = (data["x_data"], data["x_indices"], data["x_indptr"])
        return sparse.csr_array(parts, shape=tuple(data["x_shape"]))
    if "x" not in names:
        raise DataError(
            f"{source} has no features: it needs an array x, or x_indptr and so on for a sparse one."
        )
    return data["x"]


def _natural(text: str) -> tuple[int, int, str]:
    """Order of ids: numbers by value, before words."""
    return (0, int(text), "") if re.fullmatch(r"\d+", text) else (1, 0, text)
