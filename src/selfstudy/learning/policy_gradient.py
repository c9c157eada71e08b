"""Policy gradients on answers that a language model has drawn itself: one trainer for all methods.

A step collects answers with their advantages and follows the gradient of a loss over their tokens, once, or
several times in mini-batches. What differs between methods is who collects, and the loss of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.barren import Barren
from selfstudy.learning.fine_tuning import merged, trainable_module
from selfstudy.learning.loops import check_positive
from selfstudy.learning.optimizers import OptimizerName, check_optimizer
from selfstudy.learning.policy_learner import Objective, PolicyLearner, Tokens
from selfstudy.learning.policy_losses import Average, clipped_loss
from selfstudy.models.language.images import Inputs
from selfstudy.models.language.model import LanguageModel

__all__ = [
    "Collect",
    "Collection",
    "Objective",
    "PolicyGradient",
    "Rollout",
    "Tokens",
    "clipped",
    "optimise_policy",
]


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """Settings of the gradient steps (at a constant rate)."""

    learning_rate: float = 3e-4
    """1e-6 is usual for models of billions of weights."""
    mini_batches: int = 1
    """Gradient steps over the answers of one collection; with more than 1 the policy moves away from the
    one that drew them, and clipping begins to matter."""
    passes: int = 1
    """Times that the answers of one collection are gone through."""
    clip_low: float = 0.2
    """How far below 1 the ratio of new to old probabilities is followed."""
    clip_high: float = 0.2
    """How far above 1."""
    dual_clip: float | None = None
    """Bounds the loss of an answer with a negative advantage A by so many |A|; None does not."""
    ratio: Literal["token", "sequence"] = "token"
    """Of each token, or the geometric mean over the answer (GSPO)."""
    average: Average = "tokens"
    """What weighs the same: all tokens of a batch, all answers ("sequences"), or all tokens by the constant
    1 / (answers * longest answer) ("length", Dr. GRPO)."""
    kl: float = 0.0
    """Weight of the distance from the model that training starts from."""
    kl_estimator: Literal["k2", "k3"] = "k3"
    """How that distance is estimated from the drawn tokens. The gradient of k2 is that of k1 taken off the
    reward; k1 as a term of a loss has no gradient on average."""
    entropy: float = 0.0
    """Weight of a bonus for the entropy of the policy at each token."""
    weight_decay: float = 0.0
    """Of the weights, decoupled."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    micro_batch: int | None = None
    """Answers in one forward pass: the more, the more memory; the gradient stays. None takes what a
    processor's cache holds, all of them on an accelerator."""
    lora_rank: int | None = None
    """Train low-rank updates of all linear layers instead of the weights (LoRA); merged at the end."""
    frozen: tuple[str, ...] = ()
    """Parts of the model that stay as they are: words in the names of their weights, such as vision_tower."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        check_positive(
            self, learning_rate=0, mini_batches=0, passes=0, clip=0, micro_batch=0, lora_rank=0, clip_high=0
        )
        check_optimizer(self.optimizer, self.betas)
        if not 0 < self.clip_low <= 1:
            raise UsageError(f"PolicyGradient.clip-low is {self.clip_low}; it must be above 0, at most 1.")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise UsageError(f"PolicyGradient.dual-clip is {self.dual_clip}; it must be above 1, or absent.")
        if self.kl < 0 or self.entropy < 0 or self.weight_decay < 0:
            raise UsageError("PolicyGradient.kl, entropy and weight-decay must be 0 or more.")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One drawn answer, as the policy learns from it."""

    prompt: tuple[int, ...]
    """Tokens before the answer in training, which need not be those that it was drawn after."""
    tokens: tuple[int, ...]
    """Of the answer, its end token included where one was drawn."""
    advantage: float | tuple[float, ...]
    """How much better than expected: of the answer, or of each token."""
    behaviour: tuple[float, ...] | None = None
    """Log-probability of each token where it was drawn under something else (another prompt); None: under
    the policy as it stands, after `prompt`. At the temperature of training, which a sampler's are not."""
    elsewhere: bool | None = None
    """What an objective is told in `Tokens.elsewhere`; None: whether `behaviour` is given."""
    images: Inputs | None = None
    """What the module is given of the prompt's images, one object for all answers to it."""


