"""Supervised fine-tuning of a language model on prompts and completions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.problem_images import ProblemImage
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.best_weights import BestWeights
from selfstudy.learning.distributed import processes
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import (
    Trainable,
    batch_indices,
    check_positive,
    learning_rate,
    seeded,
    step_count,
    update,
)
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer
from selfstudy.learning.precision import lower_weights, raise_weights
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import Tokens, completion_logprobs, pair_tokens

Sequences = list[Tokens]
"""Of each example."""


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Settings of supervised fine-tuning (linear warm-up, linear decay)."""

    learning_rate: float = 3e-4
    """Highest learning rate."""
    epochs: float = 2
    """Passes over the examples."""
    steps: int | None = None
    """Optimiser steps; given, it replaces epochs."""
    batch: int = 128
    """Examples in a step (all of them where there are fewer)."""
    warmup: float = 0.1
    """Share of the steps over which the rate rises."""
    weight_decay: float = 0.0
    """Of the weights, decoupled."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    micro_batch: int | None = None
    """Examples in one forward pass: the more, the more memory; the gradient stays. None takes what a
    processor's cache holds, all of them on an accelerator."""
    lora_rank: int | None = None
    """Train low-rank updates of all linear layers instead of the weights (LoRA); merged at the end."""


@dataclass(frozen=True, slots=True)
class Example:
    """A completion to learn."""

    prompt: str
    """Text as the model sees it, the chat template included."""
    completion: str | tuple[int, ...]
    """What follows, the loss is on its tokens: a text, which the end token follows where there is one, or
    tokens as they were drawn."""
    images: tuple[ProblemImage, ...] = ()
    """What the prompt shows."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks at the policy while it is trained, to keep the best."""

    looks: int
    """Evenly spaced, the last one at the end."""
    figure: Callable[[LanguageModel], float]
    """Of the policy as it stands, 0 or more; more is better. Its random draws must not depend on when."""

    def due(self, done: int, steps: int) -> bool:
        """Tell whether a look is due after `done` of `steps` steps.

        >>> [done for done in range(1, 11) if Watch(3, lambda policy: 0.0).due(done, 10)]
        [4, 7, 10]
        """
        return done * self.looks // steps > (done - 1) * self.looks // steps


def fine_tune(
    model: LanguageModel,
    examples: Sequence[Example],
    settings: FineTuning,
    run: Run,
    name: str,
    *,
    watch: Watch | None = None,
) -> LanguageModel:
    """Return a model trained on `examples`; the given one is unchanged.

    The loss of a step is the mean over all completion tokens of its batch. Charges the run's meter with
    samples and FLOPs (6 per weight and token, at the mean length). Ends early, with the weights so far,
    where the budget ends.

    Args:
        model: where training starts.
        examples: prompts and completions; those longer than the context are left out and counted in the log.
        settings: see there.
        run: streams, checkpoints and log.
        name: names the loop, uniquely within its stage.
        watch: chooses among the weights at its looks; None takes the last ones.

    Raises:
        DataError: no examples, or none that fits into the context.
        UsageError: a setting out of range, or a watch over a model that several processes train.
    """
    check_positive(settings, learning_rate=0, epochs=0, steps=0, batch=0, micro_batch=0, lora_rank=0, clip=0)
    check_optimizer(settings.optimizer, settings.betas)
    if watch and processes() > 1:
        raise UsageError(
            "A policy that several processes train cannot be looked at on the way: take the last weights, or "
            "train in one process."
        )
    sequences = fitting(
        model, [(e.prompt, e.completion) for e in examples], run, name, [e.images for e in examples]
    )
    result = model.copy()
    module = trainable_module(result, settings.lora_rank, run, name)
    batch = min(settings.batch, len(sequences))
    steps = settings.steps or step_count(len(sequences), batch, settings.epochs)
    joint = Joint(
        module,
        named_optimizer(
            settings.optimizer,
            Trainable(module).parameters(),
            settings.betas,
            weight_decay=settings.weight_decay,
        ),
    )
    mean_length = float(np.mean([len(row[0]) for row in sequences]))
    cost = {"samples": batch, "flops": 3 * model.flops(mean_length * batch)}
    best = BestWeights(module)
    state = {**joint.state, "best": best} if watch else joint.state
    module.train()
    for step in run.steps(steps, state=state, desc=name, cost=cost):
        chosen = [sequences[i] for i in batch_indices(run, name, step, len(sequences), batch)]
        with seeded(run.key(name, "dropout", step)):
            loss = accumulate(joint, chosen, settings.micro_batch)
        rate = learning_rate(step, steps, settings.learning_rate, settings.warmup)
        norm = update(joint.optimizer, rate, settings.clip)
        run.log(part=name, step=step, loss=loss, norm=norm, rate=rate)
        if watch and watch.due(step + 1, steps):
            try:
                figure = watch.figure(result.with_module(module))
            except BudgetSpent:
                break
            best.offer(figure, step + 1)
            run.log(part=name, step=step, figure=figure, best_after=best.step)
            module.train()
    best.bring_back()
    return merged(result, joint.finished(), model.module.dtype)


