"""Label spaces: N named labels and the distances between them, which never stand in a square of memory.

`building.py` makes them: `edges_space` of a tree or a graph, `embedding_space` of a vector a label, and
`matrix_space` of a user's own matrix, which is the only one that is a square from the start.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch

from selfstudy.core.files import read_json, write_json

SPACE, ARRAYS = "space.json", "space.safetensors"
WIDE = 8  # numbers of a vector, up to which distances are exact
AT_ONCE = 2**22  # numbers of a block of distances, 32 MiB

Targets = slice | np.ndarray
Between = Literal["euclidean", "cosine", "arccos"]


class LabelSpace(Protocol):
    """What all spaces share.

    Attributes:
        by_rows: whether the distances from a label to all others are found together, as on a graph; else
            those to some of the others are found by themselves.
    """

    by_rows: ClassVar[bool]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the N labels."""
        ...

    def distances(self, sources: np.ndarray, targets: Targets = ...) -> np.ndarray:
        """Return the distances [k, n] from the labels `sources` [k] to all or some others, float64."""
        ...


@dataclass(frozen=True)
class EmbeddedLabels:
    """A vector a label.

    Attributes:
        names: of the N labels.
        vectors: [N, d], float64.
        between: "euclidean", "cosine" (1 - cosine) or "arccos" (the angle).
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    between: Between = "euclidean"
    by_rows: ClassVar[bool] = False

    def distances(self, sources: np.ndarray, targets: Targets = slice(None)) -> np.ndarray:
        """Return the distances [k, n] from the labels `sources` [k] to all or some others, float64."""
        first, second = self._placed[sources], self._placed[targets]
        if self.between == "euclidean":
            how = "use_mm_for_euclid_dist" if self._wide else "donot_use_mm_for_euclid_dist"
            return torch.cdist(first, second, compute_mode=how).numpy()
        cosine = (first @ second.T).clamp(-1, 1)
        return (torch.arccos(cosine) if self.between == "arccos" else 1 - cosine).numpy()

    @property
    def _wide(self) -> bool:
        """Whether distances are found by a product of matrices, and not exactly, number by number."""
        return self.vectors.shape[1] > WIDE

    @functools.cached_property
    def _placed(self) -> torch.Tensor:
        """Wide vectors around their mean, which keeps digits; those compared by angle at length 1."""
        vectors = torch.from_numpy(self.vectors)
        if self.between == "euclidean":
            return vectors - vectors.mean(0) if self._wide else vectors
        return torch.nn.functional.normalize(vectors, dim=1)


@dataclass(frozen=True)
class LabelMatrix:
    """Distances as a user gives them: `matrix` [N, N]."""

    names: tuple[str, ...]
    matrix: np.ndarray
    by_rows: ClassVar[bool] = False

    def distances(self, sources: np.ndarray, targets: Targets = slice(None)) -> np.ndarray:
        """Return the distances [k, n] from the labels `sources` [k] to all or some others, float64."""
        return self.matrix[sources][:, targets]


@dataclass(frozen=True)
class LabelTree:
    """A tree whose nodes are the labels; a distance is the length of the path.

    Attributes:
        names: of the N nodes.
        parents: [N], of each node; -1 of the root.
        lengths: [N], of the edge above each node; 0 of the root.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    lengths: np.ndarray
    by_rows: ClassVar[bool] = True

    @functools.cached_property
    def levels(self) -> list[np.ndarray]:
        """The nodes of each depth, the root first."""
        from scipy.sparse.csgraph import breadth_first_order

        below = np.flatnonzero(self.parents >= 0)
        edges = np.stack([self.parents[below], below], axis=1)
        sparse = sparse_edges(edges, np.ones(len(edges)), len(self.names))
        root = int(self.parents.argmin())
        order = breadth_first_order(sparse, root, return_predecessors=False)
        depth, parents = [0] * len(self.names), self.parents.tolist()
        for node in order[1:].tolist():
            depth[node] = depth[parents[node]] + 1
        return np.split(order, np.flatnonzero(np.diff(np.array(depth)[order])) + 1)

    def distances(self, sources: np.ndarray, targets: Targets = slice(None)) -> np.ndarray:
        """Return the distances [k, n] from the labels `sources` [k] to all or some others, float64.

        Up from each source to the root, then down from there level by level: O(k N).
        """
        each = np.arange(len(sources))
        found = np.full((len(self.names), len(sources)), np.nan)
        found[sources, each] = 0
        at, far = np.array(sources), np.zeros(len(sources))
        while len(each := each[self.parents[at[each]] >= 0]):
            far[each] += self.lengths[at[each]]
            at[each] = self.parents[at[each]]
            found[at[each], each] = far[each]
        for level in self.levels[1:]:
            below = found[self.parents[level]] + self.lengths[level, None]
            found[level] = np.where(np.isnan(found[level]), below, found[level])
        return found.T[:, targets]