@dataclass(frozen=True)
class Collection:
    """What one step learns from."""

    rollouts: Sequence[Rollout]
    """None: there is nothing to learn in this step."""
    rewards: np.ndarray
    """[P, G] of everything that was drawn, for the log and for messages."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Further figures for the log."""
    last: bool = False
    """Whether training ends with this step, because there is nothing left to learn."""


Collect = Callable[[LanguageModel, int], Collection]
"""(the policy as it stands, step) to what it shall learn from."""


def clipped(settings: PolicyGradient) -> Objective:
    """Return the clipped loss with the bounds of `settings`."""

    def loss(tokens: Tokens) -> torch.Tensor:
        return clipped_loss(
            tokens.ratio,
            tokens.advantages,
            low=settings.clip_low,
            high=settings.clip_high,
            dual=settings.dual_clip,
        )

    return loss


def optimise_policy(
    model: LanguageModel,
    collect: Collect,
    settings: PolicyGradient,
    run: Run,
    name: str,
    *,
    steps: int,
    longest: int,
    temperature: float = 1.0,
    objective: Objective | None = None,
    state: Mapping[str, Stateful] | None = None,
) -> LanguageModel:
    """Return a policy that has learnt from its own answers; the given model is unchanged, and the reference.

    Charges samples (answers learnt from) and FLOPs. Ends early, with the weights so far, where the budget
    ends.

    Args:
        model: where training starts.
        collect: draws answers from the policy and judges them; all its random draws depend on the step.
        settings: of the gradient steps.
        run: streams, checkpoints and log.
        name: names the loop, uniquely within its stage.
        steps: collections.
        longest: tokens that an answer may have, for `average="length"`.
        temperature: at which answers are drawn; probabilities are those at this temperature.
        objective: the loss of a token; the clipped one where None.
        state: what `collect` remembers from step to step; saved and restored with the weights.

    Raises:
        DataError: a reward that is not finite, or nothing to learn from in 20 steps in a row or in any.
        UsageError: a setting out of range.
    """
    settings.validate()
    result = model.copy()
    module = trainable_module(result, settings.lora_rank, run, name)
    freeze(module, settings.frozen)
    policy = result.with_module(module)
    learner = PolicyLearner(module, model, settings, objective or clipped(settings), temperature, longest)
    barren = Barren(name)
    saved = {**learner.joint.state, "barren": barren, **(state or {})}
    for step in run.steps(steps, state=saved, desc=name):
        before = run.meter.snapshot()["generated_tokens"]
        try:
            collection = collect(policy, step)
            learner.charge(run.meter, collection.rollouts)
        except BudgetSpent:
            break
        barren.look(collection, step)
        figures = learner.learn(collection.rollouts, run.rng(name, "order", step))
        run.log(
            part=name,
            step=step,
            generated_tokens=run.meter.snapshot()["generated_tokens"] - before,
            reward=float(collection.rewards.mean()),
            **collection.figures,
            **figures,
        )
        if collection.last:
            break
    else:
        barren.require_learnt()
    return merged(result, learner.joint.finished(), model.module.dtype)


def freeze(module: torch.nn.Module, parts: Sequence[str]) -> None:
    """Let the weights whose names hold one of these words stay as they are.

    Raises:
        UsageError: no weight's name holds a word, or all of the weights would stay.
    """
    for part in parts:
        found = [weight for name, weight in module.named_parameters() if part in name]
        if not found:
            known = sorted({name.split(".")[1] for name, _ in module.named_parameters() if "." in name})
            raise UsageError(
                f"No weight has {part!r} in its name, as frozen asks. Parts are {', '.join(known)}."
            )
        for weight in found:
            weight.requires_grad_(False)
    if parts and not any(weight.requires_grad for weight in module.parameters()):
        raise UsageError(f"With frozen={', '.join(parts)} nothing is left to train. Name fewer parts.")
