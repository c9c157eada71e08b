"""Tasks made of one data set: a random projection of the inputs and a random permutation of the labels.

Kirsch et al. 2022, arXiv 2212.04458: a task (A, rho) turns an example (x, y) into (A x, rho(y)). Both are
functions of a whole number, the task's id, so that the number of tasks is a quantity one can set. They are
worked out from the id whenever they are needed: 2^16 projections of 64 x 64 would take a gigabyte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive, stream_key, uniforms

FIRST_TEST_ID = 2**30  # ids from here on are never trained on
FIRST_VALIDATION_ID = 2**29  # nor are these
MOST_TASKS = FIRST_VALIDATION_ID

_PROJECTION, _PERMUTATION, _COIN = range(3)  # the streams of an id
_HALF = np.uint64(0xFFFFFF)  # 24 bits, as many as a float32 holds


@dataclass(frozen=True, kw_only=True)
class TaskAugmenter:
    """The family of tasks over examples of `features` numbers and `classes` labels.

    Raises:
        UsageError: no tasks, or more than there are ids to train on; a bias that is no share; an identity
            that is not square.
    """

    features: int
    """m, the length of an input."""
    inputs: int
    """m', the length of a projected input."""
    classes: int
    """C; labels are 0 .. C - 1."""
    tasks: int
    """T: ids 0 .. T - 1 are trained on."""
    bias: float = 0.0
    """p: this share of the tasks keeps the labels as they are."""
    identity: bool = False
    """Whether the task 0 leaves the inputs and the labels as they are."""
    seed: int = 0
    """Names the family: another seed gives other tasks to the same ids."""

    def __post_init__(self) -> None:
        if not 1 <= self.tasks <= MOST_TASKS:
            raise UsageError(f"tasks is {self.tasks}; it must be from 1 to 2^29, the ids to train on.")
        if not 0 <= self.bias <= 1:
            raise UsageError(f"bias is {self.bias}; it is a share of the tasks, from 0 to 1.")
        if self.identity and self.inputs != self.features:
            raise UsageError(
                f"With identity, inputs must be as long as the {self.features} features, not {self.inputs}."
            )

    def __call__(
        self, ids: np.ndarray, inputs: torch.Tensor, labels: torch.Tensor, *, bias: float | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the examples as the tasks show them: A x and rho(y), one task a sequence.

        Args:
            ids: [B].
            inputs: [B, L, m], float32.
            labels: [B, L], int64.
            bias: in place of the family's.
        """
        projected = inputs @ self.projections(ids).transpose(1, 2)  # [B, L, m']
        return projected, self.permutations(ids, bias=bias).gather(1, labels)

    def projections(self, ids: np.ndarray) -> torch.Tensor:
        """Return A of each id: [B, m', m], elements drawn from N(0, 1/m), so that the mean of A A^T is 1."""
        size = self.inputs * self.features
        bits = derive(self._keys(ids, _PROJECTION)[:, None], np.arange(math.ceil(size / 2)))
        # Box and Muller 1958: two uniform numbers, here the two ends of one word, make two normal ones.
        first = torch.from_numpy(((bits >> np.uint64(40)) + np.uint64(1)).astype(np.float32))
        second = torch.from_numpy((bits & _HALF).astype(np.float32))
        radius = (first * 2.0**-24).log_().mul_(-2.0 / self.features).sqrt_()
        angle = second.mul_(2 * math.pi * 2.0**-24)
        normal = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :size]
        matrices = normal.reshape(len(ids), self.inputs, self.features)
        if self.identity:
            matrices[torch.from_numpy(np.asarray(ids) == 0)] = torch.eye(self.features)
        return matrices

    def permutations(self, ids: np.ndarray, *, bias: float | None = None) -> torch.Tensor:
        """Return rho of each id: [B, C], the new label of each label."""
        order = derive(self._keys(ids, _PERMUTATION)[:, None], np.arange(self.classes)).argsort(1)
        kept = uniforms(self._keys(ids, _COIN), 0) < (self.bias if bias is None else bias)
        if self.identity:
            kept |= np.asarray(ids) == 0
        return torch.from_numpy(np.where(kept[:, None], np.arange(self.classes), order))

    def _keys(self, ids: np.ndarray, stream: int) -> np.ndarray:
        root = np.array(stream_key("projected tasks", self.seed), dtype=np.uint64)
        return derive(derive(root, np.asarray(ids)), stream)