@dataclass(frozen=True)
class LabelGraph:
    """A graph whose nodes are the labels; a distance is the length of the shortest path.

    Attributes:
        names: of the N nodes.
        edges: [E, 2], pairs of nodes, which go both ways.
        lengths: [E], above 0.
        apart: the distance of labels without a path between them.
    """

    names: tuple[str, ...]
    edges: np.ndarray
    lengths: np.ndarray
    apart: float = 0.0
    by_rows: ClassVar[bool] = True

    def distances(self, sources: np.ndarray, targets: Targets = slice(None)) -> np.ndarray:
        """Return the distances [k, n] from the labels `sources` [k] to all or some others, float64."""
        from scipy.sparse.csgraph import dijkstra

        found = dijkstra(self._sparse, directed=False, indices=sources)[:, targets]
        return np.where(np.isfinite(found), found, self.apart)

    @functools.cached_property
    def _sparse(self) -> Any:
        return sparse_edges(self.edges, self.lengths, len(self.names))


AnySpace = EmbeddedLabels | LabelMatrix | LabelTree | LabelGraph
KINDS: dict[str, type[Any]] = {
    "embeddings": EmbeddedLabels,
    "matrix": LabelMatrix,
    "tree": LabelTree,
    "graph": LabelGraph,
}


def paired_distances(space: AnySpace, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the distance [M] between the labels `first` [M] and `second` [M], pair by pair."""
    found = np.zeros(len(first))
    sources, place = np.unique(first, return_inverse=True)
    size = max(1, AT_ONCE // len(space.names))
    for start in range(0, len(sources), size):
        rows = space.distances(sources[start : start + size])
        at = np.flatnonzero((place >= start) & (place < start + size))
        found[at] = rows[place[at] - start, np.asarray(second)[at]]
    return found


def save_space(space: AnySpace, folder: Path) -> None:
    """Write a space: numbers as safetensors, names and the rest as JSON."""
    import safetensors.numpy

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fields = {field.name: getattr(space, field.name) for field in dataclasses.fields(space)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in fields.items() if name not in arrays}
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / ARRAYS
    )
    kind = next(kind for kind, of in KINDS.items() if isinstance(space, of))
    write_json(folder / SPACE, {"kind": kind, **plain})


def load_space(folder: Path) -> AnySpace:
    """Read what `save_space` wrote."""
    import safetensors.numpy

    said = read_json(Path(folder) / SPACE)
    kind = KINDS[said.pop("kind")]
    said["names"] = tuple(said["names"])
    return kind(**said, **safetensors.numpy.load_file(Path(folder) / ARRAYS))


def sparse_edges(edges: np.ndarray, lengths: np.ndarray, count: int) -> Any:
    """Return the matrix [count, count] that holds the length of each edge once."""
    from scipy.sparse import csr_array

    return csr_array((lengths, (edges[:, 0], edges[:, 1])), shape=(count, count))
