"""The doors to the truth of a reasoning task: functions, with the answers in their closures alone."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.splits import SPLITS, text_key
from selfstudy.signals.verifiers import Verifier
from selfstudy.tasks.forms import SolutionForm

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import Item, Problem

# A verifier may raise this often, looked at from this many checks on.
RAISES_ALLOWED, CHECKS_LOOKED_AT = 0.05, 20

Grade = Callable[[Sequence["Problem"], Sequence[Sequence[str]], Meter, bool], list[float]]


class Doors(NamedTuple):
    """The only functions that can see the truth; each charges the meter that it is given."""

    grade: Grade
    """From problems, the steps of their solutions, a meter, and whether test problems may be among them."""
    solve: Callable[[Problem, Meter], tuple[str, ...] | None]
    """The reference steps, None where the task has none."""
    guide: Callable[[Problem, Meter], str]
    """The question with its answer shown."""
    hint: Callable[[Problem, int, Meter], str | None]
    """A hint of some strength, None where there is none."""
    telling: Callable[[Sequence[str]], int]
    """How many problems, by id, have a hint that gives their answer away."""
    shown: Callable[[Sequence[str]], float]
    """Share of problems, by id, whose answer stands in the question as a word of its own."""


def doors(name: str, splits: Mapping[str, Sequence[Item]], verifier: Verifier, form: SolutionForm) -> Doors:
    """Return the doors to the truth of a task.

    Raises:
        DataError: a question is there twice.
    """
    truth = {text_key(item.key): (split, item) for split in SPLITS for item in splits.get(split, ())}
    if len(truth) != sum(len(splits.get(split, ())) for split in SPLITS):
        raise DataError(f"Task {name!r} holds a question twice; its splits must be distinct.")

    def item_of(problem: Problem, test_too: bool = False) -> Item:
        if problem.id not in truth:
            raise UsageError(f"Problem {problem.id!r} does not belong to task {name!r}.")
        split, item = truth[problem.id]
        if not item.labelled:
            raise UsageError(
                f"Problem {problem.id!r} of {name!r} was loaded without its answer. Take a method that needs "
                "none for training, such as mm-upt, or problems with answers."
            )
        if split == "test" and not test_too:
            raise UsageError(
                f"Problem {problem.id!r} is a test problem of {name!r}: only evaluate() uses its truth. "
                "Verify training or validation problems."
            )
        return item

    def solve(problem: Problem, meter: Meter) -> tuple[str, ...] | None:
        item = item_of(problem)
        if item.solution is not None:
            meter.charge(oracle_labels=1)
        return item.solution

    def guide(problem: Problem, meter: Meter) -> str:
        item = item_of(problem)
        if form.guided is None:
            raise UsageError(f"The task {name!r} has no prompts that show the answer.")
        meter.charge(oracle_labels=1)
        return form.guided(item.prompt, item.answer)

    def hint(problem: Problem, strength: int, meter: Meter) -> str | None:
        item = item_of(problem)
        if strength >= len(item.hints):
            return None
        meter.charge(oracle_labels=1)
        return item.hints[strength]

    def telling(ids: Sequence[str]) -> int:
        items = [truth[one][1] for one in ids]
        return sum(any(form.tells(item.prompt, item.answer, text) for text in item.hints) for item in items)

    def shown(ids: Sequence[str]) -> float:
        items = [truth[one][1] for one in ids]
        words = [rf"(?<!\w){re.escape(item.answer.strip())}(?!\w)" for item in items]
        found = [re.search(word, item.prompt) for word, item in zip(words, items, strict=True)]
        return sum(one is not None for one in found) / max(1, len(items))

    return Doors(_grading(verifier, form, item_of), solve, guide, hint, telling, shown)


def _grading(verifier: Verifier, form: SolutionForm, item_of: Callable[[Problem, bool], Item]) -> Grade:
    """Return the door that grades solutions."""
    check = _Checks(verifier)

    def grade(
        problems: Sequence[Problem], solutions: Sequence[Sequence[str]], meter: Meter, test_too: bool
    ) -> list[float]:
        items = [item_of(problem, test_too) for problem in problems]
        meter.charge(verifier_calls=len(items))
        texts = [
            form.answer(item.prompt, steps) if verifier.reads == "answer" else "\n".join(steps)
            for item, steps in zip(items, solutions, strict=True)
        ]
        given = [(i.prompt, i.answer, text) for i, text in zip(items, texts, strict=True) if text is not None]
        check.done += texts.count(None)
        if verifier.grade_all is not None:
            grades = iter(verifier.grade_all(given))
        else:
            grades = iter([check(*one) for one in given])
        found = [0.0 if text is None else float(next(grades)) for text in texts]
        if not all(0 <= one <= 1 for one in found):
            wrong = next(one for one in found if not 0 <= one <= 1)
            raise DataError(
                f"The verifier {verifier.name!r} gave the grade {wrong}; a grade is a number from 0 to 1, "
                "or True or False."
            )
        return found

    return grade


class _Checks:
    """Calls a verifier, and counts how often it raises; it holds no answer.

    Attributes:
        done: checks, also of solutions without an answer.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.done, self._raised = 0, 0
        self._first = ""

    def __call__(self, question: str, gold: str, text: str) -> float:
        self.done += 1
        try:
            grade = self._verifier(question, gold, text)
            return grade if isinstance(grade, float) else float(bool(grade))
        except Exception:
            self._raised += 1
            self._first = self._first or traceback.format_exc()
        if self.done >= CHECKS_LOOKED_AT and self._raised > RAISES_ALLOWED * self.done:
            raise DataError(
                f"The verifier {self._verifier.name!r} raised in {self._raised} of {self.done} checks; "
                f"up to {RAISES_ALLOWED:.0%} count as wrong answers. Repair it. Its first error was:\n"
                f"{self._first}"
            )
        return 0.0
