"""Training a language model on pairs of completions: direct preference optimisation and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.fine_tuning import Sequences, merged, trainable_module
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import (
    Trainable,
    batch_indices,
    check_positive,
    learning_rate,
    step_count,
    update,
)
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer
from selfstudy.learning.preference_losses import PairLoss, log_ratio_margin, preference_loss
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import batches_by_length, completion_logprobs, pair_tokens

Completion = str | tuple[int, ...]
"""A text, which the end token follows where there is one, or tokens as they were drawn."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Settings of direct preference optimisation (linear warm-up, linear decay)."""

    beta: float = 0.1
    """How strongly the policy is held to the model it starts from."""
    learning_rate: float = 3e-6
    """Highest learning rate; the default is for models of billions of weights."""
    epochs: float = 2
    """Passes over the pairs."""
    steps: int | None = None
    """Optimiser steps; given, it replaces epochs."""
    batch: int = 32
    """Pairs in a step (all of them where there are fewer)."""
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
    """Pairs in one forward pass: the more, the more memory; the gradient stays. None takes what a
    processor's cache holds, all of them on an accelerator."""
    lora_rank: int | None = None
    """Train low-rank updates instead of the weights; merged at the end."""
    likelihood: float = 0.0
    """Weight of the chosen completions' mean negative log-likelihood of a token, added to the loss."""
    optimism: float = 0.0
    """Weight of the log-likelihood of the rejected completions, added to the loss: where these come from the
    reference, the policy explores what the reference seldom says (XPO, Xie et al. 2024)."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        check_positive(
            self, beta=0, learning_rate=0, epochs=0, steps=0, batch=0, micro_batch=0, lora_rank=0, clip=0
        )
        check_optimizer(self.optimizer, self.betas)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions of one prompt."""

    prompt: str
    """Text as the model sees it."""
    chosen: Completion
    """The better completion."""
    rejected: Completion
    """The worse one."""
    target: float = 1.0
    """What the loss holds the pair to: for `preference_loss` the probability that the chosen one is better,
    for `squared_loss` by how much its reward is higher."""


def prefer(
    model: LanguageModel,
    pairs: Sequence[Pair],
    settings: Preference,
    run: Run,
    name: str,
    *,
    reference: LanguageModel | None = None,
    loss: PairLoss = preference_loss,
) -> LanguageModel:
    """Return a model trained to prefer the chosen completions; the given one stays as it is.

    The reference reads once, before the loop, what training will see. Charges samples (pairs) and FLOPs.

    Args:
        model: where training starts.
        pairs: those of which one side is longer than the context are left out and counted in the log.
        settings: see there.
        run: streams, checkpoints and log.
        name: names the loop, uniquely within its stage.
        reference: what the policy is held to; None is `model`. It must read the same tokens.
        loss: of the margins.

    Raises:
        DataError: no pairs, or none that fits into the context.
        UsageError: a setting out of range, or a reference of another vocabulary.
    """
    settings.validate()
    reference = reference or model
    _require_same_tokens(model, reference)
    chosen, rejected, targets = _fitting(model, pairs, run, name)
    result = model.copy()
    module = trainable_module(result, settings.lora_rank, run, name)
    batch = min(settings.batch, len(chosen))
    steps = settings.steps or step_count(len(chosen), batch, settings.epochs)
    seen = batch_indices(run, name, 0, len(chosen), min(len(chosen), steps * batch))
    known = _reference_logprobs(reference, chosen, rejected, seen)
    joint = Joint(
        module,
        named_optimizer(
            settings.optimizer,
            Trainable(module).parameters(),
            settings.betas,
            weight_decay=settings.weight_decay,
        ),
    )
    sides = np.array([[len(row[0]) for row in side] for side in (chosen, rejected)])  # [2, pairs]
    lengths, mean_length = sides.max(0), float(sides.sum(0).mean())
    drawn = np.array([len(row[0]) - row[1] for row in chosen])
    cost = {"samples": batch, "flops": 3 * model.flops(mean_length * batch)}

    def figures(module: Any, part: list[int]) -> torch.Tensor:
        """Return the share of the pairs in loss, margin and pairs in the right order, [3]."""
        better = completion_logprobs(module, [chosen[i] for i in part])
        worse = completion_logprobs(module, [rejected[i] for i in part])
        numbers = np.concatenate((known[:, part], [targets[part], drawn[part]]))
        first, second, target, tokens = torch.tensor(numbers, dtype=better.dtype, device=better.device)
        margin = log_ratio_margin(better, worse, first, second)
        losses = loss(margin, target, settings.beta)
        if settings.likelihood:
            losses = losses - settings.likelihood * better / tokens
        if settings.optimism:
            losses = losses + settings.optimism * worse
        return torch.stack((losses.sum(), margin.sum(), (margin > 0).float().sum())) / batch

    module.eval()  # the reference reads without dropout, so with it the margin would not be 0 at the start
    for step in run.steps(steps, state=joint.state, desc=name, cost=cost):
        indices = batch_indices(run, name, step, len(chosen), batch)
        parts = batch_parts(indices.tolist(), lengths[indices].tolist(), settings.micro_batch, joint.device)
        value, margin, ordered = joint.backward(parts, figures).tolist()
        rate = learning_rate(step, steps, settings.learning_rate, settings.warmup)
        norm = update(joint.optimizer, rate, settings.clip)
        run.log(part=name, step=step, loss=value, margin=margin, ordered=ordered, norm=norm, rate=rate)
    return merged(result, joint.finished(), model.module.dtype)


