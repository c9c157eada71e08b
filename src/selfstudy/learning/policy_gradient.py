"""Policy gradients on answers that a language model has drawn itself: one trainer for all methods.

A step collects answers with their advantages and follows the gradient of a loss over their tokens, once, or
several times in mini-batches. What differs between methods is who collects, and the loss of a token.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from selfstudy.core.budget import Meter
from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.fine_tuning import merged, trainable_module
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import Trainable, adamw, check_positive, update
from selfstudy.learning.policy_losses import (
    Average,
    clipped_loss,
    kl_estimate,
    sequence_log_ratio,
    token_weights,
)
from selfstudy.models.language.images import Inputs
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import batches_by_length
from selfstudy.models.language.shared_prompts import Answers, answer_logits, worth_sharing

MOSTLY = 0.9  # share of groups of equal rewards that is worth a warning
BARREN = 20  # steps in a row without anything to learn from, before the training gives up


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """Settings of the gradient steps (AdamW at a constant rate)."""

    learning_rate: float = 3e-4
    """Of AdamW; 1e-6 is usual for models of billions of weights."""
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
    """Decoupled decay of AdamW."""
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
    advantage: float
    """How much better than expected."""
    behaviour: tuple[float, ...] | None = None
    """Log-probability of each token where it was drawn under something else (another prompt); None: under
    the policy as it stands, after `prompt`."""
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


@dataclass(frozen=True)
class Tokens:
    """The tokens of some answers, as a loss sees them; [B, T] unless said otherwise."""

    ratio: torch.Tensor
    """New over old probabilities, differentiable."""
    advantages: torch.Tensor
    """[B, 1]."""
    counted: torch.Tensor
    """Which of the T places belong to the answer."""
    elsewhere: torch.Tensor
    """[B, 1]: whether the answer was drawn under something else (`Rollout.elsewhere`)."""


Prompted = tuple[tuple[int, ...], tuple[int, ...]] | tuple[tuple[int, ...], tuple[int, ...], Inputs]
"""(prompt, answer) as tokens, and what the module is given of the prompt's images, where it has some."""
Objective = Callable[[Tokens], torch.Tensor]
"""The loss of each token, [B, T]."""
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
    learner = _Learner(module, model, settings, objective or clipped(settings), temperature, longest)
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


class Barren:
    """Counts steps in a row that had nothing to learn from; a state for checkpoints."""

    def __init__(self, name: str) -> None:
        self._name, self._steps, self._learnt, self._rewards = name, 0, False, ""

    def look(self, collection: Collection, step: int) -> None:
        """Count a step.

        Raises:
            DataError: it is the twentieth in a row.
        """
        rewards = collection.rewards
        constant = float((rewards == rewards[:, :1]).all(1).mean())
        if step == 0 and constant >= MOSTLY:
            warnings.warn(
                f"In the first step of {self._name!r} the answers to a problem all got the same reward in "
                f"{constant:.0%} of the {len(rewards)} groups (mean reward {rewards.mean():.3g}): there is "
                "little to learn from them.",
                stacklevel=2,
            )
        values, counts = np.unique(np.round(rewards.mean(-1), 2), return_counts=True)
        self._rewards = ", ".join(f"{n} of {value:g}" for value, n in zip(values, counts, strict=True))
        self._steps = 0 if collection.rollouts else self._steps + 1
        self._learnt |= bool(collection.rollouts)
        if self._steps == BARREN:
            raise self._error(f"{BARREN} steps of {self._name!r} in a row")

    def require_learnt(self) -> None:
        """Raise `DataError` when there were steps, and nothing to learn from in any of them."""
        if self._steps and not self._learnt:
            raise self._error(f"any of the {self._steps} steps of {self._name!r}")

    def _error(self, where: str) -> DataError:
        return DataError(
            f"Nothing could be learnt in {where}: the answers to every problem got the same reward. Mean "
            f"rewards of the problems of the last step: {self._rewards}. Take easier problems where they are "
            "0, harder ones where they are 1, or more answers to each problem."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"steps": self._steps, "learnt": self._learnt, "rewards": self._rewards}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the counts over."""
        self._steps, self._learnt = state_dict["steps"], state_dict["learnt"]
        self._rewards = state_dict["rewards"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A rollout with what is known of its tokens before the step."""

    rollout: Rollout
    old: np.ndarray | None
    reference: np.ndarray | None

    @property
    def elsewhere(self) -> bool:
        told = self.rollout.elsewhere
        return self.rollout.behaviour is not None if told is None else told

    @property
    def sequence(self) -> Prompted:
        return (
            self.rollout.prompt,
            self.rollout.tokens,
            *([self.rollout.images] if self.rollout.images else []),
        )


