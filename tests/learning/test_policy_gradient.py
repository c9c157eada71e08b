"""The trainer of policy gradients: gradients against plain second computations, resumption bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning import answer_logprobs, policy_learner
from selfstudy.learning.answer_logprobs import token_logprobs, units_of
from selfstudy.learning.loops import update
from selfstudy.learning.policy_gradient import (
    Collection,
    PolicyGradient,
    Rollout,
    optimise_policy,
)
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request
from selfstudy.models.language.tiny import random_tiny_model

PROMPTS = ("47+8:", "3-2*5:", "9:")
SETTINGS = PolicyGradient(learning_rate=1e-3)


def model() -> LanguageModel:
    return random_tiny_model(1, 32)


def rollouts(policy: LanguageModel) -> list[Rollout]:
    """Answers of different lengths with different advantages."""
    requests = [Request(prompt=p, key=i, max_tokens=3 + 2 * i) for i, p in enumerate(PROMPTS)]
    drawn = open_sampler(policy).sample(requests)
    return [
        Rollout(tuple(policy.encode(prompt)), one.tokens, advantage)
        for prompt, one, advantage in zip(PROMPTS, drawn, (1.0, -0.5, 0.3), strict=True)
    ]


def plain_logprobs(policy: LanguageModel, rollout: Rollout, temperature: float = 1.0) -> torch.Tensor:
    """The log-probabilities of the answer's tokens, one sequence at a time, without padding."""
    tokens = [*rollout.prompt, *rollout.tokens]
    logs = (policy.module(torch.tensor([tokens])).logits[0] / temperature).log_softmax(-1)
    return torch.stack([logs[i - 1, tokens[i]] for i in range(len(rollout.prompt), len(tokens))])


def gradients(monkeypatch: pytest.MonkeyPatch, open_run, collected, settings: PolicyGradient, **more):
    """The gradient of every step, by weight; the steps are taken as well."""
    found = []

    def recorded(optimizer: torch.optim.Optimizer, rate: float, clip: float) -> float:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        found.append(torch.cat([weight.grad.flatten().clone() for weight in weights]))
        return update(optimizer, rate, clip)

    monkeypatch.setattr(policy_learner, "update", recorded)
    policy = model()
    optimise_policy(
        policy,
        lambda policy, step: Collection(collected, np.array([[0.0, 1.0]])),
        settings,
        open_run(),
        "policy",
        steps=1,
        longest=10,
        **more,
    )
    return found


def plain_gradient(loss: torch.Tensor, policy: LanguageModel) -> torch.Tensor:
    policy.module.zero_grad()
    loss.backward()
    return torch.cat([w.grad.flatten() for w in policy.module.parameters() if w.grad is not None])


@pytest.mark.parametrize("micro_batch", [None, 1, 2])
@pytest.mark.parametrize("average", ["tokens", "sequences", "length"])
def test_on_policy_gradient(monkeypatch, open_run, micro_batch, average) -> None:
    """Oracle: -A grad log p of every token, token by token, with each kind of average; any micro-batch."""
    policy = model()
    collected = rollouts(policy)
    settings = replace(SETTINGS, micro_batch=micro_batch, average=average)
    ours = gradients(monkeypatch, open_run, collected, settings)[0]
    tokens = sum(len(one.tokens) for one in collected)
    loss = torch.zeros(())
    for one in collected:
        weight = {"tokens": 1 / tokens, "sequences": 1 / (3 * len(one.tokens)), "length": 1 / 30}[average]
        loss = loss - weight * one.advantage * plain_logprobs(policy, one).sum()
    torch.testing.assert_close(ours, plain_gradient(loss, policy), atol=1e-6, rtol=1e-4)


