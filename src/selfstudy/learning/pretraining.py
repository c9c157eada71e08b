"""The loop of pre-training without labels: batches, views, a loss, one step, and a watch for collapse."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.collapse_watch import COLLAPSED, CollapseWatch
from selfstudy.learning.loops import check_positive
from selfstudy.learning.optimizers import OptimizerName, named_optimizer
from selfstudy.learning.schedules import cosine

Losses = dict[str, torch.Tensor]
SCALED = 256  # the batch that a learning rate is for, where it is proportional to the batch


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How long, in what batches and with what optimiser an encoder is pre-trained."""

    epochs: float = 20
    """Passes over the unlabelled inputs."""
    batch: int = 256
    """Inputs a step; the last incomplete batch of a pass is left out."""
    optimizer: OptimizerName = "adam"
    """Of the update; "sgd" (Nesterov's), "heavy-ball" and "lars" have momentum 0.9."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    learning_rate: float = 2e-3
    """Its peak."""
    batch_scaling: bool = False
    """Whether the learning rate is that of batches of 256 and grows in proportion to the batch."""
    vector_rate: float = 1.0
    """Share of the learning rate that biases and normalisation get (Barlow Twins with LARS: 0.024)."""
    weight_decay: float = 1e-6
    """Of all weights but biases and normalisation."""
    warmup_epochs: float = 0.0
    """Passes over which the learning rate rises from 0."""
    last_rate: float = 0.001
    """Share of the learning rate at the end of its cosine."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 is any."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """In which networks compute; losses are always in float32."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, epochs=0, batch=1, learning_rate=0)
        shares = 0 <= self.last_rate <= 1 and 0 <= self.vector_rate <= 1
        if not (0 <= self.warmup_epochs < self.epochs and shares and min(self.weight_decay, self.clip) >= 0):
            raise UsageError(
                f"Pretraining has warmup_epochs {self.warmup_epochs}, last_rate {self.last_rate}, "
                f"vector_rate {self.vector_rate}, weight_decay {self.weight_decay} and clip {self.clip}: the "
                f"first must be from 0 to below epochs ({self.epochs:g}), the two rates from 0 to 1, the "
                "others at least 0."
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
        peak = self.learning_rate * (self.batch / SCALED if self.batch_scaling else 1)
        rising, steps = self.warmup_epochs * (samples // self.batch), self.steps(samples)
        if step < rising:
            return peak * step / rising
        share = (step - rising) / (steps - rising)
        return peak * (self.last_rate + (1 - self.last_rate) * cosine(share))

    def optimizer_of(self, modules: Iterable[nn.Module]) -> torch.optim.Optimizer:
        """Return the optimiser of all weights of `modules`; vectors (biases, scales) are not decayed."""
        weights = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
        matrices = [weight for weight in weights if weight.ndim > 1]
        vectors = [weight for weight in weights if weight.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay, "rate_share": 1.0},
            {"params": vectors, "weight_decay": 0.0, "rate_share": self.vector_rate},
        ]
        groups = [group for group in groups if group["params"]]
        return named_optimizer(self.optimizer, groups, self.betas)


def epoch_indices(run: Run, name: str, step: int, samples: int, batch: int) -> np.ndarray:
    """Return the inputs of a step: [batch], none twice; each pass has an order of its own.

    A function of the run's seed, `name` and `step` alone. What does not fill a batch is left out of a pass.
    """
    epoch, place = divmod(step, samples // batch)
    return _order(run.key(name, "order", epoch), samples)[place * batch : (place + 1) * batch]


@functools.lru_cache(maxsize=1)
def _order(key: int, samples: int) -> np.ndarray:
    """Return the order of a pass; kept, since that of a million inputs takes as long as a small step."""
    return np.random.Generator(np.random.Philox(key=key)).permutation(samples)


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
    collapsed: float = COLLAPSED,
    desc: str = "pretrain",
) -> dict[str, Any]:
    """Train `modules` in place on `losses(step, indices)["loss"]`; its other entries are logged beside it.

    Once a pass the features of `watched()` are measured. Where their spread has fallen below a share of what
    it was at the start, they have collapsed: training stops, the weights of the last healthy pass come back,
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
        collapsed: that share.
        desc: names the loop.

    Returns:
        "steps" done, and "collapsed_at": the step, or None.
    """
    optimizer = settings.optimizer_of(modules.values())
    watch = CollapseWatch(modules, collapsed)
    steps = settings.steps(samples)
    every = min(max(1, samples // settings.batch), steps)
    cost = {"samples": settings.batch, "flops": flops}
    everything: dict[str, Stateful] = {**modules, "optimizer": optimizer, "watch": watch, **(state or {})}
    for step in run.steps(steps, state=everything, desc=desc, cost=cost):
        if step % every == 0 and watch.collapsed(watched(), step):
            break
        at = epoch_indices(run, desc, step, samples, settings.batch)
        found = _step(modules, optimizer, partial(losses, step, at), settings, settings.rate(step, samples))
        after_step(step)
        run.log(step=step, **{name: value.item() for name, value in found.items()})
        watch.done = step + 1
    for module in modules.values():
        module.eval()
    if watch.collapsed_at is None and watch.done:
        watch.collapsed(watched(), watch.done)
    if watch.collapsed_at is not None:
        run.log(step=watch.done, collapsed_at=watch.collapsed_at)
    return {"steps": watch.done, "collapsed_at": watch.collapsed_at}


def trial(
    modules: dict[str, nn.Module],
    losses: Callable[[int, np.ndarray], Losses],
    *,
    samples: int,
    settings: Pretraining,
) -> tuple[Callable[[], object], int]:
    """Return one step of `pretrain` that can be timed, and how many it takes; `modules` are changed by it."""
    optimizer, at = settings.optimizer_of(modules.values()), np.arange(settings.batch)
    rate = settings.learning_rate
    return lambda: _step(modules, optimizer, partial(losses, 0, at), settings, rate), settings.steps(samples)


def figures(run: Run, stage: str) -> dict[str, Any]:
    """Return what the log says of a finished stage of `pretrain`: its last losses, and where it collapsed."""
    found: dict[str, Any] = {}
    for line in run.metrics():
        if line["stage"] == stage:
            found |= {name: value for name, value in line.items() if name not in ("stage", "seconds")}
    if "step" in found:
        found = {"steps": found.pop("step") + 1, **found}
    return found


def _step(
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    losses: Callable[[], Losses],
    settings: Pretraining,
    rate: float,
) -> Losses:
    """Move the weights once; return what `losses` gave."""
    for module in modules.values():
        module.train()
    device = next(weight for module in modules.values() for weight in module.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        found = losses()
    if not torch.isfinite(found["loss"]):
        raise DataError(
            f"The loss is {found['loss'].item()}. Lower --pretraining.learning-rate "
            f"({settings.learning_rate:g}), and look at the inputs."
        )
    found["loss"].backward()
    if settings.clip:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, settings.clip)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_share"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return found
