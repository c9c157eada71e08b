"""The critic of answers: values before tokens, advantages from them, and how it follows the rewards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.learning import critic as critic_file
from selfstudy.learning.advantages import token_advantages
from selfstudy.learning.critic import Critic, CriticFitting
from selfstudy.learning.loops import update
from selfstudy.learning.policy_gradient import Rollout
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_tiny_model

SETTINGS = CriticFitting(discount=0.9, trace=0.7)
GROUPS = [
    [Rollout((4, 7, 10, 8, 14), (1, 2, 3), 1.0), Rollout((4, 7, 10, 8, 14), (5,), 0.0)],
    [Rollout((9, 14), (2, 2, 6, 7, 1), 0.5), Rollout((9, 14), (), 1.0)],
]


@pytest.fixture
def policy() -> LanguageModel:
    return random_tiny_model(1, 16)


@pytest.fixture
def critic(policy) -> Critic:
    """One whose values differ from place to place, as they do not at first."""
    made = Critic(policy, SETTINGS)
    with torch.no_grad():
        made.model.net.head.weight.copy_(torch.linspace(-1, 1, 16)[None])
    return made


def plain_values(critic: Critic, one: Rollout) -> torch.Tensor:
    """The values before each token, of the answer alone: the head on the hidden state before it."""
    net = critic.model.net
    hidden = net.decoder(input_ids=torch.tensor([[*one.prompt, *one.tokens]])).last_hidden_state[0]
    return net.head(hidden)[len(one.prompt) - 1 : -1, 0]


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_token_advantages(discount, trace) -> None:
    """Oracle: the exponentially weighted mean of all n-step advantages, each written out."""
    rng = np.random.default_rng(0)
    values, reward, length = rng.normal(size=6), 0.8, 6

    def n_step(t: int, n: int) -> float:
        if t + n >= length:
            return discount ** (length - 1 - t) * reward - values[t]
        return discount**n * values[t + n] - values[t]

    for t, found in enumerate(token_advantages(reward, values, discount=discount, trace=trace)):
        left = length - t  # the longest look ahead; all longer ones are the same
        weights = [(1 - trace) * trace ** (n - 1) for n in range(1, left)] + [trace ** (left - 1)]
        expected = sum(w * n_step(t, n) for n, w in enumerate(weights, 1))
        assert found == pytest.approx(expected, abs=1e-12)


def test_values_are_those_before_each_token(critic) -> None:
    """Oracle: each answer read alone; the padding of others and their prompts make no difference."""
    told = [one for group in GROUPS for one in group if one.tokens]
    for one, found in zip(told, critic.values(told), strict=True):
        np.testing.assert_allclose(found, plain_values(critic, one).detach().numpy(), atol=1e-5)


def test_advantages_are_whitened_over_all_tokens(critic) -> None:
    """Oracle: the advantages of the values from before the step, less their mean, by their deviation."""
    told = [one for group in GROUPS for one in group if one.tokens]
    raw = np.concatenate(
        [
            token_advantages(
                one.advantage, plain_values(critic, one).detach().numpy(), discount=0.9, trace=0.7
            )
            for one in told
        ]
    )
    judged = critic.learn(GROUPS, Meter()).groups
    assert [[len(one.tokens) for one in group] for group in judged] == [[3, 1], [5]]
    found = np.concatenate([one.advantage for group in judged for one in group])
    np.testing.assert_allclose(found, (raw - raw.mean()) / raw.std(), atol=1e-4)


def test_the_gradient(critic, monkeypatch) -> None:
    """Oracle: autograd through the mean squared error written out; returns are constants."""
    told = [one for group in GROUPS for one in group if one.tokens]
    loss = torch.zeros(())
    for one in told:
        values = plain_values(critic, one)
        fixed = values.detach().numpy()
        returns = fixed + token_advantages(one.advantage, fixed, discount=0.9, trace=0.7)
        loss = loss + (values - torch.as_tensor(returns, dtype=torch.float32)).square().sum()
    loss = loss / sum(len(one.tokens) for one in told)
    weights = list(critic.model.net.parameters())
    expected = torch.autograd.grad(loss, weights, allow_unused=True)
    found = []

    def recorded(optimizer: torch.optim.Optimizer, rate: float, clip: float) -> float:
        found.extend(None if weight.grad is None else weight.grad.clone() for weight in weights)
        return update(optimizer, rate, clip)

    monkeypatch.setattr(critic_file, "update", recorded)
    told_loss = critic.learn(GROUPS, Meter()).figures["critic_loss"]
    assert told_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    for ours, plain in zip(found, expected, strict=True):
        if plain is not None:
            torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def test_it_follows_the_rewards(policy) -> None:
    """Oracle: with lambda 1 and no discount returns are the rewards, which the values approach.

    Before the first token of two answers with rewards 1 and 0 nothing better than 1/2 can be said: by hand,
    7/16 of the variance can be explained.
    """
    critic = Critic(policy, CriticFitting(learning_rate=1e-2, steps=5))
    judged = [critic.learn(GROUPS, Meter()) for _ in range(20)]
    assert judged[0].figures["explained"] == pytest.approx(0, abs=1e-6)  # 0.5 everywhere tells nothing
    assert judged[-1].figures["explained"] == pytest.approx(7 / 16, abs=0.02)
    (first, second), (third, _) = GROUPS
    expected = [[0.5, 1, 1], [0.5], [0.5] * 5]
    for found, right in zip(critic.values([first, second, third]), expected, strict=True):
        np.testing.assert_allclose(found, right, atol=0.1)
    assert policy.module.model.embed_tokens.weight is not critic.model.net.decoder.embed_tokens.weight


def test_nothing_to_read(critic) -> None:
    """Oracle: answers without tokens have no advantages and teach nothing."""
    before = [weight.clone() for weight in critic.model.net.parameters()]
    empty = [[replace(GROUPS[0][0], tokens=())]]
    judged = critic.learn(empty, Meter())
    assert judged.groups == empty and judged.figures == {}
    assert all(map(torch.equal, before, critic.model.net.parameters()))


def test_it_is_charged_before_it_reads(critic) -> None:
    """Oracle: one pass to judge and three for the step, 2 operations a weight and token."""
    meter = Meter()
    critic.learn(GROUPS, meter)
    tokens = (5 + 3) + (5 + 1) + (2 + 5)
    assert meter.snapshot()["flops"] == 4 * 2 * critic.model.parameters * tokens
    with pytest.raises(BudgetSpent):
        critic.learn(GROUPS, Meter(Budget(flops=1.0)))


@pytest.mark.parametrize(
    "fields", [{"learning_rate": 0}, {"steps": 0}, {"discount": 0}, {"discount": 1.1}, {"trace": -0.1}]
)
def test_refused(fields) -> None:
    """Oracle: settings out of range."""
    with pytest.raises(UsageError):
        CriticFitting(**fields).validate()
