"""What is particular to DNO: prompts of each round, replay, references, judges, what it says and refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.preferences import Preference
from selfstudy.methods.reasoning import dno
from selfstudy.methods.reasoning.dno import Dno
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.signals.named_judges import calls_of
from selfstudy.tasks.preferences import PreferenceTask
from selfstudy.tasks.reasoning import Item

SMALL = {
    "rounds": 2,
    "samples": 3,
    "temperature": 2.0,
    "batch": 4,
    "preference": Preference(steps=2, batch=8, learning_rate=1e-4),
}


def fit(run, task, policy, **fields: Any):
    return Dno(**{**SMALL, **fields}).fit(task.metered(run.meter), policy, run)


def longest(prompt: str, outputs: list[str]) -> list[int]:
    return [len(text) for text in outputs]


@pytest.fixture(scope="module")
def small() -> LanguageModel:
    """An untrained model of one layer with an end token; it writes noise."""
    return random_tiny_model(1, 32, end=True)


def prompts(judge: Callable[..., Any] = longest, train: int = 6, gold: str | None = "5", **more: Any):
    """A task of prompts with references of one kind."""
    items = [Item(f"{i}+1:", gold or "", (gold,) if gold else None) for i in range(train)]
    held = [Item(f"{i}-1:", "5", ("5",)) for i in range(16)]
    return PreferenceTask("p", {"train": items, "test": [], "validation": held}, judge, tokens=8, **more)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collects what `prefer` is called with."""
    calls: list[dict[str, Any]] = []
    real = dno.prefer

    def prefer(model, pairs, settings, run, name, *, reference=None):
        calls.append({"model": model, "pairs": pairs, "settings": settings, "reference": reference})
        calls[-1]["result"] = real(model, pairs, settings, run, name, reference=reference)
        return calls[-1]["result"]

    monkeypatch.setattr(dno, "prefer", prefer)
    return calls


def same(a: LanguageModel, b: LanguageModel) -> bool:
    weights = zip(a.module.parameters(), b.module.parameters(), strict=True)
    return all(torch.equal(one, other) for one, other in weights)


def test_each_round_has_prompts_of_its_own(policy, chains, open_run, records) -> None:
    """Oracle: the rounds' prompts are disjoint, of equal number, and together all; tokens are counted."""
    run, task = open_run(), chains(train=8)
    found = fit(run, task, policy)
    first, second = (records(run)[f"outputs-{t}"] for t in range(2))
    ids = [[record["problem"] for record in part] for part in (first, second)]
    assert len(ids[0]) == len(ids[1]) == 4
    assert sorted(ids[0] + ids[1]) == sorted(problem.id for problem in task.train)
    spent = run.meter.snapshot()
    drawn = [record["tokens"] for record in first + second]
    assert (
        sum(drawn) == sum(r["generated_tokens"] for r in found.metrics["rounds"]) == spent["generated_tokens"]
    )
    assert spent["oracle_labels"] == 8 and spent["verifier_calls"] == 8 * 4


def test_the_verifier_orders_outputs(policy, chains, open_run, records) -> None:
    """Oracle: the reference is right; it beats each wrong sample and ties with right ones."""
    run, task = open_run(), chains()
    fit(run, task, policy, rounds=1)
    by_id = {problem.id: problem for problem in task.train}
    for record in records(run)["outputs-0"]:
        right = [task.verify(by_id[record["problem"]], task.steps(text)) for text in record["texts"]]
        assert right[-1] and record["gold"] == 3
        expected = (np.sign(np.subtract.outer(right, right, dtype=float)) + 1) / 2
        np.testing.assert_array_equal(record["wins"], expected)


def test_pairs_learn_the_tokens_that_were_drawn(policy, chains, open_run, records, spied) -> None:
    """Oracle: the records' own token ids; a reference has those of its text."""
    run = open_run()
    fit(run, chains(), policy, rounds=1)
    rows = {record["prompt"]: record for record in records(run)["outputs-0"]}
    for pair in spied[0]["pairs"]:
        ids = rows[pair.prompt]["ids"]
        assert list(pair.chosen) in ids and list(pair.rejected) in ids
        assert policy.decode(ids[-1]) == rows[pair.prompt]["texts"][-1]


def test_the_reference_moves_with_the_rounds(small, open_run, spied) -> None:
    """Oracle: round 2 starts from, and is held to, what round 1 gave; with "base" held to the given model."""
    fit(open_run("previous"), prompts(), small, validation=0)
    fit(open_run("base"), prompts(), small, validation=0, reference="base")
    first, second, third, fourth = spied
    assert first["model"] is first["reference"] is small
    assert same(second["model"], first["result"]) and second["reference"] is second["model"]
    assert third["reference"] is small and fourth["reference"] is small
    assert same(fourth["model"], third["result"]) and not same(fourth["model"], small)


