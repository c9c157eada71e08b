"""Graphs of torch-geometric: a Data, or one of its data sets by name."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError, MissingExtra, UsageError, nearest
from selfstudy.data.graphs import Graph, cleaned, few_filled
from selfstudy.data.library import VARIABLE


def from_torch_geometric(data: Any, name: str = "graph") -> Graph:
    """Return the graph of a torch_geometric Data, or of a data set with a single one.

    Args:
        data: has `edge_index` [2, E], `x` [N, F] (dense or sparse), and `y` [N] where nodes have labels.
        name: of the graph.

    Raises:
        DataError: something else, or several graphs.
    """
    if not hasattr(data, "edge_index"):
        raise DataError(f"A graph is asked for, not a {type(data).__name__}: give a torch_geometric Data.")
    if hasattr(data, "__len__") and hasattr(data, "get") and not hasattr(data, "num_edge_types"):
        if len(data) != 1:
            raise DataError(f"The data set {name!r} has {len(data)} graphs; give one of them.")
        data = data[0]
    if getattr(data, "x", None) is None:
        raise DataError(f"The graph {name!r} of torch_geometric has no features x. Give some.")
    values = data.x.to_dense().numpy().astype(np.float32)
    labels = None if getattr(data, "y", None) is None else data.y.numpy()
    return cleaned(
        name,
        few_filled(values),
        [data.edge_index.numpy()],
        labels=labels if labels is not None and labels.ndim == 1 else None,
    )


def geometric_set(spec: str) -> Graph:
    """Return a data set of torch_geometric, downloaded unless it is there.

    Args:
        spec: the name of its class, and where it takes one, a name behind a slash: "Planetoid/Cora". It lies
            in torch-geometric/Planetoid/Cora of `$SELFSTUDY_DATA`, else of ~/.cache/selfstudy.

    Raises:
        MissingExtra: torch_geometric is not installed.
        UsageError: it has no such data set.
        DataError: the data set cannot be had, or has several graphs.
    """
    try:
        from torch_geometric import datasets
    except ImportError:
        raise MissingExtra("torch_geometric", "graph") from None
    kind, _, name = spec.partition("/")
    if kind not in datasets.__all__:
        raise UsageError(f"torch_geometric has no data set {kind!r}. {nearest(kind, datasets.__all__)}")
    folder = Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "selfstudy")
    takes = inspect.signature(getattr(datasets, kind)).parameters
    given: dict[str, Any] = {"root": str(folder / "torch-geometric" / spec)} if "root" in takes else {}
    given |= {"name": name} if name else {}
    try:
        found = getattr(datasets, kind)(**given)
    except Exception as error:  # downloads, unknown names and missing arguments fail in many ways
        raise DataError(
            f"The data set {spec!r} of torch_geometric cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return from_torch_geometric(found, spec.replace("/", "-").lower())
