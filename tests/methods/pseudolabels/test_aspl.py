"""ASPL: what is asked and of whom, new classes, confirmations, budgets, and what is handed back."""

from __future__ import annotations

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
from selfstudy.data.items import Vectors
from selfstudy.data.label_store import Person
from selfstudy.data.oracles import HiddenLabels, Program, Query
from selfstudy.learning.paced_state import Paced, SelfPaced
from selfstudy.learning.projection import projection
from selfstudy.learning.self_paced import scores_of
from selfstudy.learning.stages import StageTraining
from selfstudy.methods.pseudolabels.aspl import ARMS, Aspl
from selfstudy.signals.self_paced import most_doubtful
from selfstudy.tasks.pools import PoolTask

CLASSES = ("ant", "bee", "cat", "owl")


def pool(
    *, known: int = 3, oracle: Any = None, held: int = 30, count: int = 80, spread: float = 1.0
) -> PoolTask:
    """Vectors of four classes in 6 directions, of which the first `known` have two labels each."""
    rng = np.random.default_rng(0)

    def drawn(size: int, classes: int) -> Vectors:
        truth = np.arange(size) % classes
        values = spread * rng.normal(size=(size, 6)) + 3 * np.eye(4, 6)[truth]
        return Vectors("points", values.astype(np.float32), truth.astype(np.int64), CLASSES)

    whole = drawn(count, 4)
    given = np.full(count, UNKNOWN)
    for code in range(known):
        at = np.flatnonzero(whole.labels == code)[:2]
        given[at] = code
    splits: Any = {"validation": drawn(held, known), "test": drawn(60, known)}
    asked = oracle or HiddenLabels(whole.labels, CLASSES)
    return PoolTask("points", whole, given, CLASSES[:known], splits, asked)


def fit(folder: Path, task: PoolTask, *, budget: Budget | None = None, seed: int = 0, **fields: Any) -> Fit:
    method = Aspl(**{"rounds": 3, "query": 4, "pacing": SelfPaced(growth=0.2, alternations=2), **fields})
    method.validate()
    with Run(folder, {}, budget=budget, seed=seed) as run:
        fitted = method.fit(task.metered(run.meter), task.prepared(selfstudy.model("flat")), run)
        return fitted


def sources(fitted: Fit) -> list[str]:
    return list(fitted.parts["labels"].sources)


class Asked:
    """The truth, and what was asked for."""

    kind = "asked"

    def __init__(self, task: PoolTask) -> None:
        self.queries: list[Query] = []
        self._oracle = task._oracle

    def answers(self, query: Query, directory: Path) -> list[str]:
        self.queries.append(query)
        return self._oracle.answers(query, directory)


def test_it_asks_for_the_most_doubtful(tmp_path: Path) -> None:
    """Oracle: the first query recomputed from the state of the first round; guesses are probabilities."""
    task = pool()
    task._oracle = seen = Asked(task)
    fit(tmp_path, task)
    state = Paced.load(tmp_path / "stages" / "round-0")
    features = torch.from_numpy(task.pool.values)  # type: ignore[union-attr]
    scores = scores_of(state, projection(features, 50)(features))
    assert seen.queries[0].places.tolist() == most_doubtful(scores, state.open, 4).tolist()
    assert np.allclose(seen.queries[0].guesses.sum(1), 1)
    assert len({place for query in seen.queries for place in query.places}) == 12


def test_what_comes_out(tmp_path: Path) -> None:
    """Oracle: counts of the sources by hand; the truth of all answers; a curve with 4 labels more a row."""
    task = pool(known=4)
    fitted = fit(tmp_path, task)
    table, paced = fitted.parts["labels"], fitted.parts["paced"]
    found = np.array(sources(fitted))
    assert (found == "given").sum() == 8 and (found == "asked").sum() == 12
    assert set(found) <= {"given", "asked", "pseudo", "predicted"} and (found == "pseudo").any()
    sure = np.isin(found, ("given", "asked"))
    assert (table.labels[sure] == (np.arange(80) % 4)[sure]).all()
    assert (table.confidence[sure] == 1).all() and ((table.confidence > 0) & (table.confidence <= 1)).all()
    assert [row["labels"] for row in fitted.metrics["curve"]] == [8, 12, 16, 20]
    assert (paced.by_input[torch.from_numpy(sure)] == 1).all()
    assert np.mean(task.evaluate(fitted.model).values) > 0.8


