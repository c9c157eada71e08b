"""An encoder of nodes with what finds its communities: a projection, and a centre of each community."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from selfstudy.data.graphs import Graph
from selfstudy.models.encoders.graphs import GraphEncoder
from selfstudy.models.small import SmallModel

Similarity = Literal["cosine", "rbf"]


def similarities(
    embeddings: torch.Tensor, centres: torch.Tensor, temperature: float, similarity: Similarity
) -> torch.Tensor:
    """Return sim / tau of each embedding [N, d] to each centre [K, d]: [N, K].

    sim is the scalar product ("cosine") or -|.|^2 / tau^2 ("rbf").
    """
    if similarity == "cosine":
        return embeddings @ centres.T / temperature
    products = embeddings @ centres.T
    apart = embeddings.square().sum(1, keepdim=True) - 2 * products + centres.square().sum(1)
    return -apart / temperature**3


def memberships(
    embeddings: torch.Tensor, centres: torch.Tensor, temperature: float, similarity: Similarity = "cosine"
) -> torch.Tensor:
    """Return R [N, K]: how much each node belongs to each of the communities whose centres are learned.

    Args:
        embeddings: h [N, d], rows of length 1; detach them, or the encoder is trained to be detected.
        centres: phi [K, d], of any length.
        temperature: tau.
        similarity: of nodes and centres.
    """
    unit = functional.normalize(centres, dim=1)
    return similarities(embeddings, unit, temperature, similarity).softmax(1)


class GraphCommunities(SmallModel):
    """A graph encoder, a projection Linear, ELU, Linear to unit length, and K centres for each relation.

    Args:
        encoder: configuration of the encoder.
        communities: K.
        projection: width between the two linear layers.
        temperature: tau of the memberships.
        similarity: of nodes and centres, "cosine" or "rbf".
        seed: of the first weights of projection and centres.
    """

    kind: ClassVar[str] = "graph-communities"

    def __init__(
        self,
        *,
        encoder: dict[str, Any],
        communities: int,
        projection: int = 128,
        temperature: float = 0.4,
        similarity: Similarity = "cosine",
        seed: int = 0,
    ) -> None:
        super().__init__(
            encoder=encoder,
            communities=communities,
            projection=projection,
            temperature=temperature,
            similarity=similarity,
            seed=seed,
        )
        self.communities, self.temperature, self.similarity = communities, temperature, similarity
        self.encoder = GraphEncoder(**encoder)
        width = self.encoder.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.generator().initial_seed())
            self.projection = nn.Sequential(
                nn.Linear(width, projection), nn.ELU(), nn.Linear(projection, width)
            )
            # Of length 1 or so, as the embeddings are: the step of Adam does not grow with them.
            first = torch.randn(self.encoder.relations, communities, width) / width**0.5
            self.centres = nn.Parameter(first)

    def projected(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return h [N, d] of z [N, d]: rows of length 1."""
        return functional.normalize(self.projection(embeddings), dim=1)

    def memberships(self, projected: torch.Tensor, relation: int = 0) -> torch.Tensor:
        """Return R [N, K] of h [N, d]; no gradient goes to h."""
        return memberships(projected.detach(), self.centres[relation], self.temperature, self.similarity)

    def assign(self, graph: Graph) -> torch.Tensor:
        """Return the memberships [relations, N, K] of the nodes of a graph, in each of its relations."""
        inputs = self.encoder.prepared(graph.features)
        with torch.no_grad():
            return torch.stack(
                [
                    self.memberships(self.projected(self.encoder(inputs, adjacency, relation=at)), at)
                    for at, adjacency in enumerate(self.encoder.propagations(graph))
                ]
            )

    def embed_graph(self, graph: Graph) -> torch.Tensor:
        """Return the encoder's embeddings [N, d]."""
        return self.encoder.embed_graph(graph)
