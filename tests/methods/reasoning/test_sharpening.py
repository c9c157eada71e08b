"""What is particular to sharpening: what it learns, the frozen reward, its pairs, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, MachineError, UsageError
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.preference_losses import squared_loss
from selfstudy.learning.preferences import Preference
from selfstudy.methods.reasoning import sharpening
from selfstudy.methods.reasoning.sharpening import Sharpening
from selfstudy.models.language.sampling import TorchSampler
from selfstudy.models.language.scoring import completion_logprobs, sequence_logprobs
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.rollouts import draw_groups
from selfstudy.signals.self_rewards import own_rewards

TUNING = FineTuning(steps=2, batch=8)
SMALL = {"samples": 4, "batch": 4, "tuning": TUNING, "regression": Preference(steps=2, batch=8, beta=0.5)}
RLHF = {**SMALL, "variant": "rlhf", "rounds": 2}


def fit(run, task, policy, **fields: Any):
    return Sharpening(**{**SMALL, **fields}).fit(task.metered(run.meter), policy, run)


def drawn(run, task, policy, samples: int = 4):
    keys = [[run.key("samples", p.id, i) for i in range(samples)] for p in task.train]
    return draw_groups(policy, task, task.train, run.meter, keys=keys, temperature=1.0)


def weights(model) -> list[torch.Tensor]:
    return [weight.detach() for weight in model.module.parameters()]


def caught(monkeypatch, name: str) -> list[tuple]:
    """Collect the arguments of a trainer that the method calls."""
    calls: list[tuple] = []
    train = getattr(sharpening, name)

    def spy(*arguments: Any, **more: Any):
        calls.append((*arguments, more))
        return train(*arguments, **more)

    monkeypatch.setattr(sharpening, name, spy)
    return calls


@pytest.mark.parametrize("reward", ["likelihood", "majority"])
def test_it_learns_the_best_of_each_prompt(reward: str, policy, chains, open_run, monkeypatch) -> None:
    """Oracle: the same draws scored apart; the tokens as drawn after the posed prompt."""
    calls, run, task = caught(monkeypatch, "fine_tune"), open_run(), chains()
    fit(run, task, policy, reward=reward)
    (_, examples, *_) = calls[0]
    groups = drawn(run, task, policy)
    best = [group.answers[int(own_rewards(task, group, reward).argmax())] for group in groups]
    assert [example.completion for example in examples] == [answer.tokens for answer in best]
    assert [example.prompt for example in examples] == [task.prompt(p) for p in task.train]


def test_one_sample_is_self_distillation(policy, chains, open_run) -> None:
    """Oracle: fine-tuning on one plain sample of each prompt gives the same weights, bit for bit."""
    run, task = open_run(), chains()
    ours = fit(run, task, policy, samples=1).model
    plain = [Example(task.prompt(g.problem), g.answers[0].tokens) for g in drawn(run, task, policy, 1)]
    other = open_run("other")
    theirs = other.stage("policy", lambda: fine_tune(policy, plain, TUNING, other, "policy"))
    assert all(torch.equal(a, b) for a, b in zip(weights(ours), weights(theirs), strict=True))


def test_plain_samples_have_no_gradient_in_expectation() -> None:
    """Oracle: sum over all responses of p grad log p = grad sum p = 0; weighted by the reward it is not."""
    model = random_tiny_model(1, 16, vocabulary="ab")
    ways = [([0, *way], 1) for way in itertools.product(range(3), repeat=2)]
    logs = completion_logprobs(model.module, ways)
    for weight, still in ((logs.exp().detach(), True), ((logs.exp() * logs).detach(), False)):
        grads = torch.autograd.grad((weight * logs).sum(), list(model.module.parameters()), retain_graph=True)
        largest = max(float(grad.abs().max()) for grad in grads)
        assert (largest < 1e-6) == still


def test_pairs_of_the_base(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: samples one and two, three and four of each prompt; targets by the module itself."""
    calls, run, task = caught(monkeypatch, "prefer"), open_run(), chains()
    fit(run, task, policy, **{**RLHF, "online": False, "pairs": 2})
    ((start, pairs, settings, _, _, more),) = calls
    assert start is policy and more["reference"] is policy and more["loss"] is squared_loss
    assert settings.beta == 0.5
    expected = [(g.problem, *g.answers[i : i + 2]) for g in drawn(run, task, policy) for i in (0, 2)]
    assert [(p.chosen, p.rejected) for p in pairs] == [(a.tokens, b.tokens) for _, a, b in expected]
    for pair in pairs:
        better, worse = sequence_logprobs(policy, [(pair.prompt, pair.chosen), (pair.prompt, pair.rejected)])
        assert pair.target == pytest.approx(better - worse, abs=1e-3)


