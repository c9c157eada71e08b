"""HAST: the outer loop, what is asked and of whom, budgets, and what is handed back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import BudgetSpent, DataError, UsageError, Waiting
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import Texts, Vectors
from selfstudy.data.label_store import Person
from selfstudy.data.oracles import HiddenLabels, Program
from selfstudy.learning import pool_learners
from selfstudy.learning.pair_tuning import PairTuning
from selfstudy.learning.self_training import Round
from selfstudy.methods.pseudolabels.hast import Hast
from selfstudy.signals.evidence import PseudoLabels
from selfstudy.signals.pseudo_labels import SELECTORS
from selfstudy.signals.queries import QUERIES
from selfstudy.tasks.pools import PoolTask

QUICK = PairTuning(pairs=256, adapted=8)
CLASSES = ("ant", "bee", "cat")


def pool(count: int = 90, labels: int = 6, *, oracle: Any = None, held: int = 60, seed: int = 0) -> PoolTask:
    """Vectors of three classes in 12 directions, a few labelled."""
    rng = np.random.default_rng(seed)

    def drawn(size: int) -> Vectors:
        truth = rng.permutation(np.arange(size) % 3)
        values = rng.normal(size=(size, 12)) * 0.8 + 2 * np.eye(3, 12)[truth]
        return Vectors("points", values.astype(np.float32), truth.astype(np.int64), CLASSES)

    whole = drawn(count)
    given = np.full(count, UNKNOWN)
    at = np.concatenate([np.flatnonzero(whole.labels == code)[: labels // 3] for code in range(3)])
    given[at] = whole.labels[at]
    splits: Any = {"validation": drawn(held), "test": drawn(60)}
    return PoolTask("points", whole, given, CLASSES, splits, oracle or HiddenLabels(whole.labels, CLASSES))


def fit(folder: Path, task: PoolTask, *, budget: Budget | None = None, seed: int = 0, **fields: Any) -> Fit:
    method = Hast(**{"queries": 3, "batch": 4, "adapter": QUICK, **fields})
    method.validate()
    with Run(folder, {}, budget=budget, seed=seed) as run:
        return method.fit(task.metered(run.meter), task.prepared(selfstudy.model("flat")), run)


def right(task: PoolTask, fitted: Fit) -> float:
    return float(np.mean(task.evaluate(fitted.model).values))


def test_the_loop(tmp_path: Path) -> None:
    """Oracle: by hand: Q + 1 rounds, B labels more in each, each item asked for once and never one that was
    given; the table says what is from whom, with the truth where it was asked."""
    truth = pool()._oracle.labels  # type: ignore[attr-defined]
    asked: list[int] = []

    def label(places: Sequence[int]) -> list[str]:
        asked.extend(places)
        return [CLASSES[truth[place]] for place in places]

    task = pool(oracle=Program(label))
    fitted = fit(tmp_path, task)
    assert [row["labels"] for row in fitted.metrics["curve"]] == [6, 10, 14, 18]
    assert len(asked) == len(set(asked)) == 12 and not set(asked) & set(task.labelled.tolist())
    table = fitted.parts["labels"]
    by_source = {
        name: {at for at, source in enumerate(table.sources) if source == name} for name in table.sources
    }
    assert by_source["given"] == set(task.labelled.tolist()) and by_source["program"] == set(asked)
    known = sorted(by_source["given"] | by_source["program"])
    assert (table.labels[known] == truth[known]).all() and (table.confidence[known] == 1).all()
    assert len(by_source["pseudo"]) == fitted.metrics["pseudo_labels"] > 20
    assert set(table.sources) <= {"given", "program", "pseudo", "predicted"}


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_selector_learns(selector: Any, tmp_path: Path) -> None:
    """Oracle: of test items of three classes three quarters and more are right, after as many labels for all;
    only one selector takes no pseudo-label."""
    fitted = fit(tmp_path, pool(300), pseudo=PseudoLabels(selector=selector))
    assert right(pool(300), fitted) > 0.75
    assert fitted.metrics["labels"] == 18
    counts = [row["pseudo_labels"] for row in fitted.metrics["curve"]]
    assert (max(counts) == 0) == (selector == "none")


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_strategy(query: Any, tmp_path: Path) -> None:
    """Oracle: a law: every strategy asks for B items, once each."""
    fitted = fit(tmp_path, pool(), query=query, queries=1)
    assert [row["labels"] for row in fitted.metrics["curve"]] == [6, 10]


def test_the_same_seed_and_another(tmp_path: Path) -> None:
    """Oracle: the same curve and weights, bit for bit; another seed gives others."""
    fits = [fit(tmp_path / str(at), pool(), seed=seed) for at, seed in enumerate((0, 0, 1))]
    weights = [one.model.head.adapter.weight for one in fits]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert fits[0].metrics == fits[1].metrics


def test_not_sure(tmp_path: Path) -> None:
    """Oracle: by hand: of every query one answer is missing; that item gets no label and is never asked for
    again."""
    truth, asked = pool()._oracle.labels, []  # type: ignore[attr-defined]

    def label(places: Sequence[int]) -> list[str | None]:
        asked.extend(places)
        return [None, *(CLASSES[truth[place]] for place in places[1:])]

    fitted = fit(tmp_path, pool(oracle=Program(label)))
    assert [row["labels"] for row in fitted.metrics["curve"]] == [6, 9, 12, 15]
    assert len(asked) == len(set(asked)) == 12
    unsure = asked[::4]
    assert all(fitted.parts["labels"].sources[place] in ("pseudo", "predicted") for place in unsure)


def test_the_budget_ends_the_loop(tmp_path: Path) -> None:
    """Oracle: 9 labels pay for two queries of 4; samples for two rounds and a bit: what there is comes back.
    Nothing for a first round is an error."""
    few = fit(tmp_path / "labels", pool(), budget=Budget(oracle_labels=9))
    assert [row["labels"] for row in few.metrics["curve"]] == [6, 10, 14]
    whole = fit(tmp_path / "whole", pool())
    with Run(tmp_path / "whole", {}) as run:
        spent = [
            run.stage(f"round-{number}", lambda: None) and run.meter.snapshot()["samples"]
            for number in range(4)
        ]
    cut = fit(tmp_path / "samples", pool(), budget=Budget(samples=spent[1] + 300))
    assert cut.metrics["curve"] == whole.metrics["curve"][:2]
    with pytest.raises(BudgetSpent):
        fit(tmp_path / "nothing", pool(), budget=Budget(samples=100))


def test_what_it_costs(tmp_path: Path) -> None:
    """Oracle: the meter of a run: labels exactly, samples at most, and exactly without pseudo-labels."""
    for selector in ("none", "hast", "verips"):
        method = Hast(queries=3, batch=4, adapter=QUICK, pseudo=PseudoLabels(selector=selector, sure=0.2))  # type: ignore[arg-type]
        task = pool()
        with Run(tmp_path / selector, {}) as run:
            method.fit(task.metered(run.meter), selfstudy.model("flat"), run)
            spent = run.meter.snapshot()
        said = method.cost(task, selfstudy.model("flat"))
        assert said["oracle_labels"] == spent["oracle_labels"] == 12
        assert spent["samples"] <= said["samples"]
        assert selector != "verips" or spent["samples"] > 3 * 4 * 512
    step, count = Hast(queries=3).trial(task, selfstudy.model("flat"))
    step()
    assert count == 8


def test_a_person_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: `Waiting` after the first round; when it is resumed nothing of that round is computed again,
    and the end is that of a run whose labels were there at once."""
    truth = pool()._oracle.labels  # type: ignore[attr-defined]
    trained: list[int] = []
    tune = pool_learners.tune_adapter

    def counting(*given: Any, **more: Any) -> Any:
        trained.append(1)
        return tune(*given, **more)

    monkeypatch.setattr(pool_learners, "tune_adapter", counting)
    for _ in range(2):
        with pytest.raises(Waiting):
            fit(tmp_path / "person", pool(oracle=Person()))
    assert len(trained) == 2
    late = fit(tmp_path / "person", pool(oracle=HiddenLabels(truth, CLASSES)))
    assert len(trained) == 8
    once = fit(tmp_path / "once", pool())
    assert torch.equal(late.model.head.adapter.weight, once.model.head.adapter.weight)
    assert late.metrics == once.metrics


