"""Sparse matrices of undirected graphs, made anew for every subset of the edges."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy import sparse

from selfstudy.data.graphs import Features


class Adjacency:
    """The matrices [N, N] of one relation; subsets of its edges keep the order that is found once.

    Args:
        edges: [2, E], each undirected edge once.
        nodes: N.
    """

    def __init__(self, edges: np.ndarray, nodes: int) -> None:
        self.nodes = nodes
        count = edges.shape[1]
        self._rows, self._columns, self._edge = _in_order(
            np.concatenate([edges[0], edges[1]]),
            np.concatenate([edges[1], edges[0]]),
            np.tile(np.arange(count), 2),
        )
        loops = np.arange(nodes)
        # A loop is the edge E, which is never dropped.
        self._with_loops = _in_order(
            np.concatenate([self._rows, loops]),
            np.concatenate([self._columns, loops]),
            np.concatenate([self._edge, np.full(nodes, count)]),
        )

    def plain(self) -> torch.Tensor:
        """Return A, of zeros and ones."""
        return _matrix(self._rows, self._columns, np.ones(len(self._rows), np.float32), self.nodes)

    def normalised(self, kept: np.ndarray | None = None) -> torch.Tensor:
        """Return D^-1/2 (A + I) D^-1/2 of the kept edges (Kipf, Welling 2017).

        Args:
            kept: [E], bool; None is all.
        """
        rows, columns, edge = self._with_loops
        if kept is not None:
            at = np.append(kept, True)[edge]
            rows, columns = rows[at], columns[at]
        scale = (1 / np.sqrt(np.bincount(rows, minlength=self.nodes))).astype(np.float32)
        return _matrix(rows, columns, scale[rows] * scale[columns], self.nodes)


def multiply(symmetric: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return the product of a symmetric sparse or dense matrix [N, N], a constant, with `inputs` [N, d]."""
    return _Product.apply(symmetric, symmetric, inputs)


class SparseInputs:
    """Features [N, F] in CSR form, to be multiplied with weights [F, d]; the features are constants."""

    def __init__(self, features: Features) -> None:
        matrix = sparse.csr_array(features)
        self._matrix, self._transposed = csr_tensor(matrix), csr_tensor(sparse.csr_array(matrix.T))

    def __matmul__(self, weight: torch.Tensor) -> torch.Tensor:
        return _Product.apply(self._matrix, self._transposed, weight)


class _Product(torch.autograd.Function):
    """A constant times a dense matrix; its gradient takes the transposed constant, made once."""

    @staticmethod
    def forward(ctx, matrix, transposed, inputs):
        ctx.transposed = transposed
        return matrix @ inputs

    @staticmethod
    def backward(ctx, gradient):
        return None, None, ctx.transposed @ gradient.contiguous()


def _in_order(rows: np.ndarray, columns: np.ndarray, edge: np.ndarray) -> tuple[np.ndarray, ...]:
    order = np.lexsort((columns, rows))
    return rows[order], columns[order], edge[order]


def _matrix(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, nodes: int) -> torch.Tensor:
    starts = np.zeros(nodes + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=nodes), out=starts[1:])
    return _sparse(starts, columns, values, (nodes, nodes))


def csr_tensor(matrix: sparse.csr_array) -> torch.Tensor:
    """Return a sparse matrix [N, M] of SciPy as one of torch, float32."""
    starts, columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    return _sparse(starts, columns, matrix.data.astype(np.float32), matrix.shape)


def _sparse(
    starts: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, ...]
) -> torch.Tensor:
    at, places, numbers = (torch.from_numpy(part) for part in (starts, columns, values))
    with warnings.catch_warnings():
        # torch 2.13 warns that its CSR form is beta; products with dense matrices are all that is used.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(at, places, numbers, size=shape, check_invariants=False)
