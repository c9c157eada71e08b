"""Answers drawn with a hint and learnt without: ratios, positions, and where there is no bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from selfstudy.core.budget import Meter
from selfstudy.learning import guided_groups, policy_gradient, policy_learner
from selfstudy.learning.guided_groups import as_drawn, as_unhinted, held, look, mixed_in, with_advantages
from selfstudy.learning.loops import update
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, Rollout, optimise_policy
from selfstudy.learning.ratio_shaping import Gamma, RatioShaping
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.rollouts import Answer, Group
from selfstudy.tasks.reasoning import Problem

SHAPING, GRADIENT = RatioShaping(kind="constant", gamma=0.5), PolicyGradient()


def group(policy: LanguageModel, prompt: str, answers: list[str]) -> Group:
    """A group with given answers."""
    problem = Problem("id", "47+8:")
    tokens = [tuple(policy.encode_all([text], begins=False)[0]) for text in answers]
    drawn = [Answer(problem, text, (text,), row, "stop") for text, row in zip(answers, tokens, strict=True)]
    return Group(problem, tuple(policy.encode(prompt)), tuple(drawn))


def logprobs(policy: LanguageModel, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> np.ndarray:
    """By one forward pass over one sequence, without padding."""
    row = [*prompt, *tokens]
    logs = policy.module(torch.tensor([row])).logits[0].log_softmax(-1)
    return np.array([logs[i - 1, row[i]].item() for i in range(len(prompt), len(row))])


QUESTION, HINTED = "47+8-2:", "47+8=55\n47+8-2:"
ANSWERS = ["47+8=55\n55-2=53", "1", "47=\n", "99+9=1"]


@pytest.fixture(scope="module")
def policy() -> LanguageModel:
    return random_tiny_model(1, 32, seed=3)


def rollouts(policy: LanguageModel, hinted: str = HINTED, **more: bool) -> list[Rollout]:
    question = Rollout(tuple(policy.encode(QUESTION)), (), 0.0)
    return as_unhinted(policy, [question], [group(policy, hinted, ANSWERS)], Meter(), 1.0, **more)[0]


def test_probabilities_of_then_are_those_under_the_hint(policy) -> None:
    """Oracle: single passes without padding, after the hinted prompt; the prompt learnt is without."""
    for one, text in zip(rollouts(policy), ANSWERS, strict=True):
        assert one.prompt == tuple(policy.encode(QUESTION)) and one.elsewhere
        assert one.tokens == tuple(policy.encode_all([text], begins=False)[0])
        under_hint = logprobs(policy, tuple(policy.encode(HINTED)), one.tokens)
        assert np.allclose(one.behaviour, under_hint, atol=1e-5)
        assert not np.allclose(one.behaviour, logprobs(policy, one.prompt, one.tokens), atol=1e-3)


def test_without_the_correction_ratios_begin_at_one(policy) -> None:
    """Oracle: log-probabilities after the question itself."""
    for one in rollouts(policy, correction=False):
        assert np.allclose(one.behaviour, logprobs(policy, one.prompt, one.tokens), atol=1e-5)


def steps(policy, groups, open_run, monkeypatch, objective, settings=GRADIENT) -> torch.Tensor:
    """The gradient of one step of the trainer."""
    found = []

    def recorded(optimizer: torch.optim.Optimizer, rate: float, clip: float) -> float:
        weights = [weight for some in optimizer.param_groups for weight in some["params"]]
        found.append(torch.cat([weight.grad.flatten().clone() for weight in weights]))
        return update(optimizer, rate, clip)

    monkeypatch.setattr(policy_learner, "update", recorded)
    flat = [one for some in groups for one in some]
    optimise_policy(
        policy,
        lambda policy, step: Collection(flat, np.array([[0.0, 1.0]])),
        settings,
        open_run(),
        "policy",
        steps=1,
        longest=20,
        objective=objective,
    )
    return found[0]


def test_ratios_of_the_attached_batch(policy, open_run, monkeypatch) -> None:
    """Oracle: single passes after the question: what the loss sees are probabilities at the right places."""
    seen = []

    def plain(tokens: policy_gradient.Tokens) -> torch.Tensor:
        seen.append((tokens.ratio.detach(), tokens.counted, tokens.elsewhere))
        return -tokens.ratio * tokens.advantages

    given = with_advantages(rollouts(policy), np.array([1.0, 0, 0, 0]))
    alone = [np.exp(logprobs(policy, one.prompt, one.tokens) - np.array(one.behaviour)) for one in given]
    steps(policy, [given], open_run, monkeypatch, plain)
    found = [
        ratio[row][counted[row]].numpy()
        for ratio, counted, elsewhere in seen
        for row in range(len(ratio))
        if elsewhere[row]
    ]
    assert sorted(map(len, found)) == sorted(map(len, alone))
    for one in alone:
        assert any(len(one) == len(other) and np.allclose(one, other, rtol=1e-4) for other in found)


def test_one_token_answers_are_unbiased(policy, open_run, monkeypatch) -> None:
    """Oracle: sum over all tokens y of pi(y|x) A(y) grad log pi(y|x), by autograd, against the trainer's
    gradient over all y weighted by pi(y|x+h) and corrected by the ratio. (Longer answers are biased.)"""
    size = policy.module.config.vocab_size
    question, hinted = tuple(policy.encode(QUESTION)), tuple(policy.encode(HINTED))
    problem = Problem("id", QUESTION)
    every = Group(problem, hinted, tuple(Answer(problem, "", (), (y,), "end") for y in range(size)))
    gains = np.sin(np.arange(size))
    under_hint = policy.module(torch.tensor([hinted])).logits[0, -1].softmax(-1).detach().double().numpy()
    given = as_unhinted(policy, [Rollout(question, (), 0.0)], [every], Meter(), 1.0)[0]
    weighted = [
        Rollout(one.prompt, one.tokens, float(gain * chance * size), one.behaviour)
        for one, gain, chance in zip(given, gains, under_hint, strict=True)
    ]

    def unshaped(tokens: policy_gradient.Tokens) -> torch.Tensor:
        return -tokens.ratio * tokens.advantages

    found = steps(policy, [weighted], open_run, monkeypatch, unshaped)
    copy = policy.copy()
    weights = list(copy.module.parameters())
    for weight in weights:
        weight.requires_grad_(True)
    chances = copy.module(torch.tensor([question])).logits[0, -1].softmax(-1)
    expected = torch.autograd.grad(-(chances * torch.tensor(gains, dtype=chances.dtype)).sum(), weights)
    assert torch.allclose(found, torch.cat([one.flatten() for one in expected]), atol=1e-6)
    assert found.norm() > 1e-3


def test_a_policy_that_ignores_the_hint_has_ratios_of_one(policy) -> None:
    """Oracle: without attention the next token depends on the last one alone, and both prompts end alike."""
    blind = policy.copy()
    for layer in blind.module.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    gamma = Gamma(RatioShaping())
    given = with_advantages(rollouts(blind), np.array([1.0, 0, 0, 0]))
    figures = look(blind, [given], gamma, RatioShaping(), GRADIENT, Meter(), 1.0)
    assert figures["guided_ratio"] == pytest.approx(1, abs=1e-6)
    assert figures["guided_kl"] == pytest.approx(0, abs=1e-6)
    assert figures["guided_outside"] == 0
    assert gamma.value == pytest.approx(1, abs=1e-5)


def test_figures_of_hinted_answers(policy) -> None:
    """Oracle: single passes with and without the hint: r = p(y | x) / p(y | x + h), its log the other way."""
    given = with_advantages(rollouts(policy), np.array([1.0, 0, 0, 0]))
    new = np.concatenate([logprobs(policy, one.prompt, one.tokens) for one in given])
    old = np.concatenate([logprobs(policy, tuple(policy.encode(HINTED)), one.tokens) for one in given])
    ratio = np.exp(new - old)
    gamma = Gamma(RatioShaping())
    wide = PolicyGradient(clip_low=0.01, clip_high=0.01)
    figures = look(policy, [given], gamma, RatioShaping(), wide, Meter(), 1.0)
    assert figures["guided_ratio"] == pytest.approx(ratio.mean(), rel=1e-4)
    assert figures["guided_kl"] == pytest.approx((old - new).mean(), abs=1e-5)
    assert figures["guided_outside"] == pytest.approx(np.mean((ratio < 0.99) | (ratio > 1.01)))
    assert figures["guided_outside"] > 0


def test_without_a_hint_the_loss_is_the_shaped_one_at_ratio_one(policy) -> None:
    """Oracle: an empty hint is the same prompt, which leaves -f(1) A, f(1) = 1 / 1.5; and means by hand."""
    given = with_advantages(rollouts(policy, hinted=QUESTION), np.array([1.0, 0, 0, 0]))
    own = with_advantages(as_drawn(group(policy, QUESTION, ANSWERS)), np.array([0.0, 0, 0, 1.0]))
    figures = look(policy, [given, own, own], Gamma(SHAPING), SHAPING, GRADIENT, Meter(), 1.0)
    tokens = sum(len(one.tokens) for one in given)
    loss = -sum(one.advantage * len(one.tokens) for one in given) / tokens
    assert figures["guided_loss"] == pytest.approx(loss / 1.5, rel=1e-5)
    assert figures["plain_loss"] == pytest.approx(
        -sum(one.advantage * len(one.tokens) for one in own) / tokens, rel=1e-9
    )
    assert figures["guided_share"] == pytest.approx(1 / 3)


def test_what_waits_keeps_the_probabilities_of_now(policy) -> None:
    """Oracle: single passes after the question; hinted ones stay; neither learns as if drawn elsewhere."""
    own, hinted = as_drawn(group(policy, QUESTION, ANSWERS)), rollouts(policy)
    meter = Meter()
    kept = held(policy, [own, hinted], meter, 1.0)
    assert kept[1] == hinted
    for one in kept[0]:
        assert one.elsewhere is False
        assert np.allclose(one.behaviour, logprobs(policy, one.prompt, one.tokens), atol=1e-5)
    read = sum(len(one.prompt) + len(one.tokens) for one in own)
    assert meter.snapshot()["flops"] == policy.flops(read)


def test_images_go_along(policy, monkeypatch) -> None:
    """Oracle: by hand: the hinted prompt is read with its own images, the question is learnt with its own."""
    read = []

    def reading(module, sequences, temperature):
        read.extend(sequences)
        return [np.zeros(len(tokens)) for _, tokens, *_ in sequences]

    monkeypatch.setattr(guided_groups, "token_logprobs", reading)
    shown, shown_hinted = {"pixels": 1}, {"pixels": 2}
    own = as_drawn(replace(group(policy, QUESTION, ANSWERS), images=shown))
    hinted = replace(group(policy, HINTED, ANSWERS), images=shown_hinted)
    found = as_unhinted(policy, [own[0]], [hinted], Meter(), 1.0)[0]
    assert [one[2] for one in read] == [shown_hinted] * len(ANSWERS)
    assert all(one.images is shown for one in (*own, *found))


def test_mixed_in() -> None:
    """Oracle: by hand: wrong hinted answers give way to the problem's own, place by place, with rewards."""
    hinted = [Rollout((1,), (i,), 0.0, (0.0,), elsewhere=True) for i in range(3)]
    own = [Rollout((1,), (10 + i,), 0.0) for i in range(3)]
    found, rewards = mixed_in(hinted, own, np.array([0.0, 1, 0]), np.array([0.0, 0, 0.001]), 0.001)
    assert found == [own[0], hinted[1], own[2]]
    assert rewards.tolist() == [0.0, 1.0, 0.001]