def test_without_held_out_items(tmp_path: Path) -> None:
    """Oracle: no validation items: no accuracies and no curve, all the rest."""
    fitted = fit(tmp_path, pool(held=0))
    assert {row["validation_accuracy"] for row in fitted.metrics["curve"]} == {None}
    assert [picture["title"] for picture in fitted.pictures] == ["Pseudo-labels", "Most doubtful items"]


def test_a_pool_that_is_used_up(tmp_path: Path) -> None:
    """Oracle: by hand: 12 items, 6 labelled; after two queries nothing is left to ask or to choose from."""
    with pytest.warns(UserWarning, match="different unlabelled items"):
        fitted = fit(tmp_path, pool(12))
    assert [row["labels"] for row in fitted.metrics["curve"]] == [6, 10, 12]
    assert fitted.metrics["curve"][-1]["pseudo_labels"] == 0
    assert set(fitted.parts["labels"].sources) == {"given", "asked"}


def test_one_class_everywhere(tmp_path: Path) -> None:
    """Oracle: features that are all the same are told the same: the status says so, and no pseudo-label is
    taken."""
    task = pool()
    task.pool = Vectors("same", np.ones((90, 12), dtype=np.float32), task.pool.labels)
    fitted = fit(tmp_path, task, queries=1)
    assert [row["status"] for row in fitted.metrics["curve"]] == ["one_class"] * 2


