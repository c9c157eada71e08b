from __future__ import annotations

import itertools
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.evaluation.statistics import wilson
from selfstudy.signals.verifiers import Verifier, verifier
from selfstudy.tasks.forms import marked_answer, plain_answer, text_form
from selfstudy.tasks.loading import task
from selfstudy.tasks.reasoning import Item, Problem, ReasoningTask

SECRETS = {
    split: [f"secret-{split}-{number}" for number in range(40)] for split in ("train", "validation", "test")
}


def made(check=lambda question, gold, given: gold == given, meter=None):
    splits = {
        split: [Item(f"{split} question {n}?", answer, (f"because {answer}", f"The answer is {answer}."))
                for n, answer in enumerate(answers)]
        for split, answers in SECRETS.items()
    }  # fmt: skip
    return ReasoningTask(
        "made", splits, form=text_form(), verifier=Verifier("made", check), max_steps=4, step_tokens=8,
        solution_tokens=32, meter=meter,
    )  # fmt: skip


def reachable(root):
    """Everything that attributes, slots and containers lead to."""
    found, waiting = {}, [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in found or isinstance(thing, types.ModuleType | type):
            continue
        found[id(thing)] = thing
        if isinstance(thing, dict):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            waiting += thing
        else:
            waiting += vars(thing).values() if hasattr(thing, "__dict__") else ()
            slots = itertools.chain.from_iterable(
                getattr(kind, "__slots__", ()) for kind in type(thing).__mro__
            )
            waiting += [getattr(thing, slot) for slot in slots if hasattr(thing, slot)]
            waiting += [
                getattr(thing, name)
                for name in ("oracle", "__self__", "func", "args")
                if hasattr(thing, name)
            ]
            waiting += thing.__defaults__ or () if isinstance(thing, types.FunctionType) else ()
    return list(found.values())


@pytest.mark.parametrize("use", [lambda task: None, lambda task: task.evaluate(lambda p, m: [()] * len(p))])
def test_no_answer_is_reachable(use):
    """Oracle: answers are unmistakable texts; a walk over all attributes must meet none, used or not."""
    hidden = made()
    use(hidden)
    texts = [thing for thing in reachable(hidden.metered(Meter())) if isinstance(thing, str)]
    assert "test question 3?" in texts
    assert not [text for text in texts if "secret" in text]
    assert "secret" not in repr(hidden) + repr(vars(hidden))


def test_the_walk_finds_what_is_not_hidden():
    """Oracle: the walk itself, on a task that leaks."""
    leaking = made()
    leaking.cache = [Item("q", "secret-test-0")]
    assert "secret-test-0" in [thing for thing in reachable(leaking) if isinstance(thing, str)]


def test_verify_and_oracle_count_and_stay_away_from_test():
    """Oracle: the counts by hand."""
    counted = made(meter=Meter())
    good = counted.oracle.solution(counted.train[0])
    assert good == ("because secret-train-0", "The answer is secret-train-0.")
    assert counted.verify(counted.train[0], good)
    assert not counted.verify(counted.validation[0], good)
    assert not counted.verify(counted.train[0], ["no marker"])
    spent = counted.meter.snapshot()
    assert (spent["verifier_calls"], spent["oracle_labels"]) == (3, 1)
    for use in (
        lambda: counted.verify(counted.test[0], good),
        lambda: counted.oracle.solution(counted.test[0]),
    ):
        with pytest.raises(UsageError, match="test problem"):
            use()
    with pytest.raises(UsageError, match="does not belong"):
        counted.verify(Problem("0", "test question 0?"), good)
    assert counted.meter.snapshot()["verifier_calls"] == 3


def test_metered_copies_count_apart_and_the_budget_holds():
    """Oracle: two meters, one with a limit of two checks."""
    first = made()
    second = first.metered(Meter(Budget(verifier_calls=2)))
    second.verify(second.train[0], [])
    second.verify(second.train[0], [])
    with pytest.raises(BudgetSpent):
        second.verify(second.train[0], [])
    assert second.meter.snapshot()["verifier_calls"] == 2
    assert first.meter.snapshot()["verifier_calls"] == 0


def test_a_part_of_a_split_on_a_meter_of_ones_own():
    """Oracle: places in the split; what the solver spends, by hand, without what came before."""
    judged, meter = made(), Meter(Budget(verifier_calls=5))
    meter.charge(generated_tokens=100)

    def solver(problems, given):
        assert given is meter
        given.charge(generated_tokens=7 * len(problems), scored_tokens=2)
        return [(f"The answer is {SECRETS['test'][4]}.",)] * len(problems)

    score = judged.evaluate(solver, start=3, limit=2, meter=meter)
    assert score.ids == tuple(problem.id for problem in judged.test[3:5]) and score.correct == (False, True)
    assert (score.generated_tokens, score.scored_tokens) == (14, 2)
    assert meter.snapshot()["generated_tokens"] == 114 and meter.snapshot()["verifier_calls"] == 2
    with pytest.raises(BudgetSpent):
        judged.evaluate(solver, start=36, meter=meter)
    with pytest.raises(UsageError, match="no test problems"):
        judged.evaluate(solver, start=40)


def test_evaluate():
    """Oracle: a solver right on every fourth problem; tokens as the solver counts them; Wilson's interval."""
    judged = made()

    def solver(problems, meter):
        meter.charge(generated_tokens=5 * len(problems), scored_tokens=7)
        return [
            (f"The answer is secret-test-{p.prompt.split()[2].rstrip('?')}.",)
            if n % 4 == 0
            else ("The answer is 0.",)
            for n, p in enumerate(problems)
        ]

    score = judged.evaluate(solver)
    assert (score.count, score.accuracy, score.generated_tokens, score.scored_tokens) == (40, 0.25, 200, 7)
    assert score.correct == tuple(n % 4 == 0 for n in range(40))
    assert (score.low, score.high) == tuple(wilson(10, 40))
    assert score.to_json()["ids"] == [problem.id for problem in judged.test]
    assert judged.evaluate(solver, limit=3).correct == (True, False, False)
    assert judged.meter.snapshot()["verifier_calls"] == 0
    assert (
        judged.evaluate(
            lambda p, m: [("The answer is secret-validation-0.",)] * 40, split="validation"
        ).accuracy
        == 1 / 40
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"split": "tset"}, "Did you mean 'test'"),
        ({"limit": 0}, "no test problems"),
        ({"limit": 2}, "3 solutions for 2"),
    ],
)
def test_evaluate_refuses(arguments, said):
    """Oracle: the message names the fault."""
    with pytest.raises(UsageError, match=said):
        made().evaluate(lambda problems, meter: [()] * 3, **arguments)


