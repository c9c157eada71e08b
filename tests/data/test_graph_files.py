"""A user's graphs: lists of edges, tables of nodes, archives, torch-geometric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.geometric_graphs import from_torch_geometric
from selfstudy.data.graph_files import archive, built_in, read_graph
from selfstudy.data.graphs import UNKNOWN

NODES = "name,height,width,kind\nb,1.5,2,elm\na,0.5,1,oak\nc,2,3,\n"


def write(folder: Path, **files: str) -> dict[str, str]:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return {name: str(folder / name.replace("_", ".")) for name in files}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("edges_csv", "from,to\na,b\nb,c\n"),
        ("edges_csv", "a,b,0.3\nb,c,0.1\n"),
        ("edges_tsv", "# a comment\na\tb\n\nb\tc\n"),
        ("edges_txt", "a b\nb c\n"),
    ],
)
def test_edges_with_a_table_of_nodes(name: str, text: str, tmp_path: Path) -> None:
    """Oracle: the graph written by hand, in the order of the table, with and without a header."""
    paths = write(tmp_path, **{name: text, "nodes_csv": NODES})
    graph = read_graph(paths[name], features=paths["nodes_csv"], label="kind", id="name")
    assert graph.nodes == ("b", "a", "c") and graph.edges.tolist() == [[0, 0], [1, 2]]
    assert graph.features.tolist() == [[1.5, 2.0], [0.5, 1.0], [2.0, 3.0]]
    assert graph.classes == ("elm", "oak") and graph.labels.tolist() == [0, 1, UNKNOWN]


def test_nodes_that_are_rows(tmp_path: Path) -> None:
    """Oracle: places in the table; a column "id" is found by its name; Parquet."""
    import pyarrow
    import pyarrow.parquet

    paths = write(tmp_path, edges_csv="0,1\n1,2\n", nodes_csv="x,y\n1,2\n3,4\n5,6\n")
    graph = read_graph(paths["edges_csv"], features=paths["nodes_csv"])
    assert graph.nodes == () and graph.features.shape == (3, 2) and graph.edges.tolist() == [[0, 1], [1, 2]]
    table = tmp_path / "nodes.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [2, 1, 0], "x": [1.0, 2.0, 3.0]}), table)
    graph = read_graph(paths["edges_csv"], features=str(table))
    assert graph.nodes == ("2", "1", "0") and graph.edges.tolist() == [[0, 1], [1, 2]]
    assert graph.features.tolist() == [[1.0], [2.0], [3.0]]


def test_several_relations_and_no_features(tmp_path: Path) -> None:
    """Oracle: edges by kind; a feature a node."""
    paths = write(tmp_path, edges_csv="a,b,kind\n1,2,likes\n2,3,knows\n1,3,likes\n")
    graph = read_graph(paths["edges_csv"], features="identity", relation="kind")
    assert [edges.tolist() for edges in graph.relations] == [[[0, 0], [1, 2]], [[1], [2]]]
    assert sparse.issparse(graph.features) and (graph.features.toarray() == np.eye(3)).all()
    assert graph.nodes == ("1", "2", "3")


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, UsageError, "without features. Name the table of the nodes"),
        ({"features": "nodes_csv", "id": "nam"}, UsageError, "no column 'nam'. Did you mean 'name'"),
        ({"features": "nodes_csv", "id": "name", "label": "sort"}, UsageError, "no column 'sort'"),
        ({"features": "nodes_csv", "id": "name"}, DataError, "Row 1 of .* has 'elm' in the column 'kind'"),
        ({"features": "twice_csv", "id": "name"}, DataError, "the node 'a' twice"),
        ({"features": "other_csv", "id": "name"}, DataError, "Edge 2 of .* names the node 'c'"),
        ({"features": "gap_csv", "id": "name"}, DataError, "Row 2 of .* has '' in the column 'x'"),
        ({"features": "bare_csv", "id": "name"}, DataError, "no column of features"),
        ({"features": "nodes_csv", "relation": "sort"}, UsageError, "no column 'sort'"),
    ],
)
def test_bad_files_are_named(options: dict[str, str], kind: Any, words: str, tmp_path: Path) -> None:
    """Oracle: what is wrong, by construction."""
    paths = write(
        tmp_path,
        edges_csv="a,b\nb,c\n",
        nodes_csv=NODES,
        twice_csv="name,x\na,1\nb,2\na,3\n",
        other_csv="name,x\na,1\nb,2\n",
        gap_csv="name,x\na,1\nb,\nc,1\n",
        bare_csv="name\na\nb\nc\n",
    )
    given = {name: paths.get(value, value) for name, value in options.items()}
    with pytest.raises(kind, match=words):
        read_graph(paths["edges_csv"], **given)
    (tmp_path / "one.txt").write_text("a b\nb\n")
    with pytest.raises(DataError, match=r"Line 2 of .*one\.txt names no two nodes: 'b'"):
        read_graph(str(tmp_path / "one.txt"), features="identity")
    with pytest.raises(DataError, match="There is no file"):
        read_graph(str(tmp_path / "none.csv"), features="identity")


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the arrays that were written; found as a named set under the data folder."""
    X = sparse.csr_array(np.array([[0, 1.0], [2, 0], [0, 0]]))
    parts = {"x_data": X.data, "x_indices": X.indices, "x_indptr": X.indptr, "x_shape": X.shape}
    edges = np.array([[0, 1], [1, 2]])
    (tmp_path / "graphs").mkdir()
    file = tmp_path / "graphs" / "cora_planetoid.npz"
    np.savez(file, edge_index=edges, labels=np.array([0, 1, -1], np.int8), **parts)
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    for graph in (built_in("cora"), read_graph(str(file))):
        assert (graph.features.toarray() == X.toarray()).all() and graph.edges.tolist() == edges.tolist()
        assert graph.labels.tolist() == [0, 1, UNKNOWN]
    several = tmp_path / "several.npz"
    np.savez(several, edges_b=edges, edges_a=edges[:, :1], x=X.toarray())
    assert [found.shape[1] for found in archive(several).relations] == [1, 2]
    monkeypatch.delenv("SELFSTUDY_DATA")
    with pytest.raises(DataError, match=r"The graph 'cora' is not on this machine: set \$SELFSTUDY_DATA"):
        built_in("cora")
    for arrays, words in (({"x": X.toarray()}, "has no edges"), ({"edge_index": edges}, "has no features")):
        np.savez(several, **arrays)
        with pytest.raises(DataError, match=words):
            archive(several)
    (tmp_path / "no.npz").write_text("text")
    with pytest.raises(DataError, match=r"is not an .npz archive"):
        archive(tmp_path / "no.npz")