@pytest.mark.parametrize("reward", ["likelihood", "normalised", "majority"])
def test_rounds_draw_from_the_policy_and_score_by_the_base(
    reward: str, policy, chains, open_run, monkeypatch
) -> None:
    """Oracle: the draws repeated with the policy of each round; rewards by the first model throughout."""
    calls, run, task = caught(monkeypatch, "prefer"), open_run(), chains()
    strong = replace(RLHF["regression"], learning_rate=1e-3)
    fit(run, task, policy, **{**RLHF, "reward": reward, "regression": strong})
    assert calls[0][0] is policy and calls[1][0] is not policy
    assert len(calls[1][1]) == 2 * len(calls[0][1]) == 2 * len(task.train)
    base = drawn(run, task, policy)
    for t, (start, pairs, *_, more) in enumerate(calls):
        assert more["reference"] is policy
        keys = [[run.key("round", t, p.id)] for p in task.train]
        fresh = draw_groups(start, task, task.train, run.meter, keys=keys, temperature=1.0)
        for pair, new, group in zip(pairs[-len(base) :], fresh, base, strict=True):
            assert pair.chosen == new.answers[0].tokens and pair.rejected == group.answers[t].tokens
            if reward == "majority":
                votes = [task.answer(a.steps, group.problem) for a in group.answers]
                said = [task.answer(a.steps, group.problem) for a in (new.answers[0], group.answers[t])]
                first, second = (votes.count(one) / 4 if one is not None else 0.0 for one in said)
            else:
                sums = sequence_logprobs(policy, [(pair.prompt, x) for x in (pair.chosen, pair.rejected)])
                per = 1 if reward == "likelihood" else len(pair.chosen)
                first, second = (x / per for x in sums)
            assert pair.target == pytest.approx(first - second, abs=1e-3)


