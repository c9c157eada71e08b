"""What is particular to the method of Lion: its rule in the loop, the search before it, what both report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.views import ImageViews
from selfstudy.learning.optimizers import Lion
from selfstudy.learning.supervised import Supervised
from selfstudy.methods.training.lion import LionTraining, RuleSearch, found_rule_maker
from selfstudy.search.update_programs import program_hash
from selfstudy.search.update_rules import FoundRule
from selfstudy.tasks.images import ImageTask

PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK: dict[str, Any] = {"steps": 4, "batch": 8, "views": PLAIN, "optimizer": "lion"}
SMALL = RuleSearch(budget=12, population=5, tournament=2, hidden=6, steps=10, batch=8, funnel=(2,))


def task() -> ImageTask:
    return selfstudy.task("digits?labels=40&train=100&test=40")


def fit(folder: Path, *, training: dict[str, Any] | None = None, **fields: Any) -> tuple[Fit, Run]:
    method = LionTraining(training=Supervised(**{**QUICK, **(training or {})}), **fields)
    method.validate()
    made = task()
    with Run(folder, {}) as run:
        start = made.prepared(selfstudy.model("mlp?hidden=8"))
        return method.fit(made.metered(run.meter), start, run), run


def test_every_step_is_of_the_size_of_the_rate(tmp_path: Path) -> None:
    """Oracle: after one step at rate 0.01 without decay each weight is 0.01 away, or had no gradient."""
    training = {"steps": 1, "learning_rate": 0.01, "weight_decay": 0.0, "schedule": "constant"}
    found, _ = fit(tmp_path / "run", training=training)
    before = task().prepared(selfstudy.model("mlp?hidden=8"))
    for old, new in zip(before.parameters(), found.model.encoder.parameters(), strict=True):
        moved = (new - old).abs()
        assert bool((torch.isclose(moved, torch.tensor(0.01), atol=1e-6) | (moved == 0)).all())
        assert bool((moved > 0).any())


def test_decay_is_of_matrices_at_the_scheduled_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the groups that Lion is stepped with: decay of the matrices alone, rates along a cosine."""
    seen: list[list[tuple[int, float, float]]] = []
    step = Lion.step

    def noted(self: Lion, closure: Any = None) -> Any:
        groups = self.param_groups
        seen.append([(g["params"][0].ndim, g["weight_decay"], g["lr"]) for g in groups])
        return step(self, closure)

    monkeypatch.setattr(Lion, "step", noted)
    fit(tmp_path / "run", training={"learning_rate": 0.1, "weight_decay": 0.3, "steps": 2})
    assert [[ndim > 1, decay] for ndim, decay, _ in seen[0]] == [[True, 0.3], [False, 0.0]] * 2
    assert [rates[0][2] for rates in seen] == pytest.approx([0.1, 0.05])


def test_betas_reach_the_optimiser(tmp_path: Path) -> None:
    """Oracle: the settings' optimiser of a classifier."""
    training = Supervised(**{**QUICK, "betas": (0.95, 0.98)})
    made = task()
    with Run(tmp_path / "run", {}) as run:
        found = LionTraining(training=training).trained(made, made.prepared(selfstudy.model("mlp")), run)
    optimizer = training.optimizer_of(found)
    assert isinstance(optimizer, Lion) and optimizer.param_groups[0]["betas"] == (0.95, 0.98)


def test_a_search_comes_first(tmp_path: Path) -> None:
    """Oracle: the rule's own stage: its program moves the weights; its figures and picture are reported."""
    found, _ = fit(tmp_path / "run", rule="search", search=SMALL)
    rule = found.parts["rule"]
    assert isinstance(rule, FoundRule) and len(rule.history) == 13
    assert found.metrics["search, measured"] == 13 and "labelled_images_right" in found.metrics
    (shown,) = found.pictures
    assert shown["traces"][0]["y"][-1] == pytest.approx(rule.history[-1], rel=1e-4)
    again = FoundRule.load(tmp_path / "run" / "stages" / "rule")
    assert program_hash(again.simplified_program) == program_hash(rule.simplified_program)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = found_rule_maker(rule)([{"params": [weight], "weight_decay": 0.5, "peak": 0.1}])
    assert optimizer.param_groups[0]["peak"] == 1.0  # the program has a rate of its own


def test_what_a_search_costs(tmp_path: Path) -> None:
    """Oracle: the meter, which is at most what was said before; without a search exactly that."""
    made, encoder = task(), task().prepared(selfstudy.model("mlp?hidden=8"))
    searching: dict[str, Any] = {"rule": "search", "search": SMALL}
    plain: dict[str, Any] = {}
    for fields in (plain, searching):
        method = LionTraining(training=Supervised(**QUICK), **fields)
        said = method.cost(made, encoder)
        _, run = fit(tmp_path / str(len(fields)), **fields)
        spent = run.meter.snapshot()
        for unit in ("samples", "flops"):
            assert spent[unit] == pytest.approx(said[unit]) if not fields else spent[unit] <= said[unit]
        assert spent["samples"] >= (12 * 80 if fields else 32)


def test_the_search_sees_labelled_images_alone(tmp_path: Path) -> None:
    """Oracle: the proxy's inputs are as many as the labelled images, in the shares 7 to 3, scaled."""
    proxies = LionTraining(search=SMALL)._proxies(task().labelled)
    assert [len(proxy.train[0]) for proxy in proxies] == [28, 28]
    assert [len(proxy.held[0]) for proxy in proxies] == [12, 12]
    assert [proxy.hidden for proxy in proxies] == [6, 12] and [proxy.steps for proxy in proxies] == [10, 20]
    assert proxies[0].train[0].mean().abs() < 1e-5


def test_too_few_images_for_a_search() -> None:
    """Oracle: the error names how many there are."""
    with pytest.raises(DataError, match="19 labelled images"):
        LionTraining(search=SMALL)._proxies(task().labelled.only(slice(19)))


@pytest.mark.parametrize(
    "search",
    [{"budget": 0}, {"funnel": (0,)}, {"images": 5}, {"warm_start": "sgd"}, {"draws": 0}, {"patience": 0}],
)
def test_what_is_refused(search: dict[str, Any]) -> None:
    """Oracle: the error names the field."""
    (name,) = search
    with pytest.raises(UsageError, match=name):
        LionTraining(search=RuleSearch(**search)).validate()


def test_an_unknown_rule() -> None:
    """Oracle: the error and what there is."""
    rule: Any = "tiger"
    with pytest.raises(UsageError, match="lion or search"):
        LionTraining(rule=rule).validate()
