"""The data of the workloads that training algorithms compete on, as tensors in memory."""

from __future__ import annotations

import functools
import gzip
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse

from selfstudy.core.errors import DataError
from selfstudy.core.random import stream_key
from selfstudy.data.graph_files import built_in
from selfstudy.data.graph_splits import node_splits
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.mixed_tables import Table, numbers, texts
from selfstudy.data.text_sets import text_splits
from selfstudy.tasks.images import labelled_subset
from selfstudy.tasks.tables import adult

HELD = 1000  # validation and test examples that are looked at, at most
BUCKETS, WORDS, LENGTH = 512, 2000, 16  # of tables; of texts, and their longest
CHARACTERS, WINDOW = 96, 32


class Examples(NamedTuple):
    """Inputs [N, ...] and their classes [N, ...]."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def first(self, count: int) -> Examples:
        """Return the first examples."""
        return Examples(self.inputs[:count], self.targets[:count])


Splits = dict[str, Examples]


@functools.cache
def image_examples(name: str, count: int, side: int) -> Splits:
    """Return labelled images in the splits train, validation and test, averaged down to a side."""
    splits = dict(image_splits(name))
    splits["train"] = labelled_subset(splits["train"], count, 0)

    def examples(images: ImageSet, most: int) -> Examples:
        some = images.only(slice(most))
        pixels = torch.nn.functional.adaptive_avg_pool2d(some.pixels(slice(None)), side) - 0.5
        return Examples(pixels, torch.from_numpy(some.labels))

    return {split: examples(found, count if split == "train" else HELD) for split, found in splits.items()}


@functools.cache
def adult_examples(count: int) -> Splits:
    """Return rows of the Adult table: standardised numbers, then buckets of hashed categories."""
    task = adult(labels=count)
    if task.labelled is None:
        raise DataError("The Adult table has no labels.")
    parts = {"train": task.labelled, **task._held}
    known = parts["train"].table
    numeric = [name for name in known.cells if known.is_numeric(name)]
    raw = {name: np.nan_to_num(numbers(known.cells[name], name)) for name in numeric}

    def rows(table: Table) -> torch.Tensor:
        columns = []
        for name in numeric:
            found = np.nan_to_num(numbers(table.cells[name], name))
            columns.append((found - raw[name].mean()) / max(raw[name].std(), 1e-6))
        for name in table.cells:
            if name not in numeric:
                words = texts(table.cells[name])
                kinds = {word: stream_key("bucket", name, word or "") % BUCKETS for word in set(words)}
                columns.append(np.array([kinds[word] for word in words]))
        return torch.from_numpy(np.stack(columns, 1).astype(np.float32))

    return {
        split: Examples(
            rows(part.table.only(slice(None if split == "train" else HELD))),
            torch.from_numpy(np.asarray(part.answers.values)[: None if split == "train" else HELD]).long(),
        )
        for split, part in parts.items()
    }


@functools.cache
def text_examples(name: str) -> Splits:
    """Return texts as hashed words, 0 at the end of short ones, and their classes."""

    def words(text: str) -> list[int]:
        found = [1 + stream_key("word", word) % (WORDS - 1) for word in text.lower().split()[:LENGTH]]
        return found + [0] * (LENGTH - len(found))

    return {
        split: Examples(
            torch.tensor([words(text) for text in found.texts[: None if split == "train" else HELD]]),
            torch.from_numpy(found.labels[: None if split == "train" else HELD]),
        )
        for split, found in text_splits(name).items()
    }


@functools.cache
def character_examples() -> Splits:
    """Return windows of WikiText-2's validation file, 80/10/10 % in order; targets are one further on.

    Raises:
        DataError: the file is not on this machine.
    """
    where = "wikitext2/valid.txt.gz"
    path = library_file(where)
    if path is None:
        raise DataError(f"WikiText-2 is not on this machine: set ${VARIABLE} to a folder that holds {where}.")
    text = gzip.decompress(path.read_bytes()).decode("utf-8")
    kinds, counts = np.unique(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32), return_counts=True)
    common = kinds[np.argsort(-counts, kind="stable")[: CHARACTERS - 1]]
    code = {int(kind): place + 1 for place, kind in enumerate(common)}
    ids = torch.tensor([code.get(ord(character), 0) for character in text])
    windows = ids[: (len(ids) - 1) // WINDOW * WINDOW].view(-1, WINDOW)
    after = ids[1 : windows.numel() + 1].view(-1, WINDOW)
    ends = [int(0.8 * len(windows)), int(0.9 * len(windows))]
    parts = zip(
        ("train", "validation", "test"), windows.tensor_split(ends), after.tensor_split(ends), strict=True
    )
    return {split: Examples(x, y).first(len(x) if split == "train" else HELD // 2) for split, x, y in parts}


class GraphExamples(NamedTuple):
    """Nodes as examples, and the graph that they are in.

    Attributes:
        splits: nodes and their classes.
        features: [N, F], rows of length 1, sparse.
        adjacency: D^-1/2 (A + I) D^-1/2, sparse.
    """

    splits: Splits
    features: torch.Tensor
    adjacency: torch.Tensor


@functools.cache
def graph_examples(name: str) -> GraphExamples:
    """Return a graph of papers: the nodes 10/10/80 % in train, validation and test."""
    graph = built_in(name)
    rows = sparse.csr_array(graph.features)
    rows = sparse.diags_array(1 / np.maximum(sparse.linalg.norm(rows, axis=1), 1e-6)) @ rows
    nodes = np.arange(len(graph))
    ends = np.concatenate([graph.edges, graph.edges[::-1], np.stack([nodes, nodes])], 1)
    degree = np.bincount(ends[0], minlength=len(graph))
    weights = 1 / np.sqrt(degree[ends[0]] * degree[ends[1]])
    adjacency = sparse.coo_array((weights, tuple(ends)), shape=(len(graph),) * 2)
    labels = torch.from_numpy(graph.labels)
    splits = {
        split: Examples(torch.from_numpy(places), labels[places])
        for split, places in node_splits(graph.labels, 0).items()
    }
    return GraphExamples(splits, _sparse(rows), _sparse(adjacency))


def _sparse(matrix: Any) -> torch.Tensor:
    matrix = sparse.coo_array(matrix)
    places = torch.from_numpy(np.stack(matrix.coords).astype(np.int64))
    values = torch.from_numpy(matrix.data.astype(np.float32))
    return torch.sparse_coo_tensor(places, values, matrix.shape, check_invariants=True).coalesce()
