"""What training algorithms compete on and how: workloads, submissions, and what passes between them.

The roles and the five functions are those of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179): a workload fixes
data, network, loss, metric and target; a submission decides the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.run import Run
from selfstudy.learning.loops import batch_indices
from selfstudy.search.quasi_random import Space, Value

Settings = dict[str, Value]
Better = Literal["lower", "higher"]


class Batch(NamedTuple):
    """Examples of one step.

    Attributes:
        inputs: [B, ...].
        targets: [B, ...], classes.
    """

    inputs: torch.Tensor
    targets: torch.Tensor


class Progress(NamedTuple):
    """What a submission may know of its trial at a step.

    Attributes:
        step: from 0.
        step_hint: steps after which the workload thinks that training may end.
        spent: share of the longest runtime that has passed.
        looks: the evaluations so far, as they are logged.
        key: of this step's random stream.
    """

    step: int
    step_hint: int
    spent: float
    looks: list[dict[str, Any]]
    key: int


class Workload(Protocol):
    """A problem with a target; fixed code, which no submission may change.

    Attributes:
        name: of the workload; a submission may read it in `get_batch_size` alone.
        batch: examples of a standard step.
        step_hint: standard steps that training may take.
        better: whether the metric is to be "lower" or "higher".
        target: of the validation metric.
    """

    @property
    def name(self) -> str:
        """Of the workload."""

    @property
    def batch(self) -> int:
        """Examples of a standard step."""

    @property
    def step_hint(self) -> int:
        """Standard steps that training may take."""

    @property
    def better(self) -> Better:
        """Where the metric is to go."""

    @property
    def target(self) -> float:
        """Of the validation metric."""

    def first_model(self, key: int) -> nn.Module:
        """Return the network before training; `key` names its first weights."""

    def examples(self, run: Run, stream: str, place: int, size: int) -> Batch:
        """Return the batch at a place, from 0, of the endless shuffled stream of training examples."""

    def losses(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the loss of each example of a batch: [B]."""

    def evaluate(self, model: nn.Module, split: Literal["validation", "test"]) -> float | None:
        """Return the metric; None where a split may not be looked at."""

    def step_cost(self, size: int) -> dict[str, float]:
        """Return what a step on so many examples spends, by budget unit."""


class InputQueue(Protocol):
    """Where `data_selection` takes batches from."""

    def next(self) -> Batch:
        """Return the next batch."""


class Submission(Protocol):
    """A training algorithm.

    Attributes:
        name: unique in a field.
        space: what is tuned from outside, the same for all workloads; empty where nothing is.
        fixed: settings that it has where nothing is tuned.
    """

    @property
    def name(self) -> str:
        """Of the submission."""

    @property
    def space(self) -> Space:
        """Of what is tuned."""

    @property
    def fixed(self) -> Settings:
        """Settings without tuning."""

    def get_batch_size(self, workload_name: str, standard: int) -> int:
        """Return the examples of a step; `standard` is the workload's."""

    def init_optimizer_state(self, workload: Workload, model: nn.Module, settings: Settings) -> Stateful:
        """Return whatever the algorithm remembers from step to step, which is checkpointed."""

    def data_selection(self, queue: InputQueue, state: Any, progress: Progress) -> Batch:
        """Return the batch of a step."""

    def update_params(
        self,
        workload: Workload,
        model: nn.Module,
        batch: Batch,
        settings: Settings,
        state: Any,
        progress: Progress,
    ) -> None:
        """Change `model` and `state` in place: one step."""

    def prepare_for_eval(
        self, workload: Workload, model: nn.Module, settings: Settings, state: Any
    ) -> nn.Module:
        """Return the network to be evaluated: `model`, or one with averaged weights for instance."""


def called(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return what a network gives for inputs."""
    return model(inputs)


@dataclass(frozen=True, kw_only=True)
class TensorWorkload:
    """A workload whose examples are in memory, classified by a network and judged by a function.

    Attributes:
        name: of the workload.
        inputs: [N, ...], that are trained on.
        targets: [N, ...], their classes.
        network: from a key to the untrained network.
        scores: from a network and inputs [B, ...] to scores [B, ..., classes]; unless told, it is called.
        measure: from a network and a split to the metric, None where there is none.
        better: whether the metric is to be "lower" or "higher".
        target: of the validation metric.
        batch: examples of a standard step; all, where there are fewer.
        step_hint: standard steps that training may take.
        operations: floating-point operations of training on one example, for the budget.
    """

    name: str
    inputs: torch.Tensor
    targets: torch.Tensor
    network: Callable[[int], nn.Module]
    scores: Callable[[nn.Module, torch.Tensor], torch.Tensor] = called
    measure: Callable[[nn.Module, str], float | None]
    better: Better = "lower"
    target: float
    batch: int = 64
    step_hint: int
    operations: float = 0.0

    def first_model(self, key: int) -> nn.Module:
        """Return the untrained network."""
        return self.network(key)

    def examples(self, run: Run, stream: str, place: int, size: int) -> Batch:
        """Return a slice of shuffled passes over the examples."""
        size = min(size, len(self.inputs))
        at = torch.from_numpy(batch_indices(run, stream, place, len(self.inputs), size))
        return Batch(self.inputs[at], self.targets[at])

    def losses(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> torch.Tensor:
        """Return the cross-entropy of each example, over positions where it has some: [B]."""
        scores = self.scores(model, batch.inputs)
        losses = functional.cross_entropy(
            scores.flatten(0, -2), batch.targets.flatten(), label_smoothing=label_smoothing, reduction="none"
        )
        return losses.view(len(batch.targets), -1).mean(1)

    def evaluate(self, model: nn.Module, split: Literal["validation", "test"]) -> float | None:
        """Return the metric."""
        return self.measure(model, split)

    def step_cost(self, size: int) -> dict[str, float]:
        """Return samples, and operations where they are known."""
        size = min(size, len(self.inputs))
        spent: dict[str, float] = {"samples": size}
        return {**spent, "flops": self.operations * size} if self.operations else spent
