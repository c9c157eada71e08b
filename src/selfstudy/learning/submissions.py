"""Training algorithms that compete: the standard optimisers, each with a search space and fixed settings.

The baselines of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179): a rate that rises along a line and falls along
a cosine to 0, and an optimiser whose rate, momentum, weight decay, warm-up and label smoothing are tuned from
outside. The ranges have the authors' shape; those of rates are ours, for small networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.functions import user_function
from selfstudy.learning.optimizers import OptimizerName, decayed_groups, named_optimizer
from selfstudy.learning.schedules import share_of_peak
from selfstudy.learning.workloads import Batch, InputQueue, Progress, Settings, Submission, Workload
from selfstudy.search.quasi_random import Choice, LogUniform, Space

PARTS = (
    "name",
    "space",
    "fixed",
    "get_batch_size",
    "init_optimizer_state",
    "data_selection",
    "update_params",
    "prepare_for_eval",
)
FREE: Space = {
    "momentum_gap": LogUniform(5e-3, 0.3),
    "warmup": Choice((0.02, 0.05, 0.1)),
    "label_smoothing": Choice((0.0, 0.1, 0.2)),
}


def _space(rate: tuple[float, float], decay: tuple[float, float]) -> Space:
    return {"learning_rate": LogUniform(*rate), "weight_decay": LogUniform(*decay), **FREE}


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One optimiser under a warm-up and a cosine.

    Attributes:
        name: in a field.
        optimizer: by its name.
        fixed: the settings of what is not tuned; "learning_rate", "weight_decay", "momentum_gap" (1 less the
            momentum, or the first beta), "warmup" (share of the step hint), "label_smoothing".
        space: of what is tuned.
    """

    name: str
    optimizer: OptimizerName
    fixed: Settings
    space: Space = field(default_factory=dict)

    def get_batch_size(self, workload_name: str, standard: int) -> int:
        """Return the workload's."""
        return standard

    def init_optimizer_state(
        self, workload: Workload, model: nn.Module, settings: Settings
    ) -> torch.optim.Optimizer:
        """Return the optimiser."""
        said: dict[str, Any] = {**self.fixed, **settings}
        optimizer = named_optimizer(self.optimizer, decayed_groups(model, said["weight_decay"]))
        for group in optimizer.param_groups:
            if "momentum" in group:
                group["momentum"] = 1 - said["momentum_gap"]
            else:
                group["betas"] = (1 - said["momentum_gap"], group["betas"][1])
        return optimizer

    def data_selection(self, queue: InputQueue, state: Any, progress: Progress) -> Batch:
        """Return the next batch."""
        return queue.next()

    def update_params(
        self,
        workload: Workload,
        model: nn.Module,
        batch: Batch,
        settings: Settings,
        state: torch.optim.Optimizer,
        progress: Progress,
    ) -> None:
        """Take one step of the optimiser."""
        said: dict[str, Any] = {**self.fixed, **settings}
        step = min(progress.step, progress.step_hint - 1)
        rate = said["learning_rate"] * share_of_peak("cosine", step, progress.step_hint, said["warmup"])
        for group in state.param_groups:
            group["lr"] = rate
        workload.losses(model, batch, label_smoothing=said["label_smoothing"]).mean().backward()
        state.step()
        state.zero_grad(set_to_none=True)

    def prepare_for_eval(
        self, workload: Workload, model: nn.Module, settings: Settings, state: Any
    ) -> nn.Module:
        """Return the network as it is."""
        return model


def _baseline(name: str, optimizer: OptimizerName, rate: float, gap: float, decay: float) -> Baseline:
    """Return a baseline whose rates span a factor of 100 around its fixed one, decays 1000."""
    settings: Settings = {
        "learning_rate": rate,
        "weight_decay": decay,
        "momentum_gap": gap,
        "warmup": 0.05,
        "label_smoothing": 0.0,
    }
    # Decoupled decay is multiplied by the rate, and is the larger the smaller the rates are.
    space = _space((rate / 10, rate * 10), (decay / 30, decay * 30))
    return Baseline(name=name, optimizer=optimizer, fixed=settings, space=space)


SUBMISSIONS: dict[str, Baseline] = {
    made.name: made
    for made in (
        _baseline("heavy-ball", "heavy-ball", 0.1, 0.1, 5e-4),
        _baseline("nesterov", "sgd", 0.1, 0.1, 5e-4),
        _baseline("adamw", "adamw", 5e-3, 0.1, 1e-2),
        _baseline("nadamw", "nadamw", 5e-3, 0.1, 1e-2),
        _baseline("lion", "lion", 1e-3, 0.1, 1e-1),
    )
}
STANDARD = ("adamw", "nadamw", "nesterov", "heavy-ball")  # that targets are set by


def submissions_by_name(names: Sequence[str]) -> list[Submission]:
    """Return submissions of `SUBMISSIONS`, or what the user's own functions return.

    Args:
        names: of `SUBMISSIONS`, or "module:function".

    Raises:
        UsageError: none, an unknown name, one name twice, or a function that returns no submission.
    """
    found: list[Submission] = []
    for name in names:
        if ":" in name:
            made = user_function(name, "submission")()
            missing = [part for part in PARTS if not hasattr(made, part)]
            if missing:
                raise UsageError(
                    f"The function {name!r} returned a {type(made).__name__} without {', '.join(missing)}. A "
                    f"submission has {', '.join(PARTS)}; see selfstudy.learning.workloads.Submission."
                )
            found.append(made)
        elif name in SUBMISSIONS:
            found.append(SUBMISSIONS[name])
        else:
            raise UsageError(f"There is no {name!r} among the submissions. {nearest(name, SUBMISSIONS)}")
    require_unique([one.name for one in found])
    return found


def require_unique(names: Sequence[str]) -> None:
    """Raise a UsageError for a field without submissions, or with two of one name."""
    if not names:
        raise UsageError("A field needs at least one submission.")
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise UsageError(
            f"{double[0]!r} is there twice among the submissions: scores go by name, so each needs its own."
        )