@pytest.mark.parametrize("selector", ["actune", "nest"])
def test_a_round_is_kept_whole(selector: Any, tmp_path: Path) -> None:
    """Oracle: what was saved, read back; what the selector remembers of the items it looked at among it."""
    method = Hast(queries=1, batch=4, subsample=50, adapter=QUICK, pseudo=PseudoLabels(selector=selector))
    task = pool()
    with Run(tmp_path / "run", {}) as run:
        learner = method.learner(task, selfstudy.model("flat"))
        _, (first, _) = method.rounds(task.metered(run.meter), learner, run)
    assert first.remembered is not None
    assert int((~first.remembered.isnan()).all(1).sum()) == 50
    (tmp_path / "round").mkdir()
    first.save(tmp_path / "round")
    again = Round.load(tmp_path / "round")
    for name in ("places", "labels", "asked"):
        assert np.array_equal(getattr(again, name), getattr(first, name))
    assert torch.equal(again.guesses, first.guesses)
    assert torch.equal(again.remembered.nan_to_num(9), first.remembered.nan_to_num(9))  # type: ignore[union-attr]
    assert (again.accuracy, again.status, again.labelled) == (first.accuracy, first.status, first.labelled)
    assert torch.equal(again.trained.adapter.weight, first.trained.adapter.weight)


def test_copies_in_a_pool(tmp_path: Path) -> None:
    """Oracle: equal texts are one when neighbours vote: a pool of two texts, many times, has no 14 others."""
    task = pool(60)
    texts = tuple("a late parcel" if label == 0 else "a broken lamp" for label in task._oracle.labels)  # type: ignore[attr-defined]
    whole = Texts("copies", texts, np.full(60, UNKNOWN))
    splits: Any = {"validation": whole.only(slice(0)), "test": whole.only(slice(0))}
    labels = np.array([0 if "parcel" in text else 1 for text in texts])
    given = np.where(np.arange(60) < 6, labels, UNKNOWN)
    made = PoolTask(
        "copies", whole, given, ("late", "broken"), splits, HiddenLabels(labels, ("late", "broken"))
    )
    method = Hast(queries=0, adapter=QUICK)
    with Run(tmp_path, {}) as run, pytest.warns(UserWarning, match="2 different unlabelled items"):
        method.fit(made.metered(run.meter), made.prepared(selfstudy.model("words")), run)


def test_bad_input(tmp_path: Path) -> None:
    """Oracle: each is a named error in one paragraph."""
    missing = pool()
    missing.given[missing.given == 1] = UNKNOWN
    with pytest.raises(DataError, match="No label is given of 'bee'"):
        fit(tmp_path / "a", missing)
    with pytest.raises(DataError, match="'dog'"):
        fit(tmp_path / "b", pool(oracle=Program(lambda places: ["dog"] * len(places))))
    spoilt = pool()
    values = spoilt.pool.values.copy()  # type: ignore[union-attr]
    values[[3, 5]] = np.nan
    spoilt.pool = Vectors("spoilt", values, spoilt.pool.labels)
    with pytest.raises(DataError, match="rows 3, 5"):
        fit(tmp_path / "c", spoilt)
    with pytest.raises(UsageError, match="classifier=setfit trains a whole encoder of texts"):
        fit(tmp_path / "d", pool(), classifier="setfit")
    for wrong in ({"batch": 0}, {"queries": -2}, {"subsample": 1}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            Hast(**wrong).validate()
