"""What is particular to MM-UPT: votes as rewards, gold answers in their place, when it stops, refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.advantages import group_advantages
from selfstudy.learning.policy_gradient import Collection, PolicyGradient
from selfstudy.learning.policy_losses import clipped_loss, kl_estimate
from selfstudy.methods.reasoning import mm_upt
from selfstudy.methods.reasoning.grpo import Grpo
from selfstudy.methods.reasoning.mm_upt import MmUpt, _Calm
from selfstudy.models.language.tiny_vision import random_tiny_vision_model
from selfstudy.search.rollouts import Answer, Group, draw_groups
from selfstudy.signals.rewards import agreement, verified
from selfstudy.tasks.digit_sums import CHARACTERS, digit_sums

GRADIENT = PolicyGradient(learning_rate=1e-4, clip_high=0.3, dual_clip=3.0, kl=0.01)
SMALL: dict[str, Any] = {"steps": 2, "problems": 4, "samples": 4, "temperature": 1.5, "gradient": GRADIENT}


def fit(run, task, policy, **fields: Any):
    return MmUpt(**{**SMALL, **fields}).fit(task.metered(run.meter), policy, run)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.module.parameters(), b.module.parameters(), strict=True))


def test_votes_by_hand() -> None:
    """Oracle: counted by hand; of equals the first; None votes only where it is told to."""
    assert agreement(["4", "4", "5", None]) == [1, 1, 0, 0]
    assert agreement(["4", "5"]) == [1, 0]
    assert agreement([None, None, "5"]) == [0, 0, 1]
    assert agreement([None, None, "5"], among_none=True) == [1, 1, 0]
    assert agreement([None, None]) == [0, 0]


def test_what_a_vote_counts() -> None:
    """Oracle: by hand. By texts 7 wins over 1/2 and 0.5, one each; by meaning these two together do."""
    equal = {("1/2", "0.5"), ("0.5", "1/2")}

    def equivalent(a: str, b: str) -> bool:
        return a == b or (a, b) in equal

    answers = ["7", "1/2", "7", "0.5", "1/2"]
    assert agreement(answers, equivalent) == [1, 0, 1, 0, 0]
    assert agreement(answers, equivalent, vote="canonical") == [0, 1, 0, 1, 1]
    assert agreement(["0.5", "1/2", "7"], equivalent) == [1, 1, 0]  # rewarded by meaning in both


def test_the_numbers_of_the_paper() -> None:
    """Oracle: closed forms: 9 of 10 agree; the dual clip; the distance at 0 and its slope."""
    nine = group_advantages(np.array([[1.0] * 9 + [0.0]]))[0]
    assert np.allclose(nine[[0, 9]], [0.1 / 0.1**0.5, -0.9 / 0.1**0.5], atol=1e-4)
    assert np.round(nine[[0, 9]], 3).tolist() == [0.316, -2.846]
    assert not group_advantages(np.ones((1, 10))).any()

    def loss(ratio: float, advantage: float) -> float:
        at = torch.tensor([[ratio]]), torch.tensor([[advantage]])
        return float(clipped_loss(*at, low=0.2, high=0.3, dual=3.0))

    assert loss(10.0, -1.0) == 3.0
    assert loss(10.0, 1.0) == pytest.approx(-1.3)
    assert loss(0.5, 1.0) == pytest.approx(-0.5)
    log_policy = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    distance = kl_estimate(log_policy, torch.tensor([-1.0, -1.0, -1.0]), "k3")
    assert distance[0] == 0 and bool((distance[1:] > 0).all())
    distance.sum().backward()
    assert log_policy.grad is not None
    assert log_policy.grad.sign().tolist() == [0, -1, 1]  # descent moves each towards the reference


def test_gold_answers_are_supervised_grpo(policy, chains, open_run) -> None:
    """Oracle: the weights of GRPO with the same settings, bit for bit; those of votes are others."""
    task, shared = chains(train=12), {k: SMALL[k] for k in ("steps", "problems", "temperature", "gradient")}
    run = open_run("grpo")
    grpo = Grpo(**shared, group=SMALL["samples"], filter=False).fit(task.metered(run.meter), policy, run)
    gold = fit(open_run("gold"), task, policy, reward="gold", top_p=1.0)
    voted = fit(open_run("voted"), task, policy, top_p=1.0)
    assert same(gold.model, grpo.model)
    assert not same(voted.model, gold.model)


def test_nothing_but_questions_is_read(policy, chains, open_run) -> None:
    """Oracle: a verifier and an oracle that raise; with gold answers the same task does raise."""

    def never(*_: object) -> Any:
        raise AssertionError("the truth was asked for")

    task = chains()
    task._doors = task._doors._replace(grade=never, solve=never)
    fit(open_run("voted"), task, policy)
    fit(open_run("random"), task, policy, reward="random")
    with pytest.raises(AssertionError):
        fit(open_run("gold"), task, policy, reward="gold")


def test_random_rewards_have_the_same_share(policy, chains, open_run) -> None:
    """Oracle: in the first step, drawn by the same policy, each problem has as many ones, elsewhere."""
    lines = {}
    for labels in ("majority", "random"):
        run = open_run(labels)
        fit(run, chains(), policy, reward=labels, steps=1)
        lines[labels] = run.metrics()[0]
    assert lines["random"]["reward"] == lines["majority"]["reward"] < 1
    assert lines["random"]["constant"] == lines["majority"]["constant"]
    assert lines["random"]["norm"] != lines["majority"]["norm"]


def test_random_rewards_stay_within_their_problem(policy, chains, open_run) -> None:
    """Oracle: as many ones for each problem as votes give, in another order for some."""
    task, run = chains(), open_run()
    keys = [[run.key(problem.id, i) for i in range(6)] for problem in task.train]
    groups = draw_groups(policy, task, task.train, run.meter, keys=keys, temperature=1.5)
    votes, dealt = (MmUpt(reward=one)._reward(task, run, 0)(groups) for one in ("majority", "random"))
    assert votes.sum(1).tolist() == dealt.sum(1).tolist() and len(set(votes.sum(1))) > 1
    assert (votes != dealt).any()


def test_an_expected_step_of_a_tabular_policy() -> None:
    """Oracle: the enumerated gradient of the expected reward under votes, over all outcomes of four draws.

    Simulated groups give the same direction, and it raises the modal answer's share and no other.
    """
    logits = torch.zeros(3, dtype=torch.float64)
    logits[0] = 0.7  # the modal answer has 0.50, the others 0.25 each
    p = logits.softmax(0)

    def gradient(group: tuple[int, ...]) -> torch.Tensor:
        rewards = np.array([agreement([str(a) for a in group])])
        advantages = torch.from_numpy(group_advantages(rewards)[0])
        scores = torch.eye(3, dtype=torch.float64)[list(group)] - p  # of log p(a) by the logits
        return (advantages[:, None] * scores).mean(0)

    known = {group: gradient(group) for group in itertools.product(range(3), repeat=4)}
    exact = sum((p[list(group)].prod() * found for group, found in known.items()), torch.zeros(3))
    draws = np.random.default_rng(0).choice(3, size=(20_000, 4), p=p.numpy())
    simulated = torch.stack([known[tuple(group)] for group in draws.tolist()])
    error = simulated.std(0) / len(draws) ** 0.5
    assert bool(((simulated.mean(0) - exact).abs() < 4 * error).all())
    assert exact[0] > 0 > exact[1] and exact[2] == pytest.approx(float(exact[1]), abs=0.02)
    moved = (logits + 0.1 * exact).softmax(0)
    assert moved[0] > p[0] and moved[1] < p[1]


def test_answers_that_cannot_be_read(policy, chains, open_run) -> None:
    """Oracle: too little room for the second line, so that no answer is whole: refused with three of them."""
    task = chains()
    task.room = lambda problem: 8
    with pytest.raises(DataError, match=r"16 of the 16 answers of the first step.*Three of them") as said:
        fit(open_run(), task, policy)
    assert str(said.value).count("\n  '") == 3


def test_it_ends_where_all_agree(policy, chains, open_run) -> None:
    """Oracle: nearly greedy samples all agree: ten steps are taken, and no weight has moved."""
    run = open_run()
    with pytest.warns(UserWarning, match="same reward"):
        found = fit(run, chains(), policy, steps=30, temperature=1e-3)
    steps = [line for line in run.metrics() if "constant" in line]
    assert len(steps) == found.metrics["steps"] == mm_upt.SETTLED
    assert found.metrics["constant_groups_last"] == 1 and same(found.model, policy)


def test_steps_in_a_row_are_counted_across_a_stop() -> None:
    """Oracle: counted by hand, with the count carried over as by a checkpoint; dispute resets it."""
    calm, other = _Calm(), _Calm()
    quiet, loud = Collection((), np.ones((1, 2))), Collection((None,), np.ones((1, 2)))  # type: ignore[arg-type]
    assert not any(calm.after(quiet) for _ in range(mm_upt.SETTLED - 1))
    other.load_state_dict(calm.state_dict())
    assert other.after(quiet)
    assert not calm.after(loud) and calm.state_dict() == {"steps": 0}


def test_looks_change_nothing(policy, open_run) -> None:
    """Oracle: the weights without looks; pass@1 and votes counted again from the same draws."""
    task = selfstudy.task("chain100?steps=2&train=10&validation=6&test=1")
    blind = fit(open_run("blind"), task, policy, monitor=0)
    seen = fit(open_run("seen"), task, policy, monitor=5, look_every=1)
    assert same(blind.model, seen.model)
    assert "pass_at_1_first" not in blind.metrics
    assert 0 <= seen.metrics["pass_at_1_last"] <= 1
    assert [p["title"] for p in seen.pictures] == ["Validation problems", "Agreement", "Entropy"]
    assert len(seen.pictures[0]["traces"][0]["x"]) == SMALL["steps"] + 1


def test_looks_vote_as_the_rewards_do(policy, open_run, monkeypatch) -> None:
    """Oracle: by hand: of 7, 7, 1/2, 0.5, 1/2 texts elect 7, which is wrong, and meanings 1/2."""
    task = selfstudy.task("chain100?steps=2&train=10&validation=1&test=1")
    texts = ("7", "7", "1/2", "0.5", "1/2")
    task.form = replace(task.form, answer=lambda question, steps: steps[0])
    monkeypatch.setattr(task, "_equivalent", lambda question, a, b: float({a, b} == {"1/2", "0.5"}))
    monkeypatch.setattr(mm_upt, "verified", lambda task: lambda groups: np.array([[0.0, 0, 1, 1, 1]]))

    def drawn(policy, task, problems, meter, **_):
        answers = tuple(Answer(problems[0], text, (text,), (1,), "end") for text in texts)
        return [Group(problems[0], (1,), answers)]

    monkeypatch.setattr(mm_upt, "draw_groups", drawn)
    run = open_run()
    for vote, right in (("string", 0.0), ("canonical", 1.0)):
        looked = MmUpt(vote=vote, samples=5)._look(task, policy, run, 1)
        assert looked == {"pass_at_1": 0.6, "vote_accuracy": right}


def test_a_base_that_votes_cannot_better(policy, open_run, monkeypatch) -> None:
    """Oracle: votes for a wrong answer wherever there is one: said once, before anything is learnt."""
    task = selfstudy.task("chain100?steps=2&train=10&validation=4&test=1")
    wrong = lambda task, **_: lambda groups: 1 - verified(task)(groups)  # noqa: E731
    monkeypatch.setattr(mm_upt, "majority", wrong)
    with pytest.warns(UserWarning, match="no gain is to be expected"):
        fit(open_run(), task, policy)


def test_a_budget_may_end_in_a_look(policy, open_run) -> None:
    """Oracle: a budget for all steps but not for the last look: the policy is there, the look is not."""
    task = selfstudy.task("chain100?steps=2&train=10&validation=4&test=1")
    free = open_run("free")
    whole = fit(free, task, policy, monitor=4)
    spent = free.meter.snapshot()["generated_tokens"]
    found = fit(open_run("cut", budget=Budget(generated_tokens=spent - 1)), task, policy, monitor=4)
    assert same(found.model, whole.model)
    assert found.metrics["pass_at_1_last"] == found.metrics["pass_at_1_first"]


def test_images_survive_a_stop(open_run, monkeypatch) -> None:
    """Oracle: the fit that was not cut off in its third step; and weights of the vision tower that moved."""
    task = digit_sums(labels=False, train=6, validation=0, test=1)
    # An untrained model writes no solutions: its first character is read as the answer.
    task.form = replace(task.form, answer=lambda question, steps: steps[0][:1] if steps else None)
    model = random_tiny_vision_model(1, 24, vocabulary=CHARACTERS)
    whole = fit(open_run("whole"), task, model, steps=4)
    draw = mm_upt.draw_step

    def cut(policy, task, run, step, *rest):
        if step == 2:
            raise KeyboardInterrupt
        return draw(policy, task, run, step, *rest)

    monkeypatch.setattr(mm_upt, "draw_step", cut)
    with pytest.raises(KeyboardInterrupt):
        fit(open_run("cut", checkpoint_seconds=0.0), task, model, steps=4)
    monkeypatch.setattr(mm_upt, "draw_step", draw)
    resumed = fit(open_run("cut", checkpoint_seconds=0.0), task, model, steps=4)
    assert same(resumed.model, whole.model)
    before, after = (dict(m.module.named_parameters()) for m in (model, whole.model))
    assert any("vision" in name and not torch.equal(before[name], after[name]) for name in before)


def test_the_cost_is_what_is_spent(policy, open_run) -> None:
    """Oracle: the meter, with two passes, so that the policy reads its answers before it moves."""
    task = selfstudy.task("chain100?steps=2&train=10&validation=4&test=1")
    fields = {"look_every": 1, "gradient": replace(GRADIENT, passes=2)}
    run, expected = open_run(), MmUpt(**{**SMALL, **fields}).cost(task, policy)
    fit(run, task, policy, **fields)
    spent = run.meter.snapshot()
    for unit in ("generated_tokens", "verifier_calls", "samples"):
        assert spent[unit] == expected[unit], unit
    assert spent["flops"] == pytest.approx(expected["flops"], rel=0.1)


def test_a_nucleus_of_one_token(policy, open_run) -> None:
    """Limit: all samples of a problem agree, at any temperature, so that there is nothing to learn."""
    task = selfstudy.task("chain100?steps=2&train=10&validation=4&test=1")
    with pytest.warns(UserWarning), pytest.raises(DataError, match="Nothing could be learnt"):
        fit(open_run(), task, policy, top_p=1e-9)


def test_two_samples_are_no_majority(policy, chains, open_run) -> None:
    """Oracle: one is refused, two are said to be few, three are not."""
    with pytest.raises(UsageError, match="samples is 1"):
        MmUpt(samples=1).validate()
    with pytest.warns(UserWarning, match="samples=2"):
        fit(open_run(), chains(), policy, samples=2, steps=1, temperature=2.5)


@pytest.mark.parametrize(
    "fields",
    [{"steps": 0}, {"problems": 0}, {"temperature": 0.0}, {"top_p": 1.5}, {"monitor": -1}, {"look_every": 0}],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        MmUpt(**{**SMALL, **fields}).validate()
    MmUpt().validate()