def test_a_verifier_that_raises_is_wrong_then_an_error():
    """Oracle: 1 raise in 20 checks is 5 % and allowed; 2 in 21 give an error with the first traceback."""

    def check(question, gold, given):
        raise ZeroDivisionError(f"trouble with {given}")

    shaky = made(check)
    problem = shaky.train[0]
    assert not shaky.verify(problem, ["The answer is one."])
    for _ in range(19):
        assert not shaky.verify(problem, ["no answer, so the verifier is not asked"])
    with pytest.raises(DataError, match=r"2 of 21 checks(?s:.*)Traceback(?s:.*)trouble with one"):
        shaky.verify(problem, ["The answer is two."])


def test_a_verifier_that_always_raises_is_an_error_at_the_twentieth_check():
    """Oracle: the documented least number of checks."""
    broken = made(lambda question, gold, given: 1 / 0)
    for _ in range(19):
        assert not broken.verify(broken.train[0], ["The answer is 1."])
    with pytest.raises(DataError, match="20 of 20"):
        broken.verify(broken.train[0], ["The answer is 1."])


def test_questions_must_be_distinct_over_splits():
    """Oracle: a question in two splits is leakage."""
    with pytest.raises(DataError, match="twice"):
        ReasoningTask(
            "twice", {"train": [Item("q", "1")], "test": [Item("q", "1")]}, form=text_form(),
            verifier=verifier("exact"), max_steps=1, step_tokens=1, solution_tokens=1,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("The answer is 8.", "8"), ("the answer is: $1,250.", "1250"), ("The answer is 8 apples.", "8"),
        ("So the final answer: 3/4", "3/4"), (r"\boxed{\frac{1}{2}} is it", r"\frac{1}{2}"),
        (r"The answer is \boxed{12}.", "12"), (r"first \boxed{1}, then \boxed{2}", "2"), (r"\boxed{1", None),
        ("The answer is", None), ("8", None), ("The answer is $x+1$.", "x+1"), ("The answer is 50%.", "50"),
        ("The answer is -3.5", "-3.5"), ("The answer is (B).", "(B)"),
    ],
)  # fmt: skip
def test_marked_answers(step, answer):
    """Oracle: by hand."""
    assert marked_answer(None, ["The answer is not here yet: \\boxed{", step][1:]) == answer
    assert text_form().ended("question", ["a step", step]) is (answer is not None)
    assert not text_form().ended("question", [step, "one more step"])


