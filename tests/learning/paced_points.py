"""Points of three overlapping classes for tests of self-paced machines. Not a test itself."""

from __future__ import annotations

import torch

from selfstudy.data.image_sets import UNKNOWN
from selfstudy.learning.paced_state import Paced, SelfPaced, at_the_start

CLASSES = ("ant", "bee", "cat")


def points(count: int = 90, spread: float = 0.5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [N, 4] and classes [N], one class after the other."""
    stream = torch.Generator().manual_seed(seed)
    truth = torch.arange(count) % 3
    noise = torch.randn(count, 4, generator=stream, dtype=torch.float64)
    return 1.5 * torch.eye(3, 4, dtype=torch.float64)[truth] + spread * noise, truth


def start(truth: torch.Tensor, settings: SelfPaced, labelled: int = 9) -> Paced:
    """The state before the first round, the first items labelled."""
    given = torch.full_like(truth, UNKNOWN)
    given[:labelled] = truth[:labelled]
    return at_the_start(given, CLASSES, settings)