def _require_same_tokens(model: LanguageModel, reference: LanguageModel) -> None:
    ours, theirs = (m.module.config.get_text_config().vocab_size for m in (model, reference))
    if ours != theirs or model.tokenizer.get_vocab() != reference.tokenizer.get_vocab():
        raise UsageError(
            f"The reference {reference.name!r} does not fit the policy {model.name!r}: they read different "
            f"tokens (vocabularies of {theirs} and {ours}). Take a reference with the policy's tokenizer."
        )


def _fitting(
    model: LanguageModel, pairs: Sequence[Pair], run: Run, name: str
) -> tuple[Sequences, Sequences, np.ndarray]:
    """Return the tokens of both sides, and the targets, of the pairs that fit into the context."""
    if not pairs:
        raise DataError(
            f"There is nothing to train on in {name!r}: 0 pairs of a better and a worse completion."
        )
    chosen, rejected = (
        pair_tokens(model, [(pair.prompt, getattr(pair, side)) for pair in pairs], end=True)
        for side in ("chosen", "rejected")
    )
    kept = [
        i
        for i, both in enumerate(zip(chosen, rejected, strict=True))
        if all(row[1] < len(row[0]) <= model.context for row in both)
    ]
    if len(kept) < len(pairs):
        run.log(part=name, dropped=len(pairs) - len(kept), pairs=len(pairs))
    if not kept:
        raise DataError(
            f"None of the {len(pairs)} pairs of {name!r} fits into the context of {model.context} tokens. "
            "Shorten the prompts, or take a model with a longer context."
        )
    targets = np.array([pairs[i].target for i in kept], dtype=float)
    return [chosen[i] for i in kept], [rejected[i] for i in kept], targets


def _reference_logprobs(
    reference: LanguageModel, chosen: Sequences, rejected: Sequences, seen: np.ndarray
) -> np.ndarray:
    """Return log p of both sides of the pairs that training sees, [2, pairs]; nan for the others."""
    known = np.full((2, len(chosen)), np.nan)
    # One output is in many pairs, but is read once.
    places: dict[tuple[tuple[int, ...], int], list[tuple[int, int]]] = {}
    for side, sequences in enumerate((chosen, rejected)):
        for i in seen.tolist():
            row = sequences[i]
            places.setdefault((tuple(row[0]), row[1]), []).append((side, i))
    found = logprobs(reference, [(list(tokens), start) for tokens, start in places])
    for value, where in zip(found, places.values(), strict=True):
        for side, i in where:
            known[side, i] = value
    return known


def logprobs(model: LanguageModel, sequences: Sequences) -> np.ndarray:
    """Return log p of the completion of each (tokens, start), [B]; nothing is counted."""
    out = np.zeros(len(sequences))
    with Inference(model.module):
        for batch in batches_by_length([len(row[0]) for row in sequences]):
            sums = completion_logprobs(model.module, [sequences[i] for i in batch])
            out[batch] = sums.double().cpu().numpy()
    return out