def test_votes_are_of_all_answers_also_those_cut_off(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: two of four answers cut off; an answer of the policy that states the base's has its reward."""
    calls, run, task = caught(monkeypatch, "prefer"), open_run(), chains()
    real = sharpening.candidates

    def half(task, model, group, reward, **more):
        scored = real(task, model, group, reward, **more)
        return replace(scored, usable=scored.usable[:2], cut=2) if len(group.answers) == 4 else scored

    monkeypatch.setattr(sharpening, "candidates", half)
    fit(run, task, policy, **{**RLHF, "reward": "majority", "rounds": 1})
    pairs, by_prompt = calls[0][1], {task.prompt(problem): problem for problem in task.train}

    def stated(pair, side: str) -> str | None:
        return task.answer(task.steps(policy.decode(getattr(pair, side))), by_prompt[pair.prompt])

    same = [pair for pair in pairs if stated(pair, "chosen") == stated(pair, "rejected") is not None]
    assert same and all(pair.target == 0 for pair in same)


def test_looks_keep_the_likeliest_weights(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: figures by hand that fall: the weights after the first look, not the last, come out."""
    task = chains()
    task = copy.copy(task)
    task.validation = task.train[:3]
    figures = iter([0.9, 0.5])
    monkeypatch.setattr(Sharpening, "_look", lambda *_: next(figures))
    run = open_run("a")
    kept = fit(run, task, policy, looks=2).model
    log = [line for line in run.metrics() if "figure" in line]
    assert [(line["step"], line["best_after"]) for line in log] == [(0, 1), (1, 1)]
    monkeypatch.setattr(Sharpening, "_look", lambda *_: 0.5)  # of equals the latest
    last = fit(open_run("b"), task, policy, looks=2).model
    plain = fit(open_run("c"), task, policy).model
    assert all(torch.equal(a, b) for a, b in zip(weights(last), weights(plain), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(kept), weights(plain), strict=True))


def test_a_look_is_the_bases_likelihood_of_a_token(policy, chains, open_run) -> None:
    """Oracle: by hand: the mean log p of the policy's answers under the base, per token of a solution."""
    run, task = open_run(), copy.copy(chains())
    task.validation = task.train
    figure = Sharpening()._look(task, policy, run, policy)
    keys = [[run.key("look", p.id)] for p in task.train]
    groups = draw_groups(policy, task, task.train, run.meter, keys=keys, temperature=1.0)
    mean = np.mean([sum(g.answers[0].logprobs) for g in groups])
    assert figure == pytest.approx(math.exp(mean / task.solution_tokens), rel=1e-4)


def test_adaptive_draws_spend_less(policy, chains, open_run, records) -> None:
    """Oracle: the rule on each record: enough is covered, or all samples are drawn; the cap is kept."""
    run = open_run()
    fit(run, chains(), policy, samples=32, delta=0.05)
    rows = records(run)["samples"]
    for row in rows:
        enough = row["samples"] * math.exp(max(row["logprobs"])) >= math.log(1 / 0.05)
        assert row["samples"] in (4, 8, 16, 32) and (enough or row["samples"] == 32)
    assert sum(row["samples"] for row in rows) < 32 * len(rows)


def test_the_verifier_is_asked_on_demand_alone(policy, chains, open_run) -> None:
    """Oracle: the meter; the weights are the same, and the report says how well the reward tells."""
    plain, checked = open_run("a"), open_run("b")
    first = fit(plain, chains(), policy)
    assert plain.meter.snapshot()["verifier_calls"] == plain.meter.snapshot()["oracle_labels"] == 0
    second = fit(checked, chains(), policy, check=True)
    assert checked.meter.snapshot()["verifier_calls"] == 40
    assert all(torch.equal(a, b) for a, b in zip(weights(first.model), weights(second.model), strict=True))
    assert "accuracy" in second.metrics["best_of"] and 0 <= second.metrics["auc"] <= 1
    assert first.metrics["coverage"] == second.metrics["coverage"] and len(second.pictures) == 3


def test_a_model_that_is_sharp_already(policy, chains, open_run) -> None:
    """Oracle: logits times 1000 draw one and the same; with one sample nothing is compared."""
    sharp = policy.copy()
    with torch.no_grad():
        sharp.module.lm_head.weight.mul_(1000)
    with pytest.raises(DataError, match=r"nothing to sharpen: at 100% of 10 problems"):
        fit(open_run("a"), chains(), sharp)
    fit(open_run("b"), chains(), sharp, samples=1)


def test_a_vote_needs_answers(policy, chains, open_run) -> None:
    """Oracle: a task in which no answer can be read: refused for votes, no matter for likelihoods."""
    task = copy.copy(chains())
    task.form = replace(task.form, answer=lambda *_: None)
    with pytest.raises(DataError, match=r"'majority' needs answers.*100%"):
        fit(open_run("a"), task, policy, reward="majority")
    fit(open_run("b"), task, policy)


def test_answers_that_are_all_cut_off(policy, chains, open_run) -> None:
    """Oracle: room for one line of two: nothing may be learnt from."""
    task = copy.copy(chains())
    task.form = replace(task.form, room=lambda prompt: 8)
    with pytest.raises(DataError, match=r"None of 40 answers.*40 were cut off"):
        fit(open_run(), task, policy)


def test_an_engine_that_states_processed_logprobs(policy, chains, open_run, monkeypatch) -> None:
    """Oracle: half of each log-probability, as after a temperature; nothing is trained."""
    sample = TorchSampler.sample

    def processed(self, requests):
        done = sample(self, requests)
        return [replace(one, logprobs=tuple(x / 2 for x in one.logprobs)) for one in done]

    monkeypatch.setattr(TorchSampler, "sample", processed)
    with pytest.raises(MachineError, match="nats a token"):
        fit(open_run(), chains(), policy)


@pytest.mark.parametrize("more", [{}, RLHF])
def test_a_budget_that_ends_in_the_sampling(more, policy, chains, open_run) -> None:
    """Oracle: with nothing drawn the model itself; with a part of the prompts it learns from these."""
    nothing = fit(open_run("a", budget=Budget(generated_tokens=10)), chains(), policy, **more)
    assert nothing.model is policy and nothing.metrics == {"prompts": 0}
    some = fit(open_run("b", budget=Budget(generated_tokens=300)), chains(), policy, **more)
    assert some.metrics["prompts"] == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"samples": 0},
        {"rounds": 0},
        {"delta": 1.0},
        {"c": 0.0},
        {"looks": -1},
        {"reward": "majority", "samples": 1},
        {"variant": "rlhf", "looks": 1},
        {"variant": "rlhf", "online": False, "pairs": 3},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        Sharpening(**{**SMALL, **fields}).validate()
    Sharpening().validate()


@pytest.mark.parametrize(
    "more", [{"check": True}, {"looks": 2}, RLHF, {**RLHF, "online": False}, {**RLHF, "reward": "majority"}]
)
def test_the_cost_is_what_is_spent(more: dict[str, Any], policy, open_run) -> None:
    """Oracle: the meter, where every answer has all its tokens."""
    task = selfstudy.task("chain100?steps=2&train=10&validation=3&test=1")
    run, expected = open_run(), Sharpening(**{**SMALL, **more}).cost(task, policy)
    fit(run, task, policy, **more)
    spent = run.meter.snapshot()
    for unit in ("generated_tokens", "verifier_calls", "samples"):
        assert spent[unit] == expected[unit], unit
    assert spent["scored_tokens"] == pytest.approx(expected["scored_tokens"])
    assert 0.5 * expected["flops"] < spent["flops"] <= expected["flops"]


def test_looks_without_validation_prompts(policy, chains, open_run) -> None:
    """Oracle: a task without a validation split, refused before anything is drawn."""
    run = open_run()
    with pytest.raises(DataError, match="validation prompts"):
        fit(run, chains(), policy, looks=1)
    assert run.meter.snapshot()["generated_tokens"] == 0
