"""Pre-training on texts that arrive one domain after another: plateau, branch, annealing, next domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.against_forgetting import (
    Guard,
    Importance,
    feature_guard,
    importance_guard,
    memory_importance,
)
from selfstudy.learning.loops import Trainable, seeded, update
from selfstudy.learning.optimizers import decayed_groups, named_optimizer
from selfstudy.learning.snapshots import Snapshot
from selfstudy.learning.stream_batches import ContinualTraining, Windows, windows_of
from selfstudy.learning.stream_schedules import Place, StreamSchedule
from selfstudy.models.language.model import LanguageModel

IMPORTANCE_BATCHES = 8  # of a domain that was read, for MAS
FORWARD_SHARE = 1 / 3  # of a training step's cost, which a second forward pass adds


@dataclass(frozen=True)
class Trained:
    """What a stream made of a model."""

    model: LanguageModel
    """As it was evaluated after the last domain: annealed, where the schedule anneals."""
    losses: list[list[float]]
    """L[i][j]: the loss on domain j after domain i."""
    learnt: list[LanguageModel]
    """The model of each domain, as it was evaluated."""


def continual_pretrain(
    run: Run,
    model: LanguageModel,
    domains: Sequence[np.ndarray],
    losses: Callable[[LanguageModel], list[float]],
    schedule: StreamSchedule,
    settings: ContinualTraining,
    *,
    start: Snapshot | None = None,
) -> Trained:
    """Train on one domain after the other, and measure on all of them after each.

    The state before annealing is the result of the stage `train-K`, with K from 1; with branches the annealed
    copy is that of `anneal-K`.

    Args:
        run: streams, stages and log.
        model: where training starts.
        domains: tokens of each, in the order of their arrival.
        losses: the held-out loss of every domain.
        schedule: the learning rate.
        settings: how each domain is trained on.
        start: an earlier training to go on from, whose domains came before these; None starts with `model`.

    Raises:
        DataError: a domain shorter than a window.
        UsageError: a context that the model has no room for, a start that is annealed already, or a memory
            with fewer windows than there are domains.
    """
    check_stream(model, domains, schedule, settings)
    first = first_task(start.place if start else {})
    state, importance = start or Snapshot(model), None
    matrix: list[list[float]] = []
    learnt: list[LanguageModel] = []
    for k in range(len(domains)):
        if settings.against == "mas" and k:
            importance = run.stage(
                f"importance-{k}", partial(_importance, run, state, domains, k - 1, settings, importance)
            )
        state = Snapshot(model) if settings.against == "gdumb" else state
        work = _Work(
            domains=windows_of(run, domains, k, settings),
            domain=k,
            task=0 if settings.against == "gdumb" else first + k,
            tasks=first + len(domains),
            guard=_guard(state, importance, k, settings),
        )
        plateau = schedule.kept(settings.steps)
        state = run.stage(f"train-{k + 1}", partial(_train, run, state, work, schedule, settings, 0, plateau))
        evaluated = state
        if plateau < settings.steps:
            evaluated = run.stage(
                f"anneal-{k + 1}",
                partial(_train, run, state, work, schedule, settings, plateau, settings.steps),
            )
            state = state if settings.branch else evaluated
        matrix.append(run.stage(f"losses-{k + 1}", partial(losses, evaluated.model)))
        learnt.append(evaluated.model)
    return Trained(learnt[-1], matrix, learnt)


def check_stream(
    model: LanguageModel,
    domains: Sequence[np.ndarray],
    schedule: StreamSchedule,
    settings: ContinualTraining,
) -> None:
    """Refuse what cannot be trained, before any work; see `continual_pretrain`."""
    schedule.phases(settings.steps)
    if settings.context > model.context:
        raise UsageError(
            f"Windows have a context of {settings.context} tokens, and the model {model.name!r} has room for "
            f"{model.context}. Lower --training.context, or take a model with a longer one."
        )
    if settings.against == "gdumb" and settings.memory < len(domains):
        raise UsageError(
            f"A memory of {settings.memory} windows has none left for some of {len(domains)} domains. Raise "
            "--training.memory."
        )
    for k, tokens in enumerate(domains):
        if len(tokens) < settings.context + 2:
            raise DataError(
                f"Domain {k + 1} of the stream has {len(tokens)} tokens to train on, and a window takes "
                f"{settings.context + 1}. Give a longer text, or a smaller --training.context."
            )


def first_task(place: dict[str, Any]) -> int:
    """Return the number of tasks that lie before the place of a snapshot; none before an empty one.

    Raises:
        UsageError: the earlier training was annealed, and going on would jump up to the plateau.
    """
    if not place:
        return 0
    if place["decay_start"] is not None and place["n"] > place["decay_start"]:
        raise UsageError(
            f"The snapshot is of update {place['n']} of {place['steps']}, and annealing starts after update "
            f"{place['decay_start']}: nothing goes on from there. Take the one before annealing, such as "
            f"stages/train-{place['task'] + 1} in the place of stages/anneal-{place['task'] + 1}."
        )
    return int(place["task"]) + 1


def stream_cost(
    model: LanguageModel, settings: ContinualTraining, domains: int, *, begun: bool = False
) -> dict[str, float]:
    """Return what a stream of `domains` spends, by budget unit; `begun` says that others came before."""
    held = domains - (not begun) if settings.against == "lwf" else 0
    weighed = (domains - 1) * IMPORTANCE_BATCHES if settings.against == "mas" else 0
    plain, taught = (training_cost(model, settings, taught=taught) for taught in (False, True))
    return {
        unit: (settings.steps * (domains - held) + weighed) * plain[unit]
        + settings.steps * held * taught[unit]
        for unit in plain
    }


def training_cost(
    model: LanguageModel, settings: ContinualTraining, *, taught: bool = False
) -> dict[str, float]:
    """Return what one update spends, by budget unit: a forward and a backward pass.

    Args:
        model: that is trained.
        settings: of its batches.
        taught: whether an earlier model is asked too, as LwF does.
    """
    flops = 3 * (1 + FORWARD_SHARE * taught) * model.flops(settings.batch * settings.context)
    return {"samples": settings.batch, "flops": flops}


def next_token_loss(
    module: Any, tokens: torch.Tensor, guard: Guard | None = None, strength: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss to train on, and the mean cross-entropy of the next token in it, in nats.

    Args:
        module: a causal LM of transformers.
        tokens: [B, T + 1].
        guard: a term against forgetting.
        strength: its weight.
    """
    inputs, nexts = tokens[:, :-1], tokens[:, 1:]
    out = module(input_ids=inputs, use_cache=False, output_hidden_states=guard is not None)
    told = functional.cross_entropy(out.logits.flatten(0, 1).float(), nexts.flatten())
    if guard is None:
        return told, told
    return told + strength * guard(module, inputs, out.hidden_states[-1]), told