def test_outputs_come_from_the_policy_of_their_round(small, open_run, spied, monkeypatch) -> None:
    """Oracle: who draws: the given model in the first round, what it gave in the second."""
    drew: list[LanguageModel] = []
    real = dno.draw_groups
    monkeypatch.setattr(
        dno, "draw_groups", lambda policy, *a, **k: drew.append(policy) or real(policy, *a, **k)
    )
    fit(open_run(), prompts(), small, validation=0)
    assert len(drew) == 2 and drew[0] is small and same(drew[1], spied[0]["result"])


def test_old_pairs_come_again(small, open_run, spied) -> None:
    """Oracle: half as many old pairs as there are new ones, from round 1; the rate falls by its factor."""
    fit(open_run(), prompts(), small, validation=0, replay=0.5, rate_factor=0.1)
    first, second = ({(p.prompt, p.chosen, p.rejected) for p in call["pairs"]} for call in spied)
    old = first & second
    assert len(old) == min(len(first), int(0.5 * (len(second) - len(old))))
    assert spied[1]["settings"].learning_rate == pytest.approx(1e-5)


def test_lookahead_trains_the_given_model_on_all_pairs(small, open_run, spied) -> None:
    """Oracle: the last training starts from the given model with the new pairs of both rounds."""
    found = fit(open_run(), prompts(), small, validation=0, replay=0.0, lookahead=True)
    *rounds, last = spied
    assert last["model"] is small and last["pairs"] == [p for call in rounds for p in call["pairs"]]
    assert same(found.model, last["result"])


def test_spin_asks_nobody(small, open_run, records) -> None:
    """Oracle: no comparison; the reference over each of the samples that differ from it."""
    run = open_run()
    found = fit(run, prompts(), small, validation=0, pairing="reference-always")
    assert run.meter.snapshot()["verifier_calls"] == 0
    for one in found.metrics["rounds"]:
        assert one["pairs"] == one["gold>student"] and one["student_over_gold"] is None
    assert all(record["wins"] is None for record in records(run)["outputs-0"])


def test_soft_targets(small, open_run, spied) -> None:
    """Oracle: sigmoid of a difference of win rates, which lies within [-1, 1]."""
    fit(open_run(), prompts(), small, validation=0, targets="soft", gap=0.0, student_gap=0.0, least=0.0)
    targets = np.array([pair.target for call in spied for pair in call["pairs"]])
    assert len(set(targets)) > 1 and targets.min() >= 1 / (1 + np.e) and targets.max() <= np.e / (1 + np.e)


def test_the_best_round_on_validation_is_returned(small, open_run, monkeypatch) -> None:
    """Oracle: of made-up win rates 0.7 and 0.4 the first round's model comes back."""
    rates = iter([0.7, 0.4])
    known = lambda *_: {"win_rate": next(rates), "length_controlled": 0.5}  # noqa: E731
    monkeypatch.setattr(Dno, "_against_base", known)
    found = fit(open_run(), prompts(), small)
    assert found.metrics["best_round"] == 1 and same(found.model, found.parts["policy-1"])
    assert not same(found.parts["policy-1"], found.parts["policy-2"])


@pytest.mark.parametrize(("rates", "said"), [((0.4, 0.3), True), ((0.4, 0.5), False), ((None, None), False)])
def test_rounds_that_all_lose_are_said(rates, said: bool, small, open_run, monkeypatch) -> None:
    """Oracle: of made-up win rates the best is below 1/2, or not, or not known."""
    known = iter(rates)
    monkeypatch.setattr(Dno, "_against_base", lambda *_: {"win_rate": next(known), "length_controlled": None})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fit(open_run(), prompts(), small)
    told = [str(one.message) for one in found if "No round wins" in str(one.message)]
    assert len(told) == said and all("the best, round 1, wins 40.0%" in one for one in told)


def test_wins_and_lengths_are_reported(small, open_run) -> None:
    """Oracle: a judge of lengths: longer outputs win; figures of each round, and pictures of them."""
    quick = Preference(steps=8, batch=32, learning_rate=3e-2)
    found = fit(open_run(), prompts(), small, samples=6, temperature=1.0, batch=16, preference=quick)
    first, last = found.metrics["rounds"]
    assert last["length"] > first["length"] and last["win_rate"] > 0.5
    assert first["student>gold"] > 0 and first["cyclic"] == 0
    assert len(found.pictures) == 3


def test_the_cost_is_what_is_spent(policy, open_run, records) -> None:
    """Oracle: the meter, where every output has all its tokens; the given model draws for validation once."""
    run, task = open_run(), selfstudy.task("chain100?steps=2&train=8&validation=6&test=1")
    settings = {**SMALL, "validation": 5}
    expected = Dno(**settings).cost(task, policy)
    fit(run, task, policy, **settings)
    spent = run.meter.snapshot()
    for unit in ("generated_tokens", "verifier_calls", "oracle_labels", "samples"):
        assert spent[unit] == expected[unit], unit
    assert 0.5 * expected["flops"] < spent["flops"] <= expected["flops"]
    found = records(run)
    assert len(found["validation-base"]) == 5
    assert sum(one["tokens"] for name in found for one in found[name]) == spent["generated_tokens"]


