"""Training on a stream: branches, resumption, replay, and what holds against forgetting."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.files import Log
from selfstudy.core.run import Run
from selfstudy.learning import continual
from selfstudy.learning.continual import (
    Trained,
    continual_pretrain,
    next_token_loss,
)
from selfstudy.learning.snapshots import Snapshot
from selfstudy.learning.stream_batches import ContinualTraining, Windows, windows_of
from selfstudy.learning.stream_schedules import StreamSchedule
from selfstudy.models.language.bytes import byte_lm
from selfstudy.models.language.model import LanguageModel

SCHEDULE = StreamSchedule(peak=1e-2, warmup=0.2, cooldown=0.4, decay_start=0.6)
SETTINGS = ContinualTraining(steps=5, batch=4, context=8)
DOMAINS = [np.random.default_rng(k).integers(40 * k, 40 * k + 30, size=400) for k in range(3)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing is cut off by the machine here


def model() -> LanguageModel:
    return byte_lm(layers=1, width=16, context=8)


def weights(found: LanguageModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in found.module.parameters()])


def losses(found: LanguageModel) -> list[float]:
    rows = [torch.from_numpy(tokens[:36].reshape(4, 9)) for tokens in DOMAINS]
    with torch.no_grad():
        return [float(next_token_loss(found.module, row)[1]) for row in rows]


def logged(folder: Path) -> list[dict[str, Any]]:
    return Log(folder / "metrics.jsonl").read()


def trained(folder: Path, settings: ContinualTraining = SETTINGS, **more: Any) -> Trained:
    domains = DOMAINS[: more.pop("domains", 3)]
    schedule = more.pop("schedule", SCHEDULE)
    of_run = {name: more.pop(name) for name in ("budget", "checkpoint_seconds") if name in more}
    with Run(folder, {}, seed=1, **of_run) as run:
        return continual_pretrain(run, model(), domains, losses, schedule, settings, **more)


def test_the_loop_is_adamw_on_windows(tmp_path: Path) -> None:
    """Oracle: a plain loop of torch over two domains, with the pure rates, moments and windows."""
    found = trained(tmp_path, domains=2)
    plain = model().module.train()
    decayed = [w for w in plain.parameters() if w.ndim > 1]
    others = [w for w in plain.parameters() if w.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95))  # type: ignore[arg-type]
    rates = [[0.01, 0.0075, 0.0075], [0.0075] * 3]
    with Run(tmp_path / "other", {}, seed=1) as run:
        for domain in range(2):
            for n, rate in enumerate(rates[domain], start=1):
                tokens = Windows(DOMAINS).batch(run, domain, n, SETTINGS)
                scores = plain(input_ids=tokens[:, :-1]).logits
                loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
    snapshot = Snapshot.load(tmp_path / "stages" / "train-2")
    expected = torch.cat([weight.detach().flatten() for weight in plain.parameters()])
    torch.testing.assert_close(weights(snapshot.model), expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights(found.model), expected)


def test_a_branch_changes_nothing_of_what_follows(tmp_path: Path) -> None:
    """Oracle: the same bits as a stream that is never annealed: three updates a domain are its plateau."""
    trained(tmp_path / "branched")
    in_steps = replace(SCHEDULE, decay_start=None, ends="steps", warmup=1, cooldown=2)
    trained(tmp_path / "endless", replace(SETTINGS, steps=3), schedule=in_steps)
    for k in (1, 2, 3):
        one, other = (
            Snapshot.load(tmp_path / name / "stages" / f"train-{k}") for name in ("branched", "endless")
        )
        assert torch.equal(weights(one.model), weights(other.model))


def test_without_branches_it_goes_on_from_the_annealed_weights(tmp_path: Path) -> None:
    """Oracle: the first domain is the same to the bit, the second starts elsewhere."""
    on, off = trained(tmp_path / "on"), trained(tmp_path / "off", replace(SETTINGS, branch=False))
    assert torch.equal(weights(on.learnt[0]), weights(off.learnt[0]))
    assert on.losses[0] == off.losses[0] and on.losses[1] != off.losses[1]


class Kill(BaseException):
    pass


@pytest.mark.parametrize("at", [0, 1, 2, 3, 7])
def test_resumed_in_every_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Oracle: the same bits as a run that was not cut off: in warm-up, cool-down, plateau and annealing."""
    expected = trained(tmp_path / "whole", domains=2)
    calls, plain = 0, continual.update

    def update(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            raise Kill
        return plain(*arguments)

    monkeypatch.setattr(continual, "update", update)
    with pytest.raises(Kill):
        trained(tmp_path / "cut", domains=2, checkpoint_seconds=0)
    found = trained(tmp_path / "cut", domains=2, checkpoint_seconds=0)
    assert torch.equal(weights(found.model), weights(expected.model)) and found.losses == expected.losses


def test_a_later_run_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    """Oracle: the rates of the log, which begin on the plateau; annealed and rising states are refused."""
    trained(tmp_path / "first", domains=1)
    snapshot = Snapshot.load(tmp_path / "first" / "stages" / "train-1")
    longer = replace(SETTINGS, steps=10)
    trained(tmp_path / "second", longer, domains=1, start=snapshot)
    rates = [line["rate"] for line in logged(tmp_path / "second")]
    assert rates[:6] == [0.0075] * 6 and rates[-1] == pytest.approx(1e-4)
    annealed = Snapshot.load(tmp_path / "first" / "stages" / "anneal-1")
    with pytest.raises(UsageError, match=r"update 5 of 5, and annealing starts after update 3"):
        trained(tmp_path / "third", longer, domains=1, start=annealed)
    with pytest.raises(UsageError, match="holds no snapshot"):
        Snapshot.load(tmp_path)


def test_a_model_that_never_trains_forgets_nothing(tmp_path: Path) -> None:
    """Oracle: rates of 1e-30, at which no weight of 32 bits moves: every row of the matrix is the same."""
    still = replace(SCHEDULE, peak=1e-30)
    found = trained(tmp_path, replace(SETTINGS, weight_decay=0.0), schedule=still).losses
    assert found[0] == found[1] == found[2]


def test_replay_mixes_earlier_domains(tmp_path: Path) -> None:
    """Oracle: each domain has tokens of its own, so a window says where it is from; four standard errors."""
    settings = replace(SETTINGS, batch=20, replay=0.2)
    with Run(tmp_path, {}) as run:
        for task in range(3):
            rows = Windows(DOMAINS).batch(run, task, 1, settings)
            kinds = (rows[:, 0] // 40).tolist()
            assert kinds.count(task) == (20 if task == 0 else 16)
            assert set(kinds) <= set(range(task + 1))
        many = torch.cat([Windows(DOMAINS).batch(run, 2, n, settings)[:, 0] // 40 for n in range(60)])
    assert abs(int((many == 0).sum()) - 120) < 4 * (240 / 4) ** 0.5


def test_gdumb_begins_anew_on_its_memory(tmp_path: Path) -> None:
    """Oracle: the second domain's rates warm up again, its windows are those of the memory, both kinds."""
    settings = replace(SETTINGS, against="gdumb", memory=6, batch=16)
    found = trained(tmp_path, settings, domains=2)
    rates = [line["rate"] for line in logged(tmp_path)]
    assert rates[:5] == rates[5:]
    with Run(tmp_path, {}, seed=1) as run:
        source = windows_of(run, DOMAINS, 1, settings)
        rows = torch.cat([source.batch(run, 1, n, settings) for n in range(1, 6)])
    assert len(rows.unique(dim=0)) == 6
    assert {int(kind) for kind in rows[:, 0] // 40} == {0, 1}
    assert len(found.learnt) == 2


@pytest.mark.parametrize("against", ["mas", "lwf"])
def test_terms_against_forgetting_hold_back(tmp_path: Path, against: Any) -> None:
    """Oracle: a huge weight of the term leaves the second domain unlearnt, and none is in the first."""
    plain = trained(tmp_path / "plain", domains=2)
    settings = replace(SETTINGS, against=against, strength=1e4)
    held = trained(tmp_path / "held", settings, domains=2)
    assert held.losses[0] == plain.losses[0]
    assert held.losses[1][1] > plain.losses[1][1]


def test_mas_weighs_by_what_was_read_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: before each domain but the first: importance from windows of the domain before alone, on the
    state that was kept, added to that of earlier ones; the anchor is that state."""
    asked: list[tuple[set[int], torch.Tensor, bool]] = []
    anchors: list[torch.Tensor] = []
    importance, guard = continual.memory_importance, continual.importance_guard

    def noted(found: LanguageModel, batches: Any, before: Any) -> Any:
        batches = list(batches)
        kinds = {int(kind) for kind in torch.cat(batches).flatten() // 40}
        asked.append((kinds, weights(found), before is not None))
        return importance(found, batches, before)

    def anchored(found: Any, start: LanguageModel) -> Any:
        anchors.append(weights(start))
        return guard(found, start)

    monkeypatch.setattr(continual, "memory_importance", noted)
    monkeypatch.setattr(continual, "importance_guard", anchored)
    trained(tmp_path, replace(SETTINGS, against="mas", replay=0.25))
    kept = [weights(Snapshot.load(tmp_path / "stages" / f"train-{k}").model) for k in (1, 2)]
    assert [(kinds, added) for kinds, _, added in asked] == [({0}, False), ({1}, True)]
    for state, (_, of, _), anchor in zip(kept, asked, anchors, strict=True):
        assert torch.equal(of, state) and torch.equal(anchor, state)


def test_the_budget_ends_it(tmp_path: Path) -> None:
    """Oracle: four windows an update, of which 28 samples allow seven."""
    found = trained(tmp_path, budget=Budget(samples=28))
    assert [line["n"] for line in logged(tmp_path)] == [1, 2, 3, 4, 5, 1, 2]
    assert len(found.losses) == 3


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"steps": 0}, "steps"),
        ({"replay": 1.0}, "replay"),
        ({"replay": 0.05}, "replay"),
        ({"replay": 0.5, "against": "gdumb"}, "memory"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"clip": 0.0}, "clip"),
    ],
)
def test_settings_that_cannot_be_right(fields: dict[str, Any], word: str) -> None:
    """Oracle: the field is named."""
    with pytest.raises(UsageError, match=word):
        replace(SETTINGS, **fields).validate()


def test_data_that_cannot_be_trained_on(tmp_path: Path) -> None:
    """Oracle: a context of nine for a model of eight, a domain of nine tokens for windows of nine, and two
    remembered windows for three domains."""
    with pytest.raises(UsageError, match=r"2 windows .* 3 domains"):
        trained(tmp_path / "few", replace(SETTINGS, against="gdumb", memory=2))
    with pytest.raises(UsageError, match=r"9 tokens.*room for 8"):
        trained(tmp_path / "long", replace(SETTINGS, context=9))
    with Run(tmp_path / "short", {}) as run, pytest.raises(DataError, match=r"Domain 1 .* 9 tokens"):
        continual_pretrain(run, model(), [DOMAINS[0][:9]], losses, SCHEDULE, SETTINGS)


def test_windows_depend_on_seed_domain_and_update_alone(tmp_path: Path) -> None:
    """Oracle: of two equal domains each has windows of its own; the same names give the same ones."""
    source, found = Windows([DOMAINS[0], DOMAINS[0]]), {}
    for seed in (0, 1):
        with Run(tmp_path / str(seed), {}, seed=seed) as run:
            for task, n in ((0, 1), (0, 2), (1, 1)):
                found[seed, task, n] = source.batch(run, task, n, SETTINGS)
            assert torch.equal(source.batch(run, 0, 1, SETTINGS), found[seed, 0, 1])
    batches = [batch.flatten().tolist() for batch in found.values()]
    assert all(batches.count(batch) == 1 for batch in batches)
