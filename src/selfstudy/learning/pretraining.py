"""The loop of pre-training without labels: batches, views, a loss, one step, and a watch for collapse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.loops import check_positive
from selfstudy.learning.optimizers import Lars

Losses = dict[str, torch.Tensor]
COLLAPSED = 0.01  # of the spread of features at the start; below it they have collapsed


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How long, in what batches and with what optimiser an encoder is pre-trained."""

    epochs: float = 20
    """Passes over the unlabelled inputs."""
    batch: int = 256
    """Inputs a step; the last incomplete batch of a pass is left out."""
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = "adam"
    """Of the update; "sgd" and "lars" have momentum 0.9."""
    learning_rate: float = 2e-3
    """Its peak."""
    weight_decay: float = 1e-6
    """Of all weights but biases and normalisation."""
    warmup_epochs: float = 0.0
    """Passes over which the learning rate rises from 0."""
    last_rate: float = 0.001
    """Share of the learning rate at the end of its cosine."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """In which networks compute; losses are always in float32."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, epochs=0, batch=1, learning_rate=0)
        if not (
            0 <= self.warmup_epochs < self.epochs and 0 <= self.last_rate <= 1 and self.weight_decay >= 0
        ):
            raise UsageError(
                f"Pretraining has warmup_epochs {self.warmup_epochs}, last_rate {self.last_rate} and "
                f"weight_decay {self.weight_decay}: they must be from 0 to below epochs ({self.epochs:g}), "
                "from 0 to 1, and at least 0."
            )

    def steps(self, samples: int) -> int:
        """Return the number of steps over `samples` inputs.

        Raises:
            DataError: they do not fill one batch.
        """
        if samples < self.batch:
            raise DataError(
                f"There are {samples} unlabelled inputs, fewer than one batch of {self.batch}. Give more, or "
                f"a smaller --pretraining.batch."
            )
        return max(1, round(self.epochs * (samples // self.batch)))

    def rate(self, step: int, samples: int) -> float:
        """Return the learning rate of a step: linear warm-up from 0, then a cosine down to `last_rate`.

        >>> plan = Pretraining(epochs=4, batch=10, learning_rate=1.0, warmup_epochs=2, last_rate=0.0)
        >>> [round(plan.rate(step, 20), 2) for step in range(8)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 0.85, 0.5, 0.15]
        """
        rising, steps = self.warmup_epochs * (samples // self.batch), self.steps(samples)
        if step < rising:
            return self.learning_rate * step / rising
        share = (step - rising) / (steps - rising)
        cosine = (1 + math.cos(math.pi * share)) / 2
        return self.learning_rate * (self.last_rate + (1 - self.last_rate) * cosine)

    def optimizer_of(self, modules: Iterable[nn.Module]) -> torch.optim.Optimizer:
        """Return the optimiser of all weights of `modules`; vectors (biases, scales) are not decayed."""
        weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        match self.optimizer:
            case "adam":
                return torch.optim.Adam(groups, lr=0.0, fused=True)
            case "adamw":
                return torch.optim.AdamW(groups, lr=0.0, fused=True)
            case "sgd":
                return torch.optim.SGD(groups, lr=0.0, momentum=0.9)
            case "lars":
                return Lars(groups, lr=0.0)


def epoch_indices(run: Run, name: str, step: int, samples: int, batch: int) -> np.ndarray:
    """Return the inputs of a step: [batch], none twice; each pass has an order of its own.

    A function of the run's seed, `name` and `step` alone. What does not fill a batch is left out of a pass.
    """
    epoch, place = divmod(step, samples // batch)
    order = run.rng(name, "order", epoch).permutation(samples)
    return order[place * batch : (place + 1) * batch]


def pretrain(
    run: Run,
    modules: dict[str, nn.Module],
    losses: Callable[[int, np.ndarray], Losses],
    *,
    samples: int,
    settings: Pretraining,
    watched: Callable[[], torch.Tensor],
    state: dict[str, Stateful] | None = None,
    after_step: Callable[[int], None] = lambda step: None,
    flops: float = 0.0,
    desc: str = "pretrain",
) -> dict[str, Any]:
    """Train `modules` in place on `losses(step, indices)["loss"]`; its other entries are logged beside it.

    Once a pass the features of `watched()` are measured. Where their spread has fallen below 1 % of what it
    was at the start, they have collapsed: training stops, the weights of the last healthy pass come back,
    and the finding is returned.

    Args:
        run: within a stage of its own.
        modules: all that is trained, by name.
        losses: of a step and the places of its inputs; tensors without dimension.
        samples: unlabelled inputs.
        settings: how long and how.
        watched: features [N, d] of inputs that stay the same, without gradient.
        state: what else changes from step to step.
        after_step: called with the step after the weights have moved, for what follows them.
        flops: of one step, for the budget.
        desc: names the loop.

    Returns:
        "steps" done, and "collapsed_at": the step, or None.
    """
    optimizer = settings.optimizer_of(modules.values())
    watch = CollapseWatch(modules)
    steps = settings.steps(samples)
    every = min(max(1, samples // settings.batch), steps)
    cost = {"samples": settings.batch, "flops": flops}
    done = 0
    everything: dict[str, Stateful] = {**modules, "optimizer": optimizer, "watch": watch, **(state or {})}
    for step in run.steps(steps, state=everything, desc=desc, cost=cost):
        if step % every == 0 and watch.collapsed(watched(), step):
            break
        at = epoch_indices(run, desc, step, samples, settings.batch)
        for module in modules.values():
            module.train()
        enabled = settings.precision == "bf16"
        with torch.autocast("cpu" if not _on_gpu(modules) else "cuda", torch.bfloat16, enabled=enabled):
            found = losses(step, at)
        if not torch.isfinite(found["loss"]):
            raise DataError(
                f"The loss is {float(found['loss'])} at step {step}. Lower the learning rate "
                f"({settings.learning_rate:g}), and look at the inputs."
            )
        found["loss"].backward()
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step, samples) * group.get("rate_share", 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        after_step(step)
        run.log(step=step, **{name: value.item() for name, value in found.items()})
        done = step + 1
    for module in modules.values():
        module.eval()
    if watch.collapsed_at is None and done:
        watch.collapsed(watched(), done)
    return {"steps": done, "collapsed_at": watch.collapsed_at}


class CollapseWatch:
    """Tells when features stop telling inputs apart, and keeps the weights from before.

    The spread is the mean over features of their standard deviation over inputs.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self._modules = modules
        self._first = 0.0
        self._kept: dict[str, dict[str, torch.Tensor]] = {}
        self.collapsed_at: int | None = None

    def collapsed(self, features: torch.Tensor, step: int) -> bool:
        """Look at features [N, d]; where they have collapsed, bring the kept weights back and return True."""
        spread = float(features.float().std(0).mean())
        self._first = self._first or spread
        if math.isfinite(spread) and spread > COLLAPSED * self._first:
            self._kept = {
                name: {key: value.detach().clone() for key, value in module.state_dict().items()}
                for name, module in self._modules.items()
            }
            return False
        if not self._kept:
            raise DataError(
                "The features of the untrained encoder are all alike: the inputs are constant, or the same."
            )
        for name, module in self._modules.items():
            module.load_state_dict(self._kept[name])
        self.collapsed_at = step
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the kept weights and what was found."""
        return {"first": self._first, "kept": self._kept, "collapsed_at": self.collapsed_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._first, self._kept = state_dict["first"], state_dict["kept"]
        self.collapsed_at = state_dict["collapsed_at"]


def _on_gpu(modules: dict[str, nn.Module]) -> bool:
    return any(weight.is_cuda for module in modules.values() for weight in module.parameters())
