"""Direct preference optimisation of a language model (Rafailov et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import DataError
from selfstudy.core.run import Run
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.fine_tuning import Sequences, merged, trainable_module
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import (
    Trainable,
    adamw,
    batch_indices,
    check_positive,
    learning_rate,
    step_count,
    update,
)
from selfstudy.learning.losses import dpo_loss
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import batches_by_length, completion_logprobs, pair_tokens

__all__ = ["Pair", "Preference", "dpo_loss", "prefer"]


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Settings of direct preference optimisation (AdamW, linear warm-up, linear decay)."""

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
    """Decoupled decay of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    micro_batch: int | None = None
    """Pairs in one forward pass: the more, the more memory; the gradient stays. None takes what a
    processor's cache holds, all of them on an accelerator."""
    lora_rank: int | None = None
    """Train low-rank updates instead of the weights; merged at the end."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions of one prompt."""

    prompt: str
    """Text as the model sees it."""
    chosen: str
    """The better completion."""
    rejected: str
    """The worse one."""


def prefer(
    model: LanguageModel, pairs: Sequence[Pair], settings: Preference, run: Run, name: str
) -> LanguageModel:
    """Return a model trained to prefer the chosen completions; the given one stays and is the reference.

    The reference's log-probabilities are computed once, before the loop. Charges samples (pairs) and FLOPs.

    Args:
        model: start and reference.
        pairs: those of which one side is longer than the context are left out and counted in the log.
        settings: see there.
        run: streams, checkpoints and log.
        name: names the loop, uniquely within its stage.

    Raises:
        DataError: no pairs, or none that fits into the context.
        UsageError: a setting out of range.
    """
    check_positive(
        settings, beta=0, learning_rate=0, epochs=0, steps=0, batch=0, micro_batch=0, lora_rank=0, clip=0
    )
    chosen, rejected = _fitting(model, pairs, run, name)
    reference = np.stack([_reference(model, side) for side in (chosen, rejected)])  # [2, pairs]
    result = model.copy()
    module = trainable_module(result, settings.lora_rank, run, name)
    batch = min(settings.batch, len(chosen))
    steps = settings.steps or step_count(len(chosen), batch, settings.epochs)
    joint = Joint(module, adamw(Trainable(module).parameters(), settings.weight_decay, fused=True))
    sides = np.array([[len(tokens) for tokens, _ in side] for side in (chosen, rejected)])  # [2, pairs]
    lengths, mean_length = sides.max(0), float(sides.sum(0).mean())
    cost = {"samples": batch, "flops": 3 * model.flops(mean_length * batch)}

    def figures(module: Any, part: list[int]) -> torch.Tensor:
        """Return the share of the pairs in loss and margin, [2]."""
        better = completion_logprobs(module, [chosen[i] for i in part])
        worse = completion_logprobs(module, [rejected[i] for i in part])
        known = torch.tensor(reference[:, part], dtype=better.dtype, device=better.device)
        losses = dpo_loss(better, worse, known[0], known[1], settings.beta)
        return torch.stack((losses.sum(), (better - known[0] - worse + known[1]).sum())) / batch

    module.train()
    for step in run.steps(steps, state=joint.state, desc=name, cost=cost):
        indices = batch_indices(run, name, step, len(chosen), batch)
        parts = batch_parts(indices.tolist(), lengths[indices].tolist(), settings.micro_batch, joint.device)
        loss, margin = joint.backward(parts, figures).tolist()
        rate = learning_rate(step, steps, settings.learning_rate, settings.warmup)
        norm = update(joint.optimizer, rate, settings.clip)
        run.log(part=name, step=step, loss=loss, margin=margin, norm=norm, rate=rate)
    return merged(result, joint.finished(), model.module.dtype)


def _fitting(model: LanguageModel, pairs: Sequence[Pair], run: Run, name: str) -> tuple[Sequences, Sequences]:
    if not pairs:
        raise DataError(
            f"There is nothing to train on in {name!r}: 0 pairs of a better and a worse completion."
        )
    sides = [
        pair_tokens(model, [(pair.prompt, getattr(pair, side)) for pair in pairs], end=True)
        for side in ("chosen", "rejected")
    ]
    kept = [
        both for both in zip(*sides, strict=True) if all(at < len(row) <= model.context for row, at in both)
    ]
    if len(kept) < len(pairs):
        run.log(part=name, dropped=len(pairs) - len(kept), pairs=len(pairs))
    if not kept:
        raise DataError(
            f"None of the {len(pairs)} pairs of {name!r} fits into the context of {model.context} tokens. "
            "Shorten the prompts, or take a model with a longer context."
        )
    return [a for a, _ in kept], [b for _, b in kept]


def _reference(model: LanguageModel, sequences: Sequences) -> np.ndarray:
    out = np.zeros(len(sequences))
    with Inference(model.module):
        for batch in batches_by_length([len(tokens) for tokens, _ in sequences]):
            sums = completion_logprobs(model.module, [sequences[i] for i in batch])
            out[batch] = sums.double().cpu().numpy()
    return out