def test_features_of_an_archive(tmp_path: Path) -> None:
    """Oracle: the array that was written."""
    paths = write(tmp_path, edges_csv="0,1\n1,2\n")
    np.savez(tmp_path / "x.npz", x=np.eye(3))
    assert read_graph(paths["edges_csv"], features=str(tmp_path / "x.npz")).features.shape == (3, 3)


def test_torch_geometric() -> None:
    """Oracle: a Data written by hand, and the karate club: 34 nodes, 78 edges, four communities."""
    data = pytest.importorskip("torch_geometric.data").Data(
        x=torch.tensor([[1.0], [2.0], [3.0]]),
        edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]),
        y=torch.tensor([0, 1, 1]),
    )
    graph = from_torch_geometric(data)
    assert graph.edges.tolist() == [[0, 1], [1, 2]] and graph.labels.tolist() == [0, 1, 1]
    club = read_graph("torch-geometric:KarateClub")
    assert len(club) == 34 and club.edges.shape == (2, 78) and club.classes == ("0", "1", "2", "3")
    assert club.name == "karateclub"
    with pytest.raises(UsageError, match=r"no data set 'KarateClubs'. Did you mean 'KarateClub'"):
        read_graph("torch-geometric:KarateClubs")
    with pytest.raises(DataError, match="A graph is asked for, not a list"):
        from_torch_geometric([1, 2])
    data.x = None
    with pytest.raises(DataError, match="has no features x"):
        from_torch_geometric(data)