def test_each_token_may_have_its_advantage(monkeypatch, open_run) -> None:
    """Oracle: -A_t grad log p of every token, token by token."""
    policy = model()
    rng = np.random.default_rng(0)
    collected = [
        replace(one, advantage=tuple(rng.normal(size=len(one.tokens)).tolist())) for one in rollouts(policy)
    ]
    ours = gradients(monkeypatch, open_run, collected, SETTINGS)[0]
    loss = torch.zeros(())
    for one in collected:
        loss = loss - (torch.tensor(one.advantage) * plain_logprobs(policy, one)).sum()
    loss = loss / sum(len(one.tokens) for one in collected)
    torch.testing.assert_close(ours, plain_gradient(loss, policy), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_off_policy_gradient(monkeypatch, open_run, ratio) -> None:
    """Oracle: autograd through the clipped loss written out, with log-probabilities of another policy."""
    policy = model()
    rng = np.random.default_rng(0)
    collected = []
    for one in rollouts(policy):
        known = plain_logprobs(policy, one).detach().numpy()
        collected.append(replace(one, behaviour=tuple((known + rng.normal(0, 0.3, len(known))).tolist())))
    ours = gradients(monkeypatch, open_run, collected, replace(SETTINGS, ratio=ratio))[0]
    loss = torch.zeros(())
    for one in collected:
        difference = plain_logprobs(policy, one) - torch.tensor(one.behaviour)
        if ratio == "sequence":
            difference = difference.mean().expand_as(difference)
        rho = difference.exp()
        loss = loss - torch.minimum(rho * one.advantage, rho.clamp(0.8, 1.2) * one.advantage).sum()
    loss = loss / sum(len(one.tokens) for one in collected)
    torch.testing.assert_close(ours, plain_gradient(loss, policy), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("fields", [{}, {"mini_batches": 2, "kl": 0.5}])
def test_answers_that_share_a_long_prompt(monkeypatch, open_run, fields) -> None:
    """Oracle: the same answers, each read with the prompt for itself."""
    prompt = tuple(model().encode("47+8-3*2:" * 30))
    collected = [Rollout(prompt, (1, 2, 3 + i), float(i - 1)) for i in range(4)]
    assert len(units_of(model().module, [(one.prompt, one.tokens) for one in collected])) == 1
    # Not by Adam: its first step has the size of the rate even where a gradient is rounding alone.
    settings = replace(SETTINGS, optimizer="sgd", **fields)
    shared = gradients(monkeypatch, lambda: open_run("shared"), collected, settings)
    monkeypatch.setattr(answer_logprobs, "worth_sharing", lambda *_: False)
    alone = gradients(monkeypatch, lambda: open_run("alone"), collected, settings)
    for ours, plain in zip(shared, alone, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-3)


def test_temperature_divides_the_logits(monkeypatch, open_run) -> None:
    """Oracle: the gradient of log-probabilities at that temperature, token by token."""
    policy = model()
    collected = rollouts(policy)
    ours = gradients(monkeypatch, open_run, collected, SETTINGS, temperature=0.5)[0]
    loss = -sum(one.advantage * plain_logprobs(policy, one, 0.5).sum() for one in collected)
    loss = loss / sum(len(one.tokens) for one in collected)
    torch.testing.assert_close(ours, plain_gradient(loss, policy), atol=1e-6, rtol=1e-4)


def test_entropy_bonus(monkeypatch, open_run) -> None:
    """Oracle: the entropy of the distribution at each place of the answers, by autograd."""
    policy = model()
    collected = [replace(one, advantage=0.0) for one in rollouts(policy)]
    ours = gradients(monkeypatch, open_run, collected, replace(SETTINGS, entropy=0.1))[0]
    entropies = []
    for one in collected:
        tokens = [*one.prompt, *one.tokens]
        logs = policy.module(torch.tensor([tokens])).logits[0].log_softmax(-1)[len(one.prompt) - 1 : -1]
        entropies.append(-(logs.exp() * logs).sum(-1))
    loss = -0.1 * torch.cat(entropies).mean()
    torch.testing.assert_close(ours, plain_gradient(loss, policy), atol=1e-6, rtol=1e-4)


def test_at_the_reference_its_distance_has_no_gradient(monkeypatch, open_run) -> None:
    """Oracle: k3 has its minimum where policy and reference are the same."""
    plain = gradients(monkeypatch, open_run, rollouts(model()), SETTINGS)[0]
    held = gradients(monkeypatch, lambda: open_run("held"), rollouts(model()), replace(SETTINGS, kl=1.0))[0]
    torch.testing.assert_close(held, plain, atol=1e-6, rtol=1e-4)


def test_second_mini_batch_is_clipped_against_what_drew_it(monkeypatch, open_run) -> None:
    """Oracle: as many steps as passes times mini-batches; with a large rate ratios leave the range."""
    settings = PolicyGradient(learning_rate=0.05, passes=2, mini_batches=2)
    collected = rollouts(model())
    run = open_run()
    found = gradients(monkeypatch, lambda: run, collected, settings)
    assert len(found) == 4
    (entry,) = run.metrics()
    assert entry["moved"] > 1e-3 and entry["outside"] > 0


def test_log_probabilities_do_not_depend_on_padding() -> None:
    """Oracle: one sequence at a time, to 1e-5."""
    policy = model()
    collected = rollouts(policy)
    sequences = [(one.prompt, one.tokens) for one in collected]
    for one, found in zip(collected, token_logprobs(policy.module, sequences), strict=True):
        assert found == pytest.approx(plain_logprobs(policy, one).detach().numpy(), abs=1e-5)


def drawing(policy: LanguageModel, step: int) -> Collection:
    """Rewards the digit 7; what is drawn depends on the policy and the step."""
    requests = [Request(prompt="47+8:", key=100 * step + i, max_tokens=4) for i in range(8)]
    answers = open_sampler(policy).sample(requests)
    rewards = np.array([[float(one.text.count("7")) for one in answers]])
    if rewards.std() == 0:
        return Collection((), rewards)
    centred = rewards[0] - rewards.mean()
    prompt = tuple(policy.encode("47+8:"))
    return Collection(
        [Rollout(prompt, one.tokens, float(a)) for one, a in zip(answers, centred, strict=True)], rewards
    )


def learn(run, **fields) -> LanguageModel:
    settings = PolicyGradient(**{"learning_rate": 1e-2, "mini_batches": 2, **fields})
    return optimise_policy(model(), drawing, settings, run, "policy", steps=12, longest=4)


def test_it_learns_what_is_rewarded(open_run) -> None:
    """Oracle: after 12 steps most tokens are the rewarded one, where at first one in seventeen is."""
    run = open_run()
    learn(run)
    rewards = [entry["reward"] for entry in run.metrics()]
    assert rewards[0] < 1.5 and rewards[-1] > 3


@pytest.mark.parametrize("fields", [{}, {"lora_rank": 2}, {"kl": 0.1, "passes": 2}])
def test_cut_off_and_resumed_equals_uninterrupted(monkeypatch, open_run, fields) -> None:
    """Oracle: the uninterrupted run, bit for bit; the cut is an exception in the middle of a step."""
    whole = learn(open_run("whole"), **fields)
    steps = []

    def cut(*arguments):
        steps.append(1)
        if len(steps) == 9:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(policy_learner, "update", cut)
    with pytest.raises(KeyboardInterrupt):
        learn(open_run("cut"), **fields)
    monkeypatch.setattr(policy_learner, "update", update)
    resumed = learn(open_run("cut"), **fields)
    for a, b in zip(whole.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_nothing_to_learn(open_run) -> None:
    """Oracle: a warning with the share after the first step, an error with the rewards at the twentieth."""
    constant = Collection((), np.zeros((5, 4)))
    run = open_run()
    with (
        pytest.warns(UserWarning, match="100% of the 5 groups"),
        pytest.raises(DataError, match=r"20 steps .* 5 of 0"),
    ):
        optimise_policy(model(), lambda *_: constant, SETTINGS, run, "policy", steps=50, longest=4)
    assert len(run.metrics()) == 19


def test_barren_steps_are_counted_across_a_cut(open_run) -> None:
    """Oracle: cut off at the twelfth step and resumed, the twentieth is still the twentieth."""

    def collect(policy: LanguageModel, step: int) -> Collection:
        if step == 11 and endings[0] is KeyboardInterrupt:
            raise KeyboardInterrupt
        return Collection((), np.array([[0.0, 1.0]]))

    endings = [KeyboardInterrupt, DataError]
    while endings:
        with pytest.raises(endings[0]):
            optimise_policy(model(), collect, SETTINGS, open_run(), "policy", steps=50, longest=4)
        endings.pop(0)


def test_the_budget_ends_it(open_run) -> None:
    """Oracle: 8 answers a step: 20 samples are two steps."""
    run = open_run(budget=Budget(samples=20))
    learn(run)
    assert run.meter.snapshot()["samples"] == 16 and len(run.metrics()) == 2


@pytest.mark.parametrize(
    "fields", [{"clip_low": 0.0}, {"clip_low": 1.5}, {"dual_clip": 1.0}, {"kl": -1.0}, {"passes": 0}]
)
def test_refusals(fields) -> None:
    """Oracle: the field is named."""
    with pytest.raises(UsageError, match=next(iter(fields)).replace("_", "-")):
        PolicyGradient(**fields).validate()
