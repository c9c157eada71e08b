"""Gradient steps on whole texts with weights of either sign: sum of w log p(text | prompt)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.fine_tuning import merged, trainable_module
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import Trainable, check_positive, update
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer
from selfstudy.models.ema import follow, follower
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import completion_logprobs
from selfstudy.models.language.soft_prompt import train_only_soft_prompt, with_soft_prompt


@dataclass(frozen=True, kw_only=True)
class SequenceTuning:
    """Settings of the gradient steps (at a constant rate)."""

    learning_rate: float = 1e-4
    """The same at every step."""
    weight_decay: float = 0.0
    """Of the weights, decoupled."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    clip: float = 100.0
    """Largest norm of the gradient, which is one of sums over tokens: a lower limit would cut every step."""
    average: float = 0.0
    """Share of itself that a running mean of the weights keeps in a step; above 0, the mean is what is
    returned (0.99, for one)."""
    micro_batch: int | None = None
    """Texts in one forward pass: the more, the more memory; the gradient stays. None takes what a processor's
    cache holds, all of them on an accelerator."""
    lora_rank: int | None = None
    """Train low-rank updates of all linear layers instead of the weights (LoRA); merged at the end."""
    soft_prompt: int | None = None
    """Train the embeddings of so many new tokens before every prompt instead of the weights (prompt tuning,
    with rates as high as 0.1)."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        check_positive(self, learning_rate=0, clip=0, micro_batch=0, lora_rank=0, soft_prompt=0)
        check_optimizer(self.optimizer, self.betas)
        if self.weight_decay < 0 or not 0 <= self.average < 1:
            raise UsageError(
                f"SequenceTuning has weight-decay {self.weight_decay} and average {self.average}; the first "
                "must be 0 or more, the second from 0 to below 1."
            )
        if self.soft_prompt and (self.lora_rank or self.weight_decay):
            raise UsageError(
                "With soft-prompt nothing else is trained: leave lora-rank and weight-decay out."
            )


@dataclass(frozen=True, slots=True)
class WeightedText:
    """A text to become likelier, or, with a negative weight, less likely."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    """At least one; all of them count."""
    weight: float


def add_gradient(joint: Joint, texts: Sequence[WeightedText], micro_batch: int | None = None) -> float:
    """Add the gradient of -sum_j w_j log p(text_j | prompt_j) and return that sum.

    Logarithms are summed over the tokens, not averaged: a mean would favour short texts.

    Args:
        joint: the module in training.
        texts: J of them, at least one.
        micro_batch: texts of one forward pass; see `SequenceTuning`.
    """
    lengths = [len(text.prompt) + len(text.tokens) for text in texts]

    def loss(module: Any, rows: Sequence[WeightedText]) -> torch.Tensor:
        logs = completion_logprobs(module, [([*row.prompt, *row.tokens], len(row.prompt)) for row in rows])
        return -(logs.new_tensor([row.weight for row in rows]) * logs).sum()[None]

    return float(joint.backward(batch_parts(texts, lengths, micro_batch, joint.device), loss)[0])


class SequenceLearner:
    """A copy of a model that takes gradient steps on weighted texts.

    Args:
        model: where training starts; unchanged.
        settings: of the steps.
        run: where the streams of low-rank updates come from.
        name: of the loop.

    Attributes:
        policy: the model as it stands, to draw from, and to read prompts with: a soft prompt is tokens.
        state: what a checkpoint holds.
    """

    def __init__(self, model: LanguageModel, settings: SequenceTuning, run: Run, name: str) -> None:
        settings.validate()
        self._start, self._settings = model, settings
        self._result = model.copy()
        if settings.soft_prompt:
            self._result = with_soft_prompt(model, settings.soft_prompt, run.rng(name, "soft prompt"))
        # In evaluation mode: with dropout the texts would not be weighed under the model that drew them.
        module = trainable_module(self._result, settings.lora_rank, run, name).eval()
        if settings.soft_prompt:
            train_only_soft_prompt(module, self._result.tokenizer, settings.soft_prompt)
        self.policy = LanguageModel(model.name, module, self._result.tokenizer, model.engine)
        self._joint = Joint(
            module,
            named_optimizer(
                settings.optimizer,
                Trainable(module).parameters(),
                settings.betas,
                weight_decay=settings.weight_decay,
            ),
        )
        self.state: dict[str, Any] = dict(self._joint.state)
        self._mean = follower(module) if settings.average else None
        if self._mean is not None:
            self.state["mean"] = self._mean

    def charge(self, meter: Meter, texts: Sequence[WeightedText]) -> None:
        """Charge the samples and FLOPs of a step on `texts` (6 FLOPs a weight and token)."""
        tokens = sum(len(text.prompt) + len(text.tokens) for text in texts)
        meter.charge(samples=len(texts), flops=3 * self._start.flops(tokens))

    def step(self, texts: Sequence[WeightedText]) -> dict[str, float]:
        """Take one step up sum_j w_j log p(text_j); return the loss and the gradient's norm for the log."""
        loss = add_gradient(self._joint, texts, self._settings.micro_batch)
        norm = update(self._joint.optimizer, self._settings.learning_rate, self._settings.clip)
        if self._mean is not None:
            follow(self._mean, self._joint.finished(), self._settings.average)
        return {"loss": loss, "norm": norm}

    def finished(self) -> LanguageModel:
        """Return the trained model, or the running mean of its weights."""
        module = self._mean if self._mean is not None else self._joint.finished()
        return merged(self._result, module, self._start.module.dtype)
