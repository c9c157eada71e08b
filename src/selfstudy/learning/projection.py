"""Features as a linear learner likes them: centred, in their main directions, of a common scale."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch

from selfstudy.core.errors import DataError

_log = logging.getLogger(__name__)


class Projection(NamedTuple):
    """A linear map of features."""

    mean: torch.Tensor
    """[d]."""
    directions: torch.Tensor
    """[d, e], each divided by the common scale."""

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return features [N, d] as [N, e], float64."""
        return (features.double() - self.mean) @ self.directions

    def undone(self, weights: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weights [C, d] and bias [C] that give the same scores of features as they were."""
        plain = weights @ self.directions.T
        return plain, bias - plain @ self.mean


def projection(features: torch.Tensor, components: int | None = None) -> Projection:
    """Return the map that centres features and brings their mean squared length to 1.

    Args:
        features: [N, d].
        components: main directions that are kept; None keeps the features as they are, turned by nothing.

    Raises:
        DataError: all items have the same features.
    """
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    varied = centred.square().mean(0) > (1e-12 * mean.abs()) ** 2
    if not varied.any():
        raise DataError(
            f"All {len(features)} items have the same features: there is nothing to tell them by."
        )
    if not varied.all():
        _log.warning(
            "%d of %d features are the same for all items and are left out.",
            int((~varied).sum()),
            len(varied),
        )
    directions = torch.eye(len(mean), dtype=torch.float64)[:, varied]
    if components is not None and components < directions.shape[1]:
        spread = centred[:, varied].T @ centred[:, varied]
        main = torch.linalg.eigh(spread).eigenvectors.flip(1)[:, :components]
        directions = directions @ main
    scale = (centred @ directions).square().sum(1).mean().sqrt()
    return Projection(mean, directions / scale)