def test_new_classes_are_learnt(tmp_path: Path) -> None:
    """Oracle: owls, of which no label is given, are named by the answers and told in the end."""
    fitted = fit(tmp_path, pool(spread=0.5), allow_new=True, rounds=4)
    assert fitted.model.classes == CLASSES and fitted.parts["labels"].classes == CLASSES
    rng = np.random.default_rng(5)
    owls = (0.5 * rng.normal(size=(20, 6)) + 3 * np.eye(4, 6)[3]).astype(np.float32)
    assert (fitted.model.predict(owls) == "owl").mean() > 0.9


def test_items_of_no_class_stay_without_a_label(tmp_path: Path) -> None:
    """Oracle: an oracle that never knows; unclaimed items have no label where classes may be missing."""
    task = pool(oracle=Program(lambda places: [None] * len(places)), spread=0.5)
    fitted = fit(tmp_path / "open", task, allow_new=True, pacing=SelfPaced(penalty=20.0))
    labels = fitted.parts["labels"].labels
    owl = np.arange(80) % 4 == 3
    assert (labels[owl] == UNKNOWN).mean() >= 0.5 > (labels[~owl] == UNKNOWN).mean()
    closed = fit(tmp_path / "closed", task, pacing=SelfPaced(penalty=20.0))
    assert (closed.parts["labels"].labels != UNKNOWN).all()


def test_not_sure_is_not_asked_again(tmp_path: Path) -> None:
    """Oracle: the places of all queries; no item is labelled, and none of those asked has a pseudo-label."""
    task = pool(oracle=Program(lambda places: [None] * len(places)))
    task._oracle = seen = Asked(task)
    fitted = fit(tmp_path, task)
    places = [place for query in seen.queries for place in query.places]
    assert len(places) == len(set(places)) == 12
    assert "program" not in sources(fitted) and "asked" not in sources(fitted)
    assert (fitted.parts["paced"].pseudo[places] == UNKNOWN).all()


def test_pseudo_labels_are_confirmed(tmp_path: Path) -> None:
    """Oracle: what was proposed was right exactly where it counts as confirmed; refused items have none."""
    task = pool(spread=1.6)
    task._oracle = seen = Asked(task)
    fitted = fit(tmp_path, task, confirm=5)
    truth = np.arange(80) % 4
    asked = [query for query in seen.queries if len(query.confirm)]
    assert len(asked) == 3
    for query in asked:
        for place, proposed in zip(query.places, query.confirm, strict=True):
            right = truth[place] == proposed
            assert (sources(fitted)[place] == "confirmed") == right
            if not right:
                assert fitted.parts["paced"].pseudo[place] == UNKNOWN


def test_a_person_is_waited_for(tmp_path: Path) -> None:
    """Oracle: it stops at the first query; with answers in the person's place it goes on to the same end."""
    task = pool(oracle=Person())
    with pytest.raises(Waiting):
        fit(tmp_path / "person", task)
    assert (tmp_path / "person" / "stages" / "round-0").exists()
    answered = fit(tmp_path / "person", pool())
    at_once = fit(tmp_path / "at once", pool())
    assert torch.equal(answered.model.head.linear.weight, at_once.model.head.linear.weight)
    assert sources(answered) == sources(at_once)


@pytest.mark.parametrize(("limit", "asked"), [(10, 8), (3, 0)])
def test_a_budget_of_labels_ends_it(tmp_path: Path, limit: int, asked: int) -> None:
    """Oracle: whole queries of 4 within the budget; the fit is there all the same."""
    fitted = fit(tmp_path, pool(known=4), budget=Budget(oracle_labels=limit))
    assert fitted.metrics["labels"] == 8 + asked
    assert len(fitted.metrics["curve"]) == asked // 4 + 1


