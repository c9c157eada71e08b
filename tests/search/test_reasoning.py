"""Reasoning as a search domain: what is drawn, what is rejected, what is charged."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.core.random import stream_key
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.value import ValueModel
from selfstudy.search.mcts import TreeSearch, best_answer, grow
from selfstudy.search.reasoning import ConstantValue, ReasoningDomain, posed, require_room
from selfstudy.tasks.reasoning import ReasoningTask

from .scripted import Policy, Scripted, coin_task

LINE = "47+8=55"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def policy() -> LanguageModel:
    return selfstudy.model("tiny-lm")


@cache
def chains(steps: int = 3, train: int = 8) -> ReasoningTask:
    return selfstudy.task(f"chain100?steps={steps}&train={train}&validation=0&test=1")


@cache
def uneven_values() -> ValueModel:
    """A value model that says something else about every prefix."""
    model = ValueModel.from_policy(policy())
    with torch.no_grad():
        model.net.head.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    return model


def scripted(say, problems: int = 1, steps: int = 2, **options) -> ReasoningDomain:
    """A domain on the coin task with a policy that says what `say` tells it to."""
    task, meter = coin_task(problems, steps), Meter()
    return ReasoningDomain(
        task,
        task.train,
        Policy(),
        ConstantValue(),
        meter,
        temperature=1.0,
        sampler=Scripted(say, meter),
        **options,
    )


def one_key() -> np.ndarray:
    return np.array([7], dtype=np.uint64)


@pytest.mark.parametrize("collect", [False, True])
def test_eight_in_lockstep_equal_eight_alone(collect: bool) -> None:
    """Oracle: the same search of each problem by itself; values to rounding, all else exactly."""
    task, settings = chains(), TreeSearch(iterations=9, end_gate=0.62)
    keys = np.array([stream_key("tree", problem.id) for problem in task.train], dtype=np.uint64)

    def search(problems, keys):
        meter = Meter()
        domain = ReasoningDomain(task, problems, policy(), uneven_values(), meter, temperature=1.0)
        forest = grow(domain, range(len(problems)), settings, keys, collect=collect)
        solutions = domain.finish([forest.state(t, best_answer(forest, t)) for t in range(len(problems))])
        assert meter.snapshot()["generated_tokens"] == sum(n for texts in domain.drawn for _, n in texts)
        return domain, forest, solutions

    domain, forest, solutions = search(task.train, keys)
    assert len({len(actions) for actions in forest.actions}) > 1, "trees that differ"
    for t, problem in enumerate(task.train):
        alone, tree, solution = search([problem], keys[t : t + 1])
        together, n = forest.select([t]), int(tree.size[0])
        assert together.actions == tree.actions and solutions[t] == solution[0]
        for name in ("parent", "visits", "expanded", "ended"):
            assert np.array_equal(getattr(together, name), getattr(tree, name)), name
        np.testing.assert_allclose(together.value[0, :n], tree.value[0, :n], atol=1e-5)
        np.testing.assert_allclose(together.prior[0, :n], tree.prior[0, :n], atol=1e-5)
        assert sorted(alone.drawn[0]) == sorted(domain.drawn[t])
        assert (forest.answer[t] == -1) == (tree.answer[0] == -1)


def test_a_search_remembers_nothing_of_the_one_before() -> None:
    """Oracle: the scored tokens of a first search; a memory that is kept would read less the second time."""
    spent = []
    for _ in range(2):
        meter = Meter()
        domain = ReasoningDomain(chains(), chains().train, policy(), uneven_values(), meter, temperature=1.0)
        domain.values([(0, ()), (0, (LINE,)), (0, (LINE,))])
        spent.append(meter.snapshot()["scored_tokens"])
        assert domain.value is not uneven_values()
    assert spent[0] == spent[1] > 0


def test_a_value_is_asked_for_once() -> None:
    """Oracle: the prefixes that reach the value model, counted."""

    class Counting(ConstantValue):
        def __init__(self) -> None:
            super().__init__(0.25)
            self.asked: list[object] = []

        def values(self, prefixes, meter):
            self.asked += prefixes
            return np.arange(len(prefixes)) / 10

    domain = scripted(lambda _: "a", problems=2)
    domain.value = Counting()
    states = [(0, ("a",)), (1, ("a",)), (0, ("a",)), (0, ("a", "b"))]
    assert domain.values(states).tolist() == [0.0, 0.1, 0.0, 0.2]
    assert domain.values(states[::-1]).tolist() == [0.2, 0.0, 0.1, 0.0]
    assert domain.value.asked == [("p0\n", ("a",)), ("p1\n", ("a",)), ("p0\n", ("a", "b"))]


@pytest.mark.parametrize(
    ("bad", "tokens"),
    [(("", "stop"), 1), (("  ", "stop"), 3), (("cut off", "length"), 7), (("a", "stop"), 2)],
)
def test_bad_steps_are_redrawn_and_charged(bad: tuple[str, str], tokens: int) -> None:
    """Oracle: by hand: two bad draws (empty, blank, unfinished, repeated), then a good one of 5 tokens."""
    replies = iter([bad, bad, "good"])
    domain = scripted(lambda _: next(replies))
    assert domain.propose([(0, ("a",))], 1, one_key()) == [["good"]]
    assert domain.drawn == [[(bad[0], tokens), (bad[0], tokens), ("good", 5)]]
    assert domain.meter.snapshot()["generated_tokens"] == 2 * tokens + 5
    assert len({request.key for request in domain.sampler.asked}) == 3, "each try has a stream of its own"
    assert {request.prompt for request in domain.sampler.asked} == {"p0\na\n"}


def test_it_gives_up_after_three_redraws() -> None:
    """Oracle: 1 + 3 draws by the specification; other slots and states go on by themselves."""
    domain = scripted(lambda request: "a" if request.prompt == "p0\na\n" else "b", problems=2)
    found = domain.propose([(0, ("a",)), (1, ())], 2, np.array([1, 2], dtype=np.uint64))
    assert found == [[], ["b", "b"]]
    assert [len(texts) for texts in domain.drawn] == [2 * 4, 2]
    assert len({request.key for request in domain.sampler.asked}) == 10, "no stream is used twice"


def test_a_step_may_end_the_text() -> None:
    """Oracle: an end token ends a step as a line break does; outer blanks are taken off."""
    domain = scripted(lambda _: (" last ", "end"))
    assert domain.propose([(0, ())], 1, one_key()) == [["last"]]


def test_no_room_closes_the_prefix_and_is_counted() -> None:
    """Oracle: one draw a slot and no redraws; the count."""
    domain = scripted(lambda _: ("", "context"), problems=2)
    assert domain.propose([(1, ("a",))], 3, one_key()) == [[]]
    assert domain.no_room == [0, 3] and [len(texts) for texts in domain.drawn] == [0, 3]
    with pytest.raises(DataError, match="context of 100 tokens ended 3 times before a step did"):
        domain.require_separator()


def test_a_policy_without_separator_is_named() -> None:
    """Oracle: the separator and the first text in the message; one separated draw is enough."""
    domain = scripted(lambda _: ("first, second, third", "length"))
    domain.propose([(0, ())], 2, one_key())
    with pytest.raises(DataError, match=r"separator '\\n'; it wrote for example 'first, second, third'"):
        domain.require_separator()
    domain.sampler.say = lambda _: "step"
    domain.propose([(0, ())], 1, one_key())
    domain.require_separator()
    scripted(lambda _: "a").require_separator()  # nothing drawn, nothing to complain of


def test_draws_depend_on_the_key_alone() -> None:
    """Oracle: the same states in another batch, order and number of slots."""
    task = chains()
    domain = ReasoningDomain(task, task.train, policy(), ConstantValue(), Meter(), temperature=1.0)
    keys = np.array([11, 22, 33], dtype=np.uint64)
    states = [(0, ()), (1, (LINE,)), (2, ())]
    together = domain.propose(states, 3, keys)
    assert domain.propose(states[::-1], 3, keys[::-1])[::-1] == together
    assert domain.propose(states[1:2], 2, keys[1:2])[0] == together[1][:2]
    assert domain.propose(states[:1], 3, keys[1:2])[0] != together[0]


def test_the_marker_critic_reads_the_form() -> None:
    """Oracle: two steps end a coin solution; nothing is asked, and an empty prefix never ends."""
    domain = scripted(lambda _: "solved", steps=0)
    assert domain.ended([(0, ())]).tolist() == [False]
    domain = scripted(lambda _: "solved")
    assert domain.ended([(0, ("a",)), (0, ("a", "b"))]).tolist() == [False, True]
    assert domain.sampler.asked == []


@pytest.mark.parametrize(
    ("reply", "solved"),
    [
        ("solved", True),
        (" Solved.", True),
        ("unsolved", False),
        ("Unsolved: solved not yet", False),
        ("?", False),
    ],
)
def test_the_asking_critic(reply: str, solved: bool) -> None:
    """Oracle: the words; "unsolved" contains "solved". Asked once a prefix, charged, never for none."""
    domain = scripted(lambda _: reply, critic="ask")
    states = [(0, ()), (0, ("a",)), (0, ("a",)), (0, ("a", "b"))]
    for _ in range(2):
        assert domain.ended(states).tolist() == [False, solved, solved, True]
    (request,) = domain.sampler.asked
    assert request.prompt.startswith("p0\n\na\n") and request.temperature == 0
    assert domain.drawn == [[(reply, len(reply) + 1)]]


def test_finishing() -> None:
    """Oracle: by hand: whole solutions stay, an open one is continued greedily and split into lines."""
    domain = scripted(lambda _: ("b\n\nc ", "end"), problems=2)
    assert domain.finish([(0, ("x", "y")), (1, ("a",))]) == [("x", "y"), ("a", "b", "c")]
    (request,) = domain.sampler.asked
    assert (request.prompt, request.temperature, request.max_tokens) == ("p1\na\n", 0.0, 100)
    assert domain.drawn == [[], [("b\n\nc ", 5)]]
    assert domain.finish([]) == []


def test_a_chat_model_reads_its_template() -> None:
    """Oracle: the wrapper of a made-up chat model, around what the task gives to chat models."""

    class Chat(Policy):
        chat = True

        def prompt(self, text: str) -> str:
            return f"<{text}>"

    task = selfstudy.task("chain100?steps=1&train=1&validation=0&test=1")
    problem = task.train[0]
    assert posed(Policy(), task, problem) == task.prompt(problem)
    assert posed(Chat(), task, problem) == f"<{task.prompt(problem, chat=True)}>"


def test_prompts_must_fit() -> None:
    """Oracle: prompts of 3 steps have 9 characters, so 10 positions hold one and 9 do not."""
    model = policy().copy()
    for context, fits in ((10, True), (9, False)):
        model.context = context
        if fits:
            require_room(model, chains())
        else:
            with pytest.raises(DataError, match="context of 9 tokens, and the shortest training prompt"):
                require_room(model, chains())