@given(st.integers(-(10**9), 10**9))
def test_plain_answer_keeps_numbers(number):
    """Oracle: the number itself, however it is dressed up."""
    for dressed in (f"{number:,}", f"{number} dollars.", f"${number}$", f" **{number}** "):
        assert plain_answer(dressed) == str(number)


def test_prompts_for_plain_and_chat_models():
    """Oracle: by hand."""
    form = text_form(preamble="Question: a\nAnswer:\nb\n\n", instruction="Think.")
    assert form.prompt("{x}?") == "Question: a\nAnswer:\nb\n\nQuestion: {x}?\nAnswer:\n"
    assert form.prompt("{x}?", chat=True) == "{x}?\nThink."


def test_chain100_end_and_answer():
    """Oracle: the reference solution of each training problem, and its prefixes."""
    chains = task("chain100?steps=2-5&train=30&validation=3&test=10")
    for problem in chains.train:
        lines = chains.oracle.solution(problem)
        assert chains.verify(problem, lines) and chains.is_end(problem, lines)
        assert chains.steps("\n".join(lines) + "\n\n") == lines
        assert chains.answer(lines) == chains.answer(lines, problem) == lines[-1][-2:]
        for cut in range(len(lines)):
            assert not chains.is_end(problem, lines[:cut])
            assert chains.answer(lines[:cut], problem) is None
            assert not chains.verify(problem, lines[:cut])
        assert len(lines[-1]) + 1 <= chains.step_tokens
        assert sum(len(line) + 1 for line in lines) <= chains.solution_tokens
    assert chains.max_steps == 5


@given(
    st.tuples(*[st.integers(1, 60)] * 3),
    st.integers(0, 5),
    st.tuples(*[st.integers(1, 60)] * 3),
    st.integers(0, 5),
)
@settings(max_examples=15, deadline=None)
def test_chain100_splits_are_disjoint_whatever_sizes_and_seeds(sizes, seed, other_sizes, other_seed):
    """Oracle: sets; K = 1 leaves only 2,160 problems, so that two draws meet often."""

    def splits(sizes, seed):
        made = task("chain100?steps=1&train={}&validation={}&test={}&seed={}".format(*sizes, seed))
        return [{p.prompt for p in getattr(made, s)} for s in ("train", "validation", "test")]

    one, two = splits(sizes, seed), splits(other_sizes, other_seed)
    assert [len(split) for split in one] == list(sizes)
    for a, b in itertools.permutations(range(3), 2):
        assert not one[a] & two[b] and not one[a] & one[b]


def test_a_larger_training_split_leaves_the_others():
    """Oracle: the same test problems, and the smaller training split at the start of the larger."""
    small, large = (task(f"chain100?steps=6&train={n}&validation=20&test=50") for n in (50, 3000))
    assert small.test == large.test and small.validation == large.validation
    assert large.train[:50] == small.train
    assert small.fingerprint != large.fingerprint
    assert small.fingerprint == task(small.name).fingerprint


def test_countdown_accepts_any_true_solution():
    """Oracle: a brute-force search for a solution other than the reference."""
    puzzles = task("countdown-2?train=20&validation=2&test=5")
    for problem in puzzles.train:
        a, b, target = (int(n) for n in problem.prompt.rstrip(":").replace("=", " ").split())
        assert puzzles.verify(problem, puzzles.oracle.solution(problem))
        for operator, result in (("+", a + b), ("-", a - b), ("*", a * b)):
            step = (f"{a}{operator}{b}={result}",)
            assert puzzles.verify(problem, step) is (result == target)
            assert puzzles.is_end(problem, step)
