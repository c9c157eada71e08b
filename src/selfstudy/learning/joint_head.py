"""A head of a classifier that labels a whole batch together."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from selfstudy.core.config import from_dict
from selfstudy.learning.transduction import Transduction, graph_of, one_round, transformed
from selfstudy.models.encoders.feature_heads import Head

LEAST = 1e-30  # of a probability whose logarithm is taken


class JointHead(Head):
    """The nearest prototype, made smooth over the graph of the batch that is asked about.

    This is transductive: what it says of an item depends on the items that are asked about with it. One item
    alone is of the nearest prototype. Give items in batches, and those together that belong together.

    Args:
        width: d.
        classes: C.
        supports: s, labelled items that are in the graph of each batch; 0 leaves them out.
        settings: fields of `Transduction`; the prototypes stay where they are.

    Attributes:
        centre: [d], taken off the features.
        prototypes: [C, d], of transformed features.
        support: [s, d], transformed.
        targets: [s, C], their classes, 0 or 1.
    """

    def __init__(self, *, width: int, classes: int, supports: int, settings: dict[str, Any]) -> None:
        super().__init__(width=width, classes=classes, supports=supports, settings=settings)
        self.settings = from_dict(Transduction, settings)
        self.centre: torch.Tensor
        self.prototypes: torch.Tensor
        self.support: torch.Tensor
        self.targets: torch.Tensor
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("prototypes", torch.zeros(classes, width))
        self.register_buffer("support", torch.zeros(supports, width))
        self.register_buffer("targets", torch.zeros(supports, classes))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return log Z [N, C] of features [N, d] that are labelled together."""
        queries, settings = transformed(features, self.settings.transform, self.centre), self.settings
        graph = graph_of(queries, self.support, settings) if settings.smoothness else None
        drawn: torch.Tensor | float = 0.0
        if graph is not None and len(self.support):
            drawn = graph.towards @ self.targets
        sharpness, smoothness = torch.tensor(settings.sharpness), torch.tensor(settings.smoothness)
        found = one_round(queries, self.prototypes, settings, sharpness, smoothness, graph, drawn)
        return found.assignments.clamp(min=LEAST).log()


def joint_head(
    prototypes: torch.Tensor,
    centre: torch.Tensor,
    support: torch.Tensor,
    targets: torch.Tensor,
    settings: Transduction,
) -> JointHead:
    """Return the head of prototypes [C, d].

    Args:
        prototypes: of transformed features.
        centre: [d], taken off the features.
        support: labelled items [s, d], transformed; kept where the settings want them in graphs.
        targets: [s, C], their classes, 0 or 1.
        settings: with which batches are labelled.
    """
    kept = len(support) if settings.support_edges else 0
    head = JointHead(
        width=prototypes.shape[1], classes=len(prototypes), supports=kept, settings=asdict(settings)
    )
    head.centre, head.prototypes = centre.clone(), prototypes.clone()
    head.support, head.targets = support[:kept].clone(), targets[:kept].clone()
    return head
