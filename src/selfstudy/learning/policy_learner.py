"""The gradient steps over the answers of one collection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from selfstudy.core.budget import Meter
from selfstudy.learning.answer_logprobs import Prompted, token_logprobs, units_of
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import Trainable, update
from selfstudy.learning.optimizers import named_optimizer
from selfstudy.learning.policy_losses import kl_estimate, sequence_log_ratio, token_entropy, token_weights
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.shared_prompts import Answers, answer_logits

if TYPE_CHECKING:
    from selfstudy.learning.policy_gradient import PolicyGradient, Rollout


@dataclass(frozen=True)
class Tokens:
    """The tokens of some answers, as a loss sees them; [B, T] unless said otherwise."""

    ratio: torch.Tensor
    """New over old probabilities, differentiable."""
    advantages: torch.Tensor
    """Of the answer, the same at all of its tokens, or of each."""
    counted: torch.Tensor
    """Which of the T places belong to the answer."""
    elsewhere: torch.Tensor
    """[B, 1]: whether the answer was drawn under something else (`Rollout.elsewhere`)."""


Objective = Callable[[Tokens], torch.Tensor]
"""The loss of each token, [B, T]."""


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
    def advantages(self) -> np.ndarray:
        """Of each token [T]."""
        return np.zeros(len(self.rollout.tokens)) + self.rollout.advantage

    @property
    def sequence(self) -> Prompted:
        one = self.rollout
        return (one.prompt, one.tokens, one.images) if one.images else (one.prompt, one.tokens)


class PolicyLearner:
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
        self.joint = Joint(
            module,
            named_optimizer(
                settings.optimizer,
                Trainable(module).parameters(),
                settings.betas,
                weight_decay=settings.weight_decay,
            ),
        )
        self.reference, self.settings, self.objective = reference, settings, objective
        self.temperature, self.longest = temperature, longest

    def charge(self, meter: Meter, rollouts: Sequence[Rollout]) -> None:
        """Charge the samples and FLOPs of learning from these.

        Raises:
            BudgetSpent: the meter does not cover them.
        """
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
        units = units_of(self.module, [row.sequence for row in rows])
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
        told = {"moved": moved, "outside": outside, "entropy": surprise, "norm": norm, **kl}
        # Not named a loss, which reports draw: before the policy moves it is 0 whatever is learnt.
        return {"objective": loss, **told}

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
        # Token by token: with the vocabulary in the middle, a large one takes twice to three times as long.
        logp = -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
        old = _placed([row.old for row in rows], logp.detach())
        log_ratio = (logp - old) * counted
        if settings.ratio == "sequence":
            log_ratio = sequence_log_ratio(log_ratio, counted)
        ratio = log_ratio.exp()
        advantages = _placed([row.advantages for row in rows], torch.zeros_like(logp))
        elsewhere = torch.tensor([[row.elsewhere] for row in rows], device=logp.device)
        loss = self.objective(Tokens(ratio, advantages, counted, elsewhere))
        distance = torch.zeros_like(logp)
        if settings.kl:
            reference = _placed([row.reference for row in rows], logp.detach())
            distance = kl_estimate(logp, reference, settings.kl_estimator)
            loss = loss + settings.kl * distance
        if settings.entropy:
            loss = loss - settings.entropy * token_entropy(logits)
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
