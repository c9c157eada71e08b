"""Walks told by a model, votes on solutions, and whether a text goes back as its walk does."""

from __future__ import annotations

import pytest

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.data.walks import SYMBOLS, WORDS
from selfstudy.search import rewriting
from selfstudy.search.rewriting import JUDGE, REWRITE, require_places, rewritten, same_returns, unanimous

from .scripted import Policy, Scripted, coin_task


@pytest.fixture
def say(monkeypatch):
    """Sets what the policy says, and returns the sampler."""

    def set_(function):
        sampler = Scripted(function)
        monkeypatch.setattr(rewriting, "open_sampler", lambda policy, meter: sampler)
        return sampler

    return set_


def test_rewriting_asks_for_each_walk(say) -> None:
    """Oracle: the prompt by hand; lines without blanks around them; nothing of a text that was cut."""
    task = coin_task(3)
    sampler = say(
        lambda request: ("", "") if request.key == 2 else (" a \n\nb", "length" if request.key else "end")
    )
    walks = [(problem, ["x", 0, "y"]) for problem in task.train]
    texts = rewritten(
        Policy(),
        task,
        walks,
        SYMBOLS,
        None,
        prompt="{question}|{walk}|{other}",
        keys=[0, 1, 2],
        temperature=0.5,
    )
    assert texts == ["a\nb\n", "", ""]
    assert [r.prompt for r in sampler.asked] == [f"p{i}\n|x\n?<0\ny\n|{{other}}" for i in range(3)]
    assert {r.temperature for r in sampler.asked} == {0.5}


def test_only_unanimous_solutions_stay(say) -> None:
    """Oracle: the votes by hand, by key; a "no" anywhere is enough."""
    task = coin_task(3)
    replies = {1: "Yes.", 2: " yes", 3: "no", 4: "yes", 5: "", 6: "maybe"}
    sampler = say(lambda request: replies[request.key])
    found = unanimous(
        Policy(),
        [(problem, ("s", "t")) for problem in task.train],
        None,
        prompt="{question}{solution}?",
        keys=[[1, 2], [3, 4], [5, 6]],
        temperature=1.0,
    )
    assert found == [True, False, False]
    assert sampler.asked[0].prompt == "p0\ns\nt?"


def test_returns_must_stay() -> None:
    """Oracle: texts by hand: told anew, one return lost, one moved, one invented."""
    walk = ["a", "b", 1, "c", 0, "d"]
    told = ["A.", "B.", "Odd. I go back to step 1.", "C.", "No! I go back to step 0, the question.", "D."]
    assert same_returns(WORDS, walk, told)
    assert not same_returns(WORDS, walk, told[:4] + told[5:])
    assert not same_returns(WORDS, walk, [line.replace("step 1", "step 2") for line in told])
    assert not same_returns(WORDS, walk, [*told, "I go back to step 0."])


def test_prompts_have_their_places() -> None:
    """Oracle: the shipped prompts pass; one without a place is refused by its name."""
    require_places(REWRITE, ("question", "walk"), "rewriting")
    require_places(JUDGE, ("question", "solution"), "judge")
    with pytest.raises(UsageError, match=r"judge lacks the place \{solution\}"):
        require_places("{question}", ("question", "solution"), "judge")


def test_the_example_of_the_prompt_keeps_its_own_rule() -> None:
    """Oracle: the example's notes and solution, read back; both answers are 15."""
    example = REWRITE.split("Notes:\n")[1]
    notes, solution = example.split("Solution:\n")[:2]
    walk = WORDS.read(notes.strip().split("\n"))
    lines = solution.split("\n\n")[0].split("\n")
    assert same_returns(WORDS, walk, lines) and 1 in walk
    form = selfstudy.task("chain100?steps=1&train=1&validation=0&test=1").form
    assert form.returns is None  # chains do not go back
    assert walk[-1] == lines[-1] == "The answer is 15."
