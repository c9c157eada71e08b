"""Encoders of the nodes of a graph: two graph convolutions for each relation."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import sparse
from torch import nn

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.adjacency import Adjacency, SparseInputs, multiply
from selfstudy.data.graphs import Features, Graph
from selfstudy.models.encoders.base import AS_DATA
from selfstudy.models.small import SmallModel

Inputs = SparseInputs | torch.Tensor
ACTIVATIONS = {"relu": nn.ReLU, "prelu": nn.PReLU}
LEAST_DEVIATION = 1e-3


class GraphEncoder(SmallModel):
    """Two layers act(D^-1/2 (A + I) D^-1/2 X W) for each relation (Kipf, Welling 2017, arXiv 1609.02907).

    Sparse features are scaled to rows of length 1, others to mean 0 and deviation 1 in each column of the
    graph that the encoder was made for; this is saved with the weights. The layers are sparse products of our
    own, since torch_geometric's GCNConv takes features dense, which is slower where most are 0.

    Args:
        inputs: features F of a node; 0 is as the data have.
        relations: between nodes; 0 is as the data have. Embeddings are the mean over them.
        hidden: width of the first layer.
        width: of the embeddings.
        activation: of both layers, "relu" or "prelu".
        sparse: whether features are mostly 0; only asked when `inputs` is given.
        seed: of the first weights.
    """

    kind: ClassVar[str] = "gcn"

    def __init__(
        self,
        *,
        inputs: int = AS_DATA,
        relations: int = AS_DATA,
        hidden: int = 256,
        width: int = 128,
        activation: str = "relu",
        sparse: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            inputs=inputs,
            relations=relations,
            hidden=hidden,
            width=width,
            activation=activation,
            sparse=sparse,
            seed=seed,
        )
        if min(inputs, relations) < 0 or min(hidden, width) < 1:
            raise UsageError(
                f"The model 'gcn' has inputs {inputs}, relations {relations}, hidden {hidden} and width "
                f"{width}: the first two must be at least 0, the others at least 1."
            )
        if activation not in ACTIVATIONS:
            raise UsageError(f"The activation {activation!r} of model 'gcn' is none of relu and prelu.")
        self.inputs, self.relations, self.width, self.sparse = inputs or 1, relations or 1, width, sparse
        generator = self.generator()
        self.layers = nn.ModuleList(
            _Convolutions(self.inputs, hidden, width, activation, generator) for _ in range(self.relations)
        )
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.zeros(self.inputs))
        self.register_buffer("deviation", torch.ones(self.inputs))

    def made_for(self, graph: Graph) -> Self:
        """Return the encoder for the features and relations of `graph`.

        One that was made for such a graph already, or trained on it, is returned as it is.

        Raises:
            UsageError: it was made for a graph with other features or relations.
        """
        count, relations = graph.features.shape[1], len(graph.relations)
        if self.config["inputs"] and self.config["relations"]:
            if (self.inputs, self.relations) != (count, relations):
                raise UsageError(
                    f"The model 'gcn' takes nodes with {self.inputs} features and {self.relations} "
                    f"relations; those of {graph.name!r} have {count} features and {relations} relations."
                )
            return self
        is_sparse = sparse.issparse(graph.features)
        made = type(self)(**{**self.config, "inputs": count, "relations": relations, "sparse": is_sparse})
        if not is_sparse:
            made.mean = torch.from_numpy(graph.features.mean(0))
            made.deviation = torch.from_numpy(graph.features.std(0)).clamp(min=LEAST_DEVIATION)
        return made.eval()

    def prepared(self, features: Features) -> Inputs:
        """Return the features [N, F] of nodes, scaled, as `forward` takes them."""
        if self.sparse:
            matrix = sparse.csr_array(features)
            lengths = np.sqrt(matrix.multiply(matrix).sum(1)).clip(min=LEAST_DEVIATION)
            return SparseInputs(sparse.diags_array((1 / lengths).astype(np.float32)) @ matrix)
        dense = features.toarray() if sparse.issparse(features) else features
        return (torch.from_numpy(np.asarray(dense, np.float32)) - self.mean) / self.deviation

    def forward(
        self,
        inputs: Inputs,
        adjacency: torch.Tensor,
        seen: torch.Tensor | None = None,
        *,
        relation: int = 0,
    ) -> torch.Tensor:
        """Return the embeddings [N, width] by one relation.

        Args:
            inputs: as `prepared` gives them.
            adjacency: of the relation, normalised [N, N].
            seen: which features are seen, [F]; None is all.
            relation: whose layers.
        """
        return self.layers[relation](inputs, adjacency, seen)

    def propagations(self, graph: Graph) -> list[torch.Tensor]:
        """Return the normalised adjacency of each relation of a graph.

        Raises:
            DataError: it has other features or relations than the encoder takes.
        """
        if (self.inputs, self.relations) != (graph.features.shape[1], len(graph.relations)):
            raise DataError(
                f"The graph {graph.name!r} has {graph.features.shape[1]} features and {len(graph.relations)} "
                f"relations; this encoder takes {self.inputs} and {self.relations}."
            )
        return [Adjacency(edges, len(graph)).normalised() for edges in graph.relations]

    def embed(self, inputs: Any) -> np.ndarray:
        """Return the embeddings of the nodes of a graph as numbers: [N, width], float32.

        Args:
            inputs: a `Graph` with the same features, or a torch_geometric Data.

        Raises:
            DataError: other features or relations.
        """
        if not isinstance(inputs, Graph):
            from selfstudy.data.geometric_graphs import from_torch_geometric

            inputs = from_torch_geometric(inputs)
        return self.embed_graph(inputs).numpy()

    def embed_graph(self, graph: Graph) -> torch.Tensor:
        """Return the embeddings [N, width] of the nodes of a graph, the mean over its relations."""
        adjacency = self.propagations(graph)
        inputs = self.prepared(graph.features)
        with torch.no_grad():
            by_relation = [self(inputs, matrix, relation=at) for at, matrix in enumerate(adjacency)]
            return torch.stack(by_relation).mean(0)


class _Convolutions(nn.Module):
    def __init__(
        self, inputs: int, hidden: int, width: int, activation: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(inputs, hidden))
        self.first_bias = nn.Parameter(torch.zeros(hidden))
        self.second = nn.Parameter(torch.empty(hidden, width))
        self.second_bias = nn.Parameter(torch.zeros(width))
        for weight in (self.first, self.second):
            nn.init.xavier_uniform_(weight, generator=generator)
        self.activations = nn.ModuleList(ACTIVATIONS[activation]() for _ in range(2))

    def forward(
        self, inputs: Inputs, adjacency: torch.Tensor, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        # Hiding a feature is the same as taking its row of weights away, and that is dense.
        first = self.first if seen is None else self.first * seen[:, None]
        hidden = self.activations[0](multiply(adjacency, inputs @ first) + self.first_bias)
        return self.activations[1](multiply(adjacency, hidden @ self.second) + self.second_bias)