@pytest.mark.parametrize(
    ("judge", "calls"), [("task", 4), ("value", 0), ("pairwise", 0), ("rubric", 0), ("taste:better", 6)]
)
def test_what_a_judge_asks_of_the_verifier(judge: str, calls: int, chains) -> None:
    """Oracle: by hand: a grade for each of four outputs, a comparison of every two, or nothing."""
    assert calls_of(judge, chains(), 4) == calls
    assert calls_of("task", prompts(), 4) == 6


def test_references_may_be_missing(small, open_run, records) -> None:
    """Oracle: samples alone; no label is counted."""
    run = open_run()
    found = fit(run, prompts(gold=None), small, validation=0)
    assert run.meter.snapshot()["oracle_labels"] == 0
    assert all(record["gold"] is None for record in records(run)["outputs-0"])
    assert found.metrics["rounds"][0]["student_over_gold"] is None


def test_no_clear_cut_pair_is_an_error(policy, open_run) -> None:
    """Oracle: a judge that finds all equal; the message has the histogram: all win rates are 1/2."""
    with pytest.raises(DataError, match=r"No two outputs .* 24 from 0\.40 to 0\.60"):
        fit(open_run(), prompts(lambda prompt, outputs: [1.0] * len(outputs)), policy, rounds=1)


def test_spin_without_references_is_an_error(small, open_run) -> None:
    """Oracle: nothing is always better."""
    with pytest.raises(DataError, match="needs one for each"):
        fit(open_run(), prompts(gold=None), small, pairing="reference-always")


def test_a_reference_that_always_wins_is_said_once(policy, open_run) -> None:
    """Oracle: a judge that knows the reference; the note comes after the first round, and only then."""
    judge = lambda prompt, outputs: [float(text == "5") for text in outputs]  # noqa: E731
    with pytest.warns(UserWarning, match="the reference won all") as said:
        fit(open_run(), prompts(judge), policy, validation=0)
    assert len(said) == 1


def lopsided(prompt: str, outputs: list[str]) -> np.ndarray:
    lengths = np.array([len(text) for text in outputs])
    return 0.1 + 0.8 * (np.subtract.outer(lengths, lengths) > 0)  # both orders of equals sum to 0.2


def test_a_judge_that_contradicts_itself(small, open_run) -> None:
    """Oracle: P(a, b) + P(b, a) = 0.2 for equals: noted and averaged, or refused if strict."""
    with pytest.warns(UserWarning, match="depends on the order"):
        fit(open_run("kind"), prompts(lopsided), small, validation=0)
    with pytest.raises(DataError, match="depends on the order"):
        fit(open_run("strict"), prompts(lopsided), small, validation=0, strict=True)


def test_a_nucleus_of_one_token(small, open_run, records) -> None:
    """Limit: all samples of a prompt are its likeliest output, at any temperature."""
    run = open_run()
    with pytest.raises(DataError, match="No two outputs"):
        fit(run, prompts(gold=None), small, top_p=1e-9, gap=0.0, student_gap=0.1)
    rows = records(run)["outputs-0"]
    assert rows and all(len(set(row["texts"])) == 1 for row in rows)


def test_fewer_prompts_than_rounds(small, open_run) -> None:
    """Oracle: three rounds of two prompts."""
    with pytest.raises(DataError, match="prompts of its own"):
        fit(open_run(), prompts(train=2), small, rounds=3)


@pytest.mark.parametrize(
    "fields",
    [
        {"rounds": 0},
        {"samples": 1},
        {"temperature": 0.0},
        {"top_p": 0.0},
        {"gap": -0.1},
        {"rate_factor": 0.0},
        {"judge": "coin"},
        {"pairing": "reference-always", "targets": "soft"},
    ],
)
def test_fields_that_cannot_be(fields: dict[str, Any]) -> None:
    """Oracle: each is refused before any work."""
    with pytest.raises(UsageError):
        Dno(**fields).validate()


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_a_spent_budget_ends_in_a_model(small, open_run, share: float) -> None:
    """Oracle: the limit is kept, and what was finished is given back, without a warning."""
    run = open_run("free")
    fit(run, prompts(), small)
    limit = share * run.meter.snapshot()["generated_tokens"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = open_run("limited", budget=Budget(generated_tokens=limit))
        found = fit(run, prompts(), small)
    assert run.meter.snapshot()["generated_tokens"] <= limit
    assert isinstance(found.model, LanguageModel)


def test_resumed_equals_uninterrupted(small, open_run, monkeypatch) -> None:
    """Oracle: killed when the second round's training is reached, then gone on with: equal weights."""
    whole = fit(open_run("whole"), prompts(), small)
    real, left = dno.prefer, [1]

    def killed(*args: Any, **more: Any) -> LanguageModel:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return real(*args, **more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(dno, "prefer", killed)
        fit(open_run("cut"), prompts(), small)
    resumed = fit(open_run("cut"), prompts(), small)
    assert same(whole.model, resumed.model) and whole.metrics == resumed.metrics