def test_a_budget_of_samples_ends_it(tmp_path: Path) -> None:
    """Oracle: too few for a round raise; enough for one but not for two give the first round's machines."""
    with pytest.raises(BudgetSpent):
        fit(tmp_path / "none", pool(), budget=Budget(samples=3))
    fitted = fit(tmp_path / "one", pool(), budget=Budget(samples=60))
    assert len(fitted.metrics["curve"]) == 1
    assert np.mean(pool().evaluate(fitted.model).values) > 0.5


def test_the_arms(tmp_path: Path) -> None:
    """Oracle: who has pseudo-labels and who asks, by the table of arms; random questions go by the seed."""
    seen: dict[str, Any] = {}
    for arm in ARMS:
        task = pool()
        task._oracle = asked = Asked(task)
        fitted = fit(tmp_path / arm, task, arm=arm)
        pseudo = [row["pseudo_labels"] for row in fitted.metrics["curve"]]
        seen[arm] = [tuple(query.places) for query in asked.queries]
        assert (max(pseudo) > 0) == (ARMS[arm].pseudo != "none"), arm
        assert bool(seen[arm]) == (ARMS[arm].asks != "nothing"), arm
    assert seen["random"] != seen["active"]
    task = pool()
    task._oracle = asked = Asked(task)
    fit(tmp_path / "other seed", task, arm="random", seed=1)
    assert [tuple(query.places) for query in asked.queries] != seen["random"]


def test_the_encoder_is_tuned(tmp_path: Path) -> None:
    """Oracle: the weights of a small network after a round; the one that was handed in stays as it is."""
    task = selfstudy.task("pool:digits?labels=20&train=80&test=20")
    model = task.prepared(selfstudy.model("conv?first=4&stages=2"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    method = Aspl(rounds=2, query=2, tuning_every=2, tuning=StageTraining(steps=3, batch=16))
    with Run(tmp_path, {}) as run:
        fitted = method.fit(task.metered(run.meter), model, run)
    after = fitted.model.encoder.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not (tmp_path / "stages" / "features-0").exists()


def test_costs_are_an_upper_limit(tmp_path: Path) -> None:
    """Oracle: what a fit spends."""
    task, method = pool(), Aspl(rounds=3, query=4, confirm=2, pacing=SelfPaced(growth=0.2))
    expected = method.cost(task, selfstudy.model("flat"))
    with Run(tmp_path, {}) as run:
        method.fit(task.metered(run.meter), task.prepared(selfstudy.model("flat")), run)
        spent = run.meter.snapshot()
    assert spent["oracle_labels"] == expected["oracle_labels"] == 18
    assert 0.5 * expected["samples"] < spent["samples"] <= expected["samples"] * 1.1
    step, count = method.trial(task, task.prepared(selfstudy.model("flat")))
    step()
    assert count == 4


def test_nothing_to_claim_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: refused pseudo-labels of all items leave none; a line says so."""
    task = pool(oracle=Program(lambda places: [None] * len(places)), count=16)
    fitted = fit(tmp_path, task, query=10, rounds=2)
    assert fitted.metrics["pseudo_labels"] == 0
    assert "No item has a pseudo-label" in caplog.text


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    """Oracle: a class without a label, one class, an answer outside them, a frozen encoder to be tuned."""
    task = pool()
    task.given = np.where(task.given == 2, UNKNOWN, task.given)
    with pytest.raises(DataError, match="no label of 'cat'"):
        fit(tmp_path / "class", task)
    with pytest.raises(DataError, match="1 class"):
        fit(tmp_path / "one", pool(known=1))
    with pytest.raises(DataError, match="'wasp'"):
        fit(tmp_path / "answer", pool(oracle=Program(lambda places: ["wasp"] * len(places))))
    with pytest.raises(UsageError, match="no weights"):
        fit(tmp_path / "flat", pool(), tuning_every=1)
