"""Hints as a method gets them: counted, measured against the context, looked at for answers."""

from __future__ import annotations

import warnings

import pytest

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search import hints as hints_module
from selfstudy.search.hints import draw_hinted, usable_hints
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.chain import CHAIN_FORM, chain100
from selfstudy.tasks.reasoning import Item, ReasoningTask


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return random_tiny_model(1, 16)


def made(hints: list[tuple[str, ...]]) -> ReasoningTask:
    """Chains of two steps with given hints."""
    items = [
        Item(f"{10 + n}+1+1:", str(12 + n), (f"{10 + n}+1={11 + n}", f"{11 + n}+1={12 + n}"), hint)
        for n, hint in enumerate(hints)
    ]
    return ReasoningTask(
        "made",
        {"train": items, "test": [Item("90+1:", "91")]},
        form=CHAIN_FORM,
        verifier=verifier("chain"),
        max_steps=2,
        step_tokens=16,
        solution_tokens=16,
    )


def test_missing_and_long_hints_are_left_out_and_counted(model) -> None:
    """Oracle: by hand; a problem keeps its hints that fit, and problems without any are not in it."""
    module = model.copy().module
    module.config.max_position_embeddings = 40
    context = LanguageModel("short", module, model.tokenizer)
    task = made([("1+1=2",), (), ("2+2=4", "3" * 60), ("4" * 60,)])
    meter = Meter()
    found = usable_hints(task.metered(meter), context, meter, strengths=2, strict=True)
    ids = [problem.id for problem in task.train]
    assert found["hints"] == {ids[0]: ["1+1=2"], ids[2]: ["2+2=4"]}
    figures = found["figures"]
    assert [figures[name] for name in ("hinted", "missing", "too_long", "telling")] == [2, 1, 2, 0]
    assert meter.snapshot()["oracle_labels"] == 4
    assert usable_hints(task, context, Meter(), strengths=1, strict=True)["figures"]["too_long"] == 1


def test_no_hints_at_all_is_an_error(model) -> None:
    """Oracle: an error with both counts, and what to do."""
    with pytest.raises(DataError, match=r"None of the 2 training problems .* 2 have none, 0 hints .*hint="):
        usable_hints(made([(), ()]), model, Meter(), strengths=1, strict=False)
    with pytest.raises(DataError, match="0 have none, 2 hints leave no room"):
        usable_hints(made([("1" * 600,)] * 2), model, Meter(), strengths=1, strict=False)


def test_hints_that_give_the_answer_away(model) -> None:
    """Oracle: a whole solution as hint: a warning with the count, an error where it is refused."""
    task = made([("10+1=11\n11+1=12",), ("11+1=12",)])
    with pytest.warns(UserWarning, match="The hints to 1 of 2 training problems give the answer away"):
        usable_hints(task, model, Meter(), strengths=1, strict=False)
    with pytest.raises(DataError, match=r"The hints to 1 of 2 .* strict_hints"):
        usable_hints(task, model, Meter(), strengths=1, strict=True)


def test_answers_to_hints_alone(model, monkeypatch) -> None:
    """Oracle: a sampler that copies the hint solves what the hint solves; more than half is a warning."""
    task = made([("10+1=11\n11+1=12",), ("11+1=12\n12+1=13",), ("9",)])

    class Copying:
        def __init__(self, model, meter) -> None:
            pass

        def sample(self, requests):
            assert all(request.prompt.endswith("\n") for request in requests)  # no question behind the hint
            return [type("Drawn", (), {"text": request.prompt, "tokens": (1, 2)}) for request in requests]

    monkeypatch.setattr(hints_module, "open_sampler", Copying)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = usable_hints(task, model, Meter(), strengths=1, strict=False)
    assert found["figures"]["right_by_hint_alone"] == pytest.approx(2 / 3)
    assert found["tokens"] == 6
    assert any("solves 2 of 3 problems" in str(one.message) for one in said)


def test_draws_with_a_hint(model) -> None:
    """Oracle: the prompts by hand, and the same keys give the same draws."""
    task = chain100(steps="3", train=2, validation=0, test=1)
    texts = [task.hint(problem) for problem in task.train]
    groups = draw_hinted(model, task, task.train, texts, Meter(), keys=[[1, 2], [3, 4]], temperature=1.0)
    for group, problem, text in zip(groups, task.train, texts, strict=True):
        assert group.prompt == tuple(model.encode(f"{text}\n{problem.prompt}"))
        assert len(group.answers) == 2
    again = draw_hinted(model, task, task.train, texts, Meter(), keys=[[1, 2], [3, 4]], temperature=1.0)
    assert again == groups