class _Work(NamedTuple):
    """What a domain is trained on."""

    domains: Windows
    domain: int
    task: int
    tasks: int
    guard: Guard | None


def _train(
    run: Run,
    start: Snapshot,
    work: _Work,
    schedule: StreamSchedule,
    settings: ContinualTraining,
    done: int,
    until: int,
) -> Snapshot:
    """Return the state after the updates above `done` up to `until` of a task; `start` stays as it is."""
    model = start.model.copy()
    module = model.module.train()
    optimizer = named_optimizer(
        settings.optimizer, decayed_groups(module, settings.weight_decay), settings.betas
    )
    start.give(optimizer)
    state: dict[str, Stateful] = {"weights": Trainable(module), "optimizer": optimizer}
    taught = settings.against == "lwf" and work.guard is not None
    cost = training_cost(model, settings, taught=taught)
    for step in run.steps(until - done, state=state, desc="updates", cost=cost):
        n = done + step + 1
        tokens = work.domains.batch(run, work.domain, n, settings).to(model.device)
        with seeded(run.key("dropout", work.domain, n)):
            loss, told = next_token_loss(module, tokens, work.guard, settings.strength)
            loss.backward()
        rate = schedule.peak * schedule.share(Place(n, work.task, work.tasks), settings.steps)
        norm = update(optimizer, rate, settings.clip)
        run.log(step=work.domain * settings.steps + n, n=n, loss=told.item(), norm=norm, rate=rate)
    module.eval()
    decay_start = schedule.phases(settings.steps).decay_start if schedule.branches else None
    place = {"task": work.task, "n": until, "steps": settings.steps, "decay_start": decay_start}
    return Snapshot(model, optimizer.state_dict(), place)


def _guard(
    start: Snapshot, importance: Importance | None, k: int, settings: ContinualTraining
) -> Guard | None:
    if importance is not None:
        return importance_guard(importance, start.model)
    if settings.against == "lwf" and (k or start.place):
        return feature_guard(start.model)
    return None


def _importance(
    run: Run,
    state: Snapshot,
    domains: Sequence[np.ndarray],
    k: int,
    settings: ContinualTraining,
    before: Importance | None,
) -> Importance:
    one = training_cost(state.model, settings)
    run.meter.charge(**{unit: IMPORTANCE_BATCHES * amount for unit, amount in one.items()})
    source = Windows(domains)
    plain = replace(settings, replay=0.0)
    batches = (source.batch(run, k, -1 - i, plain)[:, :-1] for i in range(IMPORTANCE_BATCHES))
    return memory_importance(state.model, batches, before)
