"""Groups of drawn answers: order, keys, and what is charged."""

from __future__ import annotations

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.rollouts import draw_groups

TASK = selfstudy.task("chain100?steps=1-2&train=6&validation=0&test=1")


def test_groups_stand_in_order_and_depend_on_their_keys_alone() -> None:
    """Oracle: each group drawn by itself; lengths by the room of each problem; tokens as charged."""
    model, meter = random_tiny_model(1, 32), Meter()
    keys = [[10 * i + j for j in range(3)] for i in range(6)]
    groups = draw_groups(model, TASK, TASK.train, meter, keys=keys, temperature=1.0)
    assert [group.problem for group in groups] == list(TASK.train)
    assert sum(len(a.tokens) for g in groups for a in g.answers) == meter.snapshot()["generated_tokens"]
    for group, row in zip(groups, keys, strict=True):
        (alone,) = draw_groups(model, TASK, [group.problem], Meter(), keys=[row], temperature=1.0)
        assert [a.tokens for a in alone.answers] == [a.tokens for a in group.answers]
        assert {len(answer.tokens) for answer in group.answers} == {TASK.room(group.problem)}
        assert list(group.prompt) == model.encode(TASK.prompt(group.problem))


def test_prompts_may_be_others_than_the_problems() -> None:
    """Oracle: the tokens of the text that was given; the answers follow it."""
    model = random_tiny_model(1, 32)
    (group,) = draw_groups(
        model, TASK, TASK.train[:1], Meter(), keys=[[1]], temperature=1.0, prompts=["47+8=55\n"]
    )
    assert list(group.prompt) == model.encode("47+8=55\n")


def test_answers_that_begin_within_a_solution_take_its_lines_along() -> None:
    """Oracle: one line of two is given, so one is left to draw; steps are both, tokens those drawn."""
    model, problem = random_tiny_model(1, 32), next(p for p in TASK.train if TASK.room(p) == 16)
    text = f"{TASK.prompt(problem)}47+8=55\n"
    (group,) = draw_groups(
        model, TASK, [problem], Meter(), keys=[[1, 2]], temperature=1.0, prompts=[text], begun=[("47+8=55",)]
    )
    assert list(group.prompt) == model.encode(text)
    for answer in group.answers:
        assert answer.steps[0] == "47+8=55"
        assert len(answer.tokens) == 8
        assert answer.steps[1:] == TASK.steps(answer.text)


def test_an_answer_may_go_on_with_the_last_line_that_was_begun() -> None:
    """Oracle: without its line break the last line is open: what is drawn next belongs to it."""
    model, problem = random_tiny_model(1, 32), next(p for p in TASK.train if TASK.room(p) == 16)
    text = f"{TASK.prompt(problem)}47+8=55"
    (group,) = draw_groups(
        model,
        TASK,
        [problem],
        Meter(),
        keys=[range(20)],
        temperature=1.0,
        prompts=[text],
        begun=[("47+8=55",)],
    )
    assert any(not answer.text.startswith("\n") for answer in group.answers)
    for answer in group.answers:
        assert answer.steps == TASK.steps("47+8=55" + answer.text)