def accumulate(joint: Joint, sequences: Sequences, micro_batch: int | None) -> float:
    """Add the gradient of the mean negative log-likelihood of all completion tokens; return its value."""
    lengths = [len(row[0]) for row in sequences]
    total = sum(lengths) - sum(row[1] for row in sequences)

    def loss(module: Any, rows: Sequences) -> torch.Tensor:
        return -completion_logprobs(module, rows).sum()[None] / total

    return float(joint.backward(batch_parts(sequences, lengths, micro_batch, joint.device), loss)[0])


def fitting(
    model: LanguageModel,
    pairs: Sequence[tuple[str, str | tuple[int, ...]]],
    run: Run,
    name: str,
    images: Sequence[Sequence[ProblemImage]] = (),
) -> Sequences:
    """Return the tokens of the pairs that fit into the context, end token included; log how many do not.

    `images` are those that each prompt shows, empty where none does.
    """
    if not pairs:
        raise DataError(
            f"There is nothing to train on in {name!r}: 0 examples. Where they are selected solutions, none "
            "was good enough; take easier problems or draw more."
        )
    sequences = pair_tokens(model, pairs, end=True, images=images)
    kept = [row for row in sequences if row[1] < len(row[0]) <= model.context]
    if len(kept) < len(sequences):
        run.log(part=name, dropped=len(sequences) - len(kept), examples=len(sequences))
    if not kept:
        raise DataError(
            f"None of the {len(pairs)} examples of {name!r} fits into the context of {model.context} tokens "
            f"(the shortest has {min(len(row[0]) for row in sequences)}) with a completion of at least one "
            "token. Shorten the prompts, or take a model with a longer context."
        )
    return kept


def trainable_module(result: LanguageModel, lora_rank: int | None, run: Run, name: str) -> Any:
    """Return the module to train: the model's own, or wrapped by peft for LoRA (Hu et al., 2022).

    What is trained is float32, also where the model is not: the weights themselves, or their updates.
    """
    if lora_rank is None:
        raise_weights(result.module)
        for weight in result.module.parameters():
            weight.requires_grad_(True)
        return result.module
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora_rank,
        lora_alpha=2 * lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about what peft calls
        torch.manual_seed(run.key(name, "lora") >> 1)  # torch takes 63 bits on some devices
        return get_peft_model(result.module, config)


def merged(result: LanguageModel, module: Any, dtype: torch.dtype) -> LanguageModel:
    """Return the trained model, weights of `dtype` with the low-rank updates added, in evaluation mode."""
    plain = module.merge_and_unload() if hasattr(module, "merge_and_unload") else module
    lower_weights(plain, dtype)
    return result.with_module(plain)
