"""A critic of answers: what reward is expected before each token, and how much better a token has made it.

The critic of PPO (Schulman et al., 2017) for language models: a copy of the policy with a linear head reads
prompt and answer; the advantages of tokens come from its values, and it follows the rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import UsageError
from selfstudy.learning.advantages import token_advantages
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import check_positive, update
from selfstudy.learning.losses import masked_mse
from selfstudy.learning.optimizers import named_optimizer
from selfstudy.learning.policy_gradient import Rollout
from selfstudy.learning.precision import raise_weights
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import batches_by_length, pad_right
from selfstudy.models.language.value import ValueModel

EPS = 1e-8  # keeps whitened advantages finite


@dataclass(frozen=True, kw_only=True)
class CriticFitting:
    """Settings of a critic and of the advantages that come from it."""

    learning_rate: float = 1e-3
    """Constant; 1e-5 is usual for models of billions of weights."""
    steps: int = 1
    """Gradient steps over the answers of a collection."""
    discount: float = 1.0
    """Of what comes a token later (gamma)."""
    trace: float = 1.0
    """lambda of the advantages: 0 trusts the value after the token, 1 the reward alone."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    micro_batch: int | None = None
    """Answers in one forward pass; None takes what a processor's cache holds, all on an accelerator."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        check_positive(self, learning_rate=0, steps=0, clip=0, micro_batch=0)
        if not 0 < self.discount <= 1 or not 0 <= self.trace <= 1:
            raise UsageError(
                f"CriticFitting.discount is {self.discount} and trace {self.trace}; discount must be above "
                "0, trace at least 0, both at most 1."
            )


class Judged(NamedTuple):
    """What a critic says of answers, and what it has learnt from them."""

    groups: list[list[Rollout]]
    """With the advantages of their tokens."""
    figures: dict[str, float]
    """critic_loss: before the critic's steps. explained: share of the returns' variance that values tell."""


class Critic:
    """Values before each token of an answer.

    Args:
        policy: its weights are where the critic starts, its head begins at 0.5.
        settings: see there.

    Attributes:
        model: the value model.
        state: of weights and optimiser, for checkpoints.
    """

    def __init__(self, policy: LanguageModel, settings: CriticFitting) -> None:
        self.settings, self.model = settings, ValueModel.from_policy(policy)
        net = self.model.net
        raise_weights(net.module)
        # The vocabulary layer has no part in the values, unless it is the embedding too.
        apart = (
            policy.module.get_output_embeddings().weight is not policy.module.get_input_embeddings().weight
        )
        self._joint = Joint(net, named_optimizer("adamw", net.parameters()), unused=apart)
        self.state: dict[str, Stateful] = {f"critic-{name}": part for name, part in self._joint.state.items()}

    def learn(self, groups: Sequence[Sequence[Rollout]], meter: Meter) -> Judged:
        """Return the advantages by the values as they are, and follow the rewards from there.

        Advantages are whitened over all tokens. The loss of a step is the mean squared difference of values
        and returns (advantage and value) over all tokens.

        Args:
            groups: of rollouts whose `advantage` is the reward of the answer.
            meter: charged the FLOPs.

        Raises:
            BudgetSpent: the meter does not cover them.
        """
        told = [one for group in groups for one in group if one.tokens]
        if not told:
            return Judged([list(group) for group in groups], {})
        read = sum(len(one.prompt) + len(one.tokens) for one in told)
        meter.charge(flops=(1 + 3 * self.settings.steps) * self.model.flops(read))
        values = self.values(told)
        raw = [self._advantages(one, row) for one, row in zip(told, values, strict=True)]
        returns = [advantage + value for advantage, value in zip(raw, values, strict=True)]
        errors = [self._step(told, returns) for _ in range(self.settings.steps)]
        found = iter(_whitened(raw))
        judged = [
            [replace(one, advantage=tuple(next(found).tolist())) for one in group if one.tokens]
            for group in groups
        ]
        return Judged(judged, {"critic_loss": errors[0], "explained": _explained(raw, returns)})

    def _advantages(self, rollout: Rollout, values: np.ndarray) -> np.ndarray:
        reward = rollout.advantage
        assert isinstance(reward, float)
        return token_advantages(reward, values, discount=self.settings.discount, trace=self.settings.trace)

    def values(self, rollouts: Sequence[Rollout]) -> list[np.ndarray]:
        """Return the expected reward before each token of each answer, unclamped."""
        out: list[np.ndarray] = [np.zeros(0)] * len(rollouts)
        with Inference(self.model.net):
            for batch in batches_by_length([len(one.prompt) + len(one.tokens) for one in rollouts]):
                part = [rollouts[i] for i in batch]
                for i, row in zip(batch, self._joint.read(_values, part).double().cpu().numpy(), strict=True):
                    out[i] = row[: len(rollouts[i].tokens)]
        return out

    def _step(self, rollouts: Sequence[Rollout], returns: Sequence[np.ndarray]) -> float:
        """Take a gradient step; return the mean squared error before it."""
        count = sum(map(len, returns))

        def loss(net: Any, rows: Sequence[tuple[Rollout, np.ndarray]]) -> torch.Tensor:
            values = _values(net, [one for one, _ in rows])
            targets = torch.full_like(values, torch.nan)
            for i, (_, target) in enumerate(rows):
                targets[i, : len(target)] = torch.as_tensor(target, dtype=values.dtype)
            return masked_mse(values, targets)[None] / count

        lengths = [len(one.prompt) + len(one.tokens) for one in rollouts]
        rows = list(zip(rollouts, returns, strict=True))
        parts = batch_parts(rows, lengths, self.settings.micro_batch, self._joint.device)
        error = float(self._joint.backward(parts, loss)[0])
        update(self._joint.optimizer, self.settings.learning_rate, self.settings.clip)
        return error


def _values(net: Any, rollouts: Sequence[Rollout]) -> torch.Tensor:
    """Return the values before each token [B, T], without meaning past the end of an answer."""
    device = net.head.weight.device
    tokens = pad_right([[*one.prompt, *one.tokens] for one in rollouts], device)
    begins = torch.tensor([len(one.prompt) for one in rollouts], device=device)
    before = torch.arange(max(len(one.tokens) for one in rollouts), device=device) + begins[:, None] - 1
    return net(tokens, begins, before.clamp(max=tokens.shape[1] - 1))


def _whitened(advantages: Sequence[np.ndarray]) -> list[np.ndarray]:
    everything = np.concatenate(advantages)
    return [(one - everything.mean()) / (everything.std() + EPS) for one in advantages]


def _explained(errors: Sequence[np.ndarray], returns: Sequence[np.ndarray]) -> float:
    """Return 1 - var(return - value) / var(return); 0 where returns are all the same."""
    spread = float(np.concatenate(returns).var())
    return 1 - float(np.concatenate(errors).var()) / spread if spread else 0.0
