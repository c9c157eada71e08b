"""Groups of answers of which some were drawn with a hint, learnt as answers to the question without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.learning.advantages import group_advantages
from selfstudy.learning.answer_logprobs import Prompted, token_logprobs
from selfstudy.learning.policy_gradient import PolicyGradient, Rollout
from selfstudy.learning.ratio_shaping import Gamma, RatioShaping, shaped_ratio
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.rollouts import Group


def as_drawn(group: Group) -> list[Rollout]:
    """Return the answers of a group after the prompt that they were drawn after, without advantages yet."""
    return [Rollout(group.prompt, answer.tokens, 0.0, images=group.images) for answer in group.answers]


def as_unhinted(
    policy: LanguageModel,
    questions: Sequence[Rollout],
    hinted: Sequence[Group],
    meter: Meter,
    temperature: float,
    *,
    correction: bool = True,
) -> list[list[Rollout]]:
    """Return answers that were drawn with hints as rollouts of the questions without.

    Args:
        policy: drew them.
        questions: P rollouts, any one of each question without its hint.
        hinted: P groups.
        meter: charged the FLOPs of reading them.
        temperature: of the draws.
        correction: keep the log-probabilities under the hinted prompts; else those under the questions,
            which makes all ratios 1 at the first step.
    """
    attached = [
        [replace(question, tokens=answer.tokens, elsewhere=True) for answer in group.answers]
        for question, group in zip(questions, hinted, strict=True)
    ]
    read = [as_drawn(group) for group in hinted] if correction else attached
    known = iter(_behaviours(policy, [one for group in read for one in group], meter, temperature))
    return [[replace(one, behaviour=next(known)) for one in group] for group in attached]


def with_advantages(rollouts: Sequence[Rollout], rewards: np.ndarray) -> list[Rollout]:
    """Return the rollouts of one group with the advantages of their rewards [G]."""
    advantages = group_advantages(rewards[None])[0]
    return [replace(one, advantage=float(a)) for one, a in zip(rollouts, advantages, strict=True)]


def with_rewards(rollouts: Sequence[Rollout], rewards: np.ndarray) -> list[Rollout]:
    """Return the rollouts of one group with their rewards [G], from which a critic makes advantages."""
    return [replace(one, advantage=float(reward)) for one, reward in zip(rollouts, rewards, strict=True)]


def mixed_in(
    hinted: Sequence[Rollout],
    own: Sequence[Rollout],
    rewards: np.ndarray,
    own_rewards: np.ndarray,
    wrong: float,
) -> tuple[list[Rollout], np.ndarray]:
    """Return hinted answers with the wrong ones replaced by those drawn without a hint, and their rewards.

    Args:
        hinted: G answers.
        own: G answers to the same question without a hint.
        rewards: [G] of the hinted.
        own_rewards: [G] of the others.
        wrong: the largest reward of an answer that is replaced.
    """
    kept = rewards > wrong
    found = [a if right else b for a, b, right in zip(hinted, own, kept, strict=True)]
    return found, np.where(kept, rewards, own_rewards)


def held(
    policy: LanguageModel, groups: Sequence[Sequence[Rollout]], meter: Meter, temperature: float
) -> list[list[Rollout]]:
    """Return groups that are learnt from later: with the log-probabilities of the policy that drew them."""
    fresh = [one for group in groups for one in group if one.behaviour is None]
    known = iter(_behaviours(policy, fresh, meter, temperature))
    return [
        [
            replace(one, behaviour=next(known), elsewhere=False) if one.behaviour is None else one
            for one in group
        ]
        for group in groups
    ]


def look(
    policy: LanguageModel,
    groups: Sequence[Sequence[Rollout]],
    gamma: Gamma,
    shaping: RatioShaping,
    gradient: PolicyGradient,
    meter: Meter,
    temperature: float,
) -> dict[str, float]:
    """Set gamma for the hinted answers of a batch; return figures of the batch before it is learnt from.

    guided_share: of groups with hinted answers. plain_loss and guided_loss: means over their tokens.
    guided_ratio: mean ratio of hinted tokens. guided_outside: share of them that clipping would cut off.
    guided_kl: mean log-ratio of the probabilities with and without the hint.

    Args:
        policy: as it stands.
        groups: of the batch.
        gamma: is set.
        shaping: of the ratios.
        gradient: the bounds of clipping.
        meter: charged the FLOPs of reading the hinted answers.
        temperature: of the draws.
    """
    if not groups:
        return {}
    rollouts = [one for group in groups for one in group if one.tokens]
    guided = [one for one in rollouts if one.elsewhere]
    plain = [one for one in rollouts if not one.elsewhere]
    figures = {"guided_share": float(np.mean([any(one.elsewhere for one in group) for group in groups]))}
    if plain:
        figures["plain_loss"] = -float(_by_token(plain).mean())
    if not guided:
        return figures
    new = np.concatenate([np.array(row) for row in _behaviours(policy, guided, meter, temperature)])
    old = np.concatenate([np.array(one.behaviour) for one in guided])
    ratio = np.exp(new - old)
    gamma.look(ratio)
    advantages = _by_token(guided)
    shape = ratio if shaping.kind == "clip" else _shape(ratio, shaping, gamma)
    outside = (ratio < 1 - gradient.clip_low) | (ratio > 1 + gradient.clip_high)
    return {
        **figures,
        "guided_loss": -float((shape * advantages).mean()),
        "guided_ratio": float(ratio.mean()),
        "guided_outside": float(outside.mean()),
        "guided_kl": float((old - new).mean()),
    }


def _shape(ratio: np.ndarray, shaping: RatioShaping, gamma: Gamma) -> np.ndarray:
    return shaped_ratio(torch.as_tensor(ratio), shaping.kind, gamma.value).numpy()


def _by_token(rollouts: Sequence[Rollout]) -> np.ndarray:
    return np.concatenate([np.broadcast_to(one.advantage, len(one.tokens)) for one in rollouts])


def _behaviours(
    policy: LanguageModel, rollouts: Sequence[Rollout], meter: Meter, temperature: float
) -> list[tuple[float, ...]]:
    """Return the log-probabilities of each rollout's tokens after its prompt, by the policy as it stands."""
    meter.charge(flops=policy.flops(sum(len(one.prompt) + len(one.tokens) for one in rollouts)))
    read: list[Prompted] = [
        (one.prompt, one.tokens, one.images) if one.images else (one.prompt, one.tokens) for one in rollouts
    ]
    known = token_logprobs(policy.module, read, temperature)
    return [tuple(row.tolist()) for row in known]
