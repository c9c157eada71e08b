"""Training on labels some of which are wrong: look, detect, correct and weigh once an epoch, then train on.

Albert et al. 2024, arXiv 2407.05528. What is known of each item lies in a memory by its place in the data,
which checkpoints hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError
from selfstudy.core.run import Run
from selfstudy.data.viewed import Viewed
from selfstudy.learning.noisy_step import Key, NoisyStep, NoisyTraining
from selfstudy.learning.sample_memory import DetectionRule, SampleMemory
from selfstudy.models.encoders.staged import Looked, StagedNetwork

NAMED = 200  # items of a batch that an error names


def epoch_batch(key: Key, epoch: int, place: int, count: int, batch: int) -> np.ndarray:
    """Return the items [batch] of a step, none twice; an epoch has all of them, in its last batch some again.

    Args:
        key: names the stream of the epoch's order.
        epoch: from 0.
        place: of the step within the epoch.
        count: items in all.
        batch: at most as many.
    """
    order = np.random.Generator(np.random.Philox(key=key("order", epoch))).permutation(count)
    return order[np.arange(place * batch, (place + 1) * batch) % count]


def train_on_noisy_labels(
    run: Run,
    networks: Sequence[StagedNetwork],
    inputs: Viewed,
    labels: np.ndarray,
    names: Sequence[str],
    settings: NoisyTraining,
    rule: DetectionRule,
    *,
    validate: Callable[[], dict[str, float]] = dict,
    flops: float = 0.0,
    desc: str = "noisy",
) -> SampleMemory:
    """Train networks in place, and return what was found out about each label.

    Of several networks each is trained for an epoch in its turn; they guess together, and a label is wrong
    where all of them take it to be.

    Args:
        run: within a stage of its own.
        networks: one, or several that teach each other.
        inputs: N of them.
        labels: [N], given, from 0.
        names: [N], what items are called, for errors.
        settings: how long and how.
        rule: how wrong labels are detected.
        validate: gives figures for the log, once an epoch.
        flops: of one step, for the budget.
        desc: names the loop and its random streams.

    Raises:
        DataError: a loss that is not finite.
    """
    count, batch, each = inputs.count, settings.batch_of(inputs.count), settings.steps_an_epoch(inputs.count)
    memory = SampleMemory(labels, networks[0].classes, len(networks))
    optimizers = [settings.optimizer_of(network) for network in networks]
    key = partial(run.key, desc)
    learners = [NoisyStep(networks, which, inputs, memory, settings, key) for which in range(len(networks))]
    total = settings.epochs * len(networks) * each

    def look(epoch: int) -> list[Looked]:
        looks = [network.looked(inputs.plain, count) for network in networks] if rule.detectors else []
        detected = memory.detect(looks, epoch, rule) if looks and epoch >= settings.warmup_epochs else {}
        _log_epoch(run, epoch, {**validate(), **detected})
        return looks

    state = _state(networks, optimizers, memory)
    for step in run.steps(total, state=state, desc=desc, cost={"samples": batch, "flops": flops}):
        turn, place = divmod(step, each)
        epoch, which = divmod(turn, len(networks))
        if epoch and not place and not which:
            look(epoch)
        at = epoch_batch(key, turn, place, count, batch)
        # The last pass of the warm-up guesses already, so that guesses can be weighed after it.
        guessing = bool(rule.detectors) and epoch >= settings.warmup_epochs - 1
        loss = learners[which].loss(step, at, warm=epoch < settings.warmup_epochs, guessing=guessing)
        _require_finite(loss, step, [names[i] for i in at[:NAMED]], settings)
        loss.backward()
        update(optimizers[which], settings.rate(step, total))
        run.log(step=step, loss=loss.item())
        memory.steps = step + 1
    for network in networks:
        network.eval()
    looks = look(memory.steps // (len(networks) * each))
    if looks:
        memory.judge(looks, rule)
    return memory


def _log_epoch(run: Run, epoch: int, facts: dict[str, Any]) -> None:
    if facts:
        run.log(epoch=epoch, **facts)


def _state(
    networks: Sequence[StagedNetwork], optimizers: Sequence[torch.optim.Optimizer], memory: SampleMemory
) -> dict[str, Stateful]:
    state: dict[str, Stateful] = {"memory": memory}
    for place, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
        state |= {f"network-{place}": network, f"optimizer-{place}": optimizer}
    return state


def update(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Take one step at a learning rate, and clear the gradients."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _require_finite(loss: torch.Tensor, step: int, names: Sequence[str], settings: NoisyTraining) -> None:
    if not torch.isfinite(loss):
        raise DataError(
            f"The loss is {loss.item()} at step {step}, on a batch with the items {', '.join(names)}. Lower "
            f"training.learning_rate ({settings.learning_rate:g}), and look at these items."
        )