class _Learner:
    """Takes the gradient steps of a collection."""

    def __init__(
        self,
        module: torch.nn.Module,
        reference: LanguageModel,
        settings: PolicyGradient,
        objective: Objective,
        temperature: float,
        longest: int,
    ) -> None:
        # In evaluation mode throughout: dropout would make the ratio differ from 1 before anything is learnt.
        self.module = module.eval()
        self.joint = Joint(module, adamw(Trainable(module).parameters(), settings.weight_decay, fused=True))
        self.reference, self.settings, self.objective = reference, settings, objective
        self.temperature, self.longest = temperature, longest

    def charge(self, meter: Meter, rollouts: Sequence[Rollout]) -> None:
        tokens = sum(len(rollout.prompt) + len(rollout.tokens) for rollout in rollouts)
        passes = 3 * self.settings.passes + (1 if self._moves else 0) + (1 if self.settings.kl else 0)
        meter.charge(
            samples=self.settings.passes * len(rollouts), flops=passes * self.reference.flops(tokens)
        )

    @property
    def _moves(self) -> bool:
        """Whether the policy learns from answers after it has moved away from the one that drew them."""
        return self.settings.passes * self.settings.mini_batches > 1

    def learn(self, rollouts: Sequence[Rollout], rng: np.random.Generator) -> dict[str, float]:
        """Take the gradient steps; return the figures for the log, of all of them together."""
        rows = self._rows(rollouts)
        figures: list[dict[str, float]] = []
        for _ in range(self.settings.passes if rows else 0):
            order = rng.permutation(len(rows))
            for part in np.array_split(order, min(self.settings.mini_batches, len(rows))):
                figures.append(self._step([rows[i] for i in part]))
        names = figures[0] if figures else {}
        return {name: float(np.mean([some[name] for some in figures])) for name in names}

    def _rows(self, rollouts: Sequence[Rollout]) -> list[_Row]:
        rows = [
            _Row(rollout, None if rollout.behaviour is None else np.array(rollout.behaviour), None)
            for rollout in rollouts
            if rollout.tokens
        ]
        sequences = [row.sequence for row in rows]
        if self._moves:
            held = token_logprobs(self.module, sequences, self.temperature)
            rows = [
                row if row.old is not None else replace(row, old=one)
                for row, one in zip(rows, held, strict=True)
            ]
        if self.settings.kl:
            held = token_logprobs(self.reference.module, sequences, self.temperature)
            rows = [replace(row, reference=one) for row, one in zip(rows, held, strict=True)]
        return rows

    def _step(self, rows: list[_Row]) -> dict[str, float]:
        units = units_of(self.reference.module, [row.sequence for row in rows])
        weight = token_weights(
            torch.tensor([len(row.rollout.tokens) for row in rows]), self.settings.average, self.longest
        )
        answered = sum(len(row.rollout.tokens) for row in rows)

        def figures(module: Any, part: Sequence[tuple[Answers, list[int]]]) -> torch.Tensor:
            places = [place for _, some in part for place in some]
            logits = answer_logits(module, [unit for unit, _ in part])
            found = self._figures(*logits, [rows[i] for i in places], weight[places])
            return torch.cat((found[:1], found[1:] / answered))

        lengths = [unit.length for unit, _ in units]
        parts = batch_parts(units, lengths, self.settings.micro_batch, self.joint.device)
        loss, moved, outside, surprise, distance = self.joint.backward(parts, figures).tolist()
        norm = update(self.joint.optimizer, self.settings.learning_rate, self.settings.clip)
        kl = {"kl": distance} if self.settings.kl else {}
        return {"loss": loss, "moved": moved, "outside": outside, "entropy": surprise, "norm": norm, **kl}

    def _figures(
        self,
        logits: torch.Tensor,
        tokens: torch.Tensor,
        counted: torch.Tensor,
        rows: Sequence[_Row],
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """Return sums over the part [5]: its share in the loss, and over its tokens those of the log.

        These are log ratio squared / 2, whether the ratio is outside the clipping range, the negative
        log-probability (whose mean estimates the entropy) and the distance from the reference.
        """
        settings = self.settings
        if self.temperature != 1:
            logits = logits / self.temperature
        logp = -F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")  # [B, T]
        old = _placed([row.old for row in rows], logp.detach())
        log_ratio = (logp - old) * counted
        if settings.ratio == "sequence":
            log_ratio = sequence_log_ratio(log_ratio, counted)
        ratio = log_ratio.exp()
        advantages = logp.new_tensor([[row.rollout.advantage] for row in rows])
        elsewhere = torch.tensor([[row.elsewhere] for row in rows], device=logp.device)
        loss = self.objective(Tokens(ratio, advantages, counted, elsewhere))
        distance = torch.zeros_like(logp)
        if settings.kl:
            reference = _placed([row.reference for row in rows], logp.detach())
            distance = kl_estimate(logp, reference, settings.kl_estimator)
            loss = loss + settings.kl * distance
        if settings.entropy:
            logs = torch.log_softmax(logits, -1)
            loss = loss + settings.entropy * (logs.exp() * logs).sum(-1)
        outside = (ratio < 1 - settings.clip_low) | (ratio > 1 + settings.clip_high)
        shown = torch.stack((log_ratio.square() / 2, outside.to(logp.dtype), -logp, distance)).detach()
        sums = (shown * counted).sum((1, 2))
        return torch.cat(((torch.where(counted, loss, 0.0) * weight.to(logp)[:, None]).sum()[None], sums))


def _placed(known: Sequence[np.ndarray | None], otherwise: torch.Tensor) -> torch.Tensor:
    """Return `otherwise` [B, T] with what is known of each answer's tokens in their places."""
    out = otherwise.clone()
    for i, figures in enumerate(known):
        if figures is not None:
            out[i, : len(figures)] = torch.as_tensor(figures, dtype=out.dtype)
    return out


def units_of(module: torch.nn.Module, sequences: Sequence[Prompted]) -> list[tuple[Answers, list[int]]]:
    """Return what is read as one row each, and the places of its answers among `sequences`.

    Answers to the same prompt share it where that saves work.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, (prompt, _, *images) in enumerate(sequences):
        groups.setdefault((prompt, *map(id, images)), []).append(place)
    units = []
    for places in groups.values():
        prompt, _, *images = sequences[places[0]]
        answers = [sequences[i][1] for i in places]
        if not images and worth_sharing(module, len(prompt), [len(one) for one in answers]):
            units.append((Answers(prompt, tuple(answers)), places))
        else:
            units += [(Answers(prompt, (one,), *images), [i]) for i, one in zip(places, answers, strict=True)]
    return units


def token_logprobs(
    module: torch.nn.Module, sequences: Sequence[Prompted], temperature: float = 1.0
) -> list[np.ndarray]:
    """Return the log-probabilities of the tokens of each (prompt, answer), an array for each answer.

    Computed by the module itself, as training computes them.

    Args:
        module: a causal language model.
        sequences: (prompt, answer) as tokens.
        temperature: that the logits are divided by.
    """
    found: list[np.ndarray] = [np.zeros(0)] * len(sequences)
    units = units_of(module, sequences)
    with Inference(module):
        for batch in batches_by_length([unit.length for unit, _ in units]):
            part = [units[i] for i in batch]
            logits, tokens, _ = answer_logits(module, [unit for unit, _ in part])
            logp = -F.cross_entropy(logits.transpose(1, 2) / temperature, tokens, reduction="none")
            places = [place for _, some in part for place in some]
            for place, values in zip(places, logp.float().cpu().numpy(), strict=True):
                found[place] = values[: len(sequences[place][1])].copy()
    return found
