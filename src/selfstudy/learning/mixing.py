"""Mixed samples beside redundancy reduction: the embedding of a mixture should be the mixture of embeddings.

Bandara, De Melo, Patel 2023, "Guarding Barlow Twins Against Overfitting with Mixed Samples",
arXiv 2312.02151. In all functions u, v and w [B, D] are embeddings of the first view, of the second and of
their mixture, each with its columns standardised over the batch.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.redundancy import correlation_of

SecondTarget = Literal["uv", "vv"]
LEAST_BATCH = 4  # of fewer, a permutation often leaves every sample where it is


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How mixed samples enter the loss."""

    weight: float = 4.0
    """s of the regulariser, in units of lambda; 0 is plain Barlow Twins, without a third pass."""
    form: Literal["small-images", "imagenet"] = "small-images"
    """Factor of the regulariser: s lambda, or s lambda / 2 as the authors' ImageNet code has it."""
    ramp_epochs: float = 0.0
    """Passes over which the weight rises from 0 (the authors' ImageNet code: 10)."""
    target_b: SecondTarget = "uv"
    """Second target: with alpha u'v (the formula, the small-image code) or alpha v'v (the ImageNet code)."""
    row_normalise: bool = True
    """Bring embeddings to length 1 before columns are standardised (small-image code: yes; ImageNet: no)."""
    beta: tuple[float, float] = (1.0, 1.0)
    """Of the distribution that a batch's share alpha of the first view is drawn from; 1,1 is uniform."""

    def validate(self) -> None:
        """Raise a UsageError for a weight or a ramp below 0, or a distribution that is none."""
        if not (0 <= self.weight < float("inf") and 0 <= self.ramp_epochs < float("inf")):
            raise UsageError(
                f"Mixing has weight {self.weight} and ramp_epochs {self.ramp_epochs}: both must be numbers "
                "of at least 0."
            )
        if len(self.beta) != 2 or not all(0 < number < float("inf") for number in self.beta):
            raise UsageError(f"Mixing.beta is {self.beta}; give two numbers above 0, such as 1,1.")

    def weight_at(self, step: int, epoch: int) -> float:
        """Return the regulariser's weight in units of lambda at a step, with `epoch` steps in a pass.

        >>> Mixing(weight=2.0, form="imagenet", ramp_epochs=2).weight_at(step=5, epoch=5)
        0.5
        """
        ramp = self.ramp_epochs * epoch
        risen = min(1.0, step / ramp) if ramp else 1.0
        return risen * self.weight / (2 if self.form == "imagenet" else 1)

    def draw(self, rng: np.random.Generator, batch: int) -> tuple[float, torch.Tensor]:
        """Return a batch's share alpha of the first view, and a permutation [B] of its samples."""
        return float(rng.beta(*self.beta)), torch.from_numpy(rng.permutation(batch))


def mix_batch(
    first: torch.Tensor, second: torch.Tensor, alpha: float, permutation: torch.Tensor
) -> torch.Tensor:
    """Return alpha `first` + (1 - alpha) `second`[permutation]: each sample with the other view of another.

    Serves inputs and embeddings alike. An affine normalisation of inputs may come before or after.

    Args:
        first: of the first view, [B, ...].
        second: of the second view, [B, ...].
        alpha: one share for the whole batch, 0 to 1.
        permutation: [B].

    Raises:
        DataError: inputs that cannot be interpolated, such as ids of tokens.
    """
    if not (first.is_floating_point() and second.is_floating_point()):
        if {first.dtype, second.dtype} - {torch.uint8, torch.float32, torch.float64}:
            raise DataError(
                f"Mixing needs continuous inputs, and these are {first.dtype}: mix embeddings instead, or "
                "switch mixing off with --mix.weight 0."
            )
        warnings.warn("Images of whole numbers are cast to float to be mixed.", stacklevel=2)
        first, second = first.float(), second.float()
    return alpha * first + (1 - alpha) * second[permutation]


def mixed_targets(
    u: torch.Tensor,
    v: torch.Tensor,
    alpha: float,
    permutation: torch.Tensor,
    *,
    target_b: SecondTarget = "uv",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the correlations w'u / B and w'v / B would be, were the encoder linear: G_A, G_B [D, D].

    G_A = [alpha u'u + (1 - alpha) v[permutation]'u] / B and, with "uv",
    G_B = [alpha u'v + (1 - alpha) v[permutation]'v] / B; "vv" has alpha v'v there.
    """
    in_a = mix_batch(u, v, alpha, permutation)
    in_b = in_a if target_b == "uv" else mix_batch(v, v, alpha, permutation)
    return correlation_of(in_a, u), correlation_of(in_b, v)


def mixed_regulariser(
    u: torch.Tensor,
    v: torch.Tensor,
    w: torch.Tensor,
    alpha: float,
    permutation: torch.Tensor,
    *,
    target_b: SecondTarget = "uv",
) -> torch.Tensor:
    """Return |w'u / B - G_A|^2 + |w'v / B - G_B|^2, sums over all D^2 entries; see `mixed_targets`.

    Computed as |(w - m)'u / B|^2 and likewise with v, m being the mixture of embeddings: the same number from
    two products of matrices in place of six. Gradients flow through the targets too. It is above 0 also for
    a perfectly linear encoder, since w is standardised after mixing and m is not.
    """
    off_a = w - mix_batch(u, v, alpha, permutation)
    off_b = off_a if target_b == "uv" else w - mix_batch(v, v, alpha, permutation)
    return correlation_of(off_a, u).square().sum() + correlation_of(off_b, v).square().sum()
