"""Reasoning tasks: problems in the open, truth behind functions that count every use of it.

No answer is an attribute of anything that a method gets. Answers and reference solutions live in the
closures of three doors: `verify` (counts verifier calls) and `oracle.solution` (counts oracle labels), both
closed to test problems, and `evaluate`, which gives out verdicts on a whole split.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError, nearest
from selfstudy.data.problem_images import ProblemImage
from selfstudy.data.splits import SPLITS, text_key
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.signals.verifiers import Verifier
from selfstudy.tasks.base import MeteredTask
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.truth import doors


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem as a method sees it. `id` is a hash of what is asked, `prompt` the question itself."""

    id: str
    prompt: str
    images: tuple[ProblemImage, ...] = ()
    """What the question is about, in its order."""


@dataclass(frozen=True, slots=True)
class Item:
    """One problem with its truth, as loaders hand it to a task."""

    prompt: str
    answer: str
    solution: tuple[str, ...] | None = None
    """Reference steps, where the source has them."""
    hints: tuple[str, ...] = ()
    """Texts that help to solve it, each stronger than the one before."""
    images: tuple[ProblemImage, ...] = ()
    """What the question is about, in its order."""
    labelled: bool = True
    """Whether the answer is known; without it, it is empty."""

    @property
    def key(self) -> str:
        """What tells it from all others: the question, and the names of its images."""
        return "\x1f".join([self.prompt, *(image.name for image in self.images)])

    @property
    def home(self) -> str:
        """What decides its split: the first of its images by name (questions about one stay together)."""
        return min((image.name for image in self.images), default=self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The outcome of an evaluation."""

    split: str
    ids: tuple[str, ...]
    correct: tuple[bool, ...]
    grades: tuple[float, ...]
    """How right each solution is, in [0, 1]; 1 is correct."""
    accuracy: float
    count: int
    low: float
    """Lower end of the Wilson 95 % interval of the accuracy."""
    high: float
    generated_tokens: float
    """Tokens that the solver drew, for all problems together."""
    scored_tokens: float

    @property
    def values(self) -> tuple[bool, ...]:
        """The figure of each problem: right or wrong."""
        return self.correct

    def to_json(self) -> dict[str, Any]:
        """Return plain values: tuples become lists."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


Solver = Callable[[Sequence[Problem], Meter], list[tuple[str, ...]]]


class Oracle:
    """Gives out reference solutions, and counts them."""

    def __init__(self, solution: Callable[[Problem], tuple[str, ...] | None]) -> None:
        self._solution = solution

    def solution(self, problem: Problem) -> tuple[str, ...] | None:
        """Return the reference steps of a training or validation problem, None if the task has none.

        Raises:
            UsageError: for a test problem.
            BudgetSpent: the budget of oracle labels does not cover it.
        """
        return self._solution(problem)


class ReasoningTask(MeteredTask):
    """Problems in three splits, a way to pose them, and counted access to the truth.

    Attributes:
        name: the specification that makes this task again.
        train, validation, test: the problems.
        fingerprint: a hash of all problems and their splits; changed data change it.
        form: preamble, template and instruction, and how answers are read.
        verifier: the name of the verifier.
        max_steps, step_tokens, solution_tokens, temperature: what suits the task's solutions.
        stop: strings that end a whole solution; a line break ends a step.
        dropped: rows of the source that could not be used, by reason.
        meter: where checks and labels are counted.
    """

    metric = ACCURACY

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Sequence[Item]],
        *,
        form: SolutionForm,
        verifier: Verifier,
        max_steps: int,
        step_tokens: int,
        solution_tokens: int,
        temperature: float = 1.0,
        dropped: Mapping[str, int] | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.name, self.form, self.verifier = name, form, verifier.name
        self.max_steps, self.step_tokens, self.solution_tokens = max_steps, step_tokens, solution_tokens
        self.temperature, self.stop = temperature, form.stop
        self.dropped = dict(dropped or {})
        self.meter = meter or Meter()
        self.train, self.validation, self.test = (
            tuple(Problem(text_key(item.key), item.prompt, item.images) for item in splits.get(split, ()))
            for split in SPLITS
        )
        self.fingerprint = text_key(
            "\n".join(f"{split} {problem.id}" for split in SPLITS for problem in getattr(self, split))
        )
        compares = verifier.reads == "answer" and verifier.grade_all is None
        self._equivalent = verifier.check if compares else _never
        self._doors = doors(name, splits, verifier, form)

    def limited(self, train: int) -> ReasoningTask:
        """Return this task with its first `train` training problems only."""
        smaller = copy.copy(self)
        smaller.train = self.train[:train]
        return smaller

    def posing(self, problems: Sequence[Problem]) -> ReasoningTask:
        """Return this task with other training problems, which have no truth here unless they are its own."""
        other = copy.copy(self)
        other.train = tuple(problems)
        return other

    def prompt(self, problem: Problem, *, chat: bool = False, hint: str | None = None) -> str:
        """Return the text for a plain language model, or the message for a chat model."""
        return self.form.prompt(problem.prompt, chat=chat, hint=hint)

    def steps(self, text: str) -> tuple[str, ...]:
        """Split a solution into its steps: the lines that are not blank; see `SolutionForm.lines`."""
        return self.form.lines(text)

    def written(self, steps: Sequence[str]) -> str:
        """Return the text of a whole solution: its steps, each with the line break that ends it."""
        return "".join(f"{step}\n" for step in steps)

    def is_end(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Tell whether `steps` have the form of a finished solution; the truth is not consulted."""
        return self.form.ended(problem.prompt, steps)

    def answer(self, steps: Sequence[str], problem: Problem | None = None) -> str | None:
        """Return the answer that `steps` state, or None; with `problem`, only a finished solution has one."""
        return self.form.answer(problem.prompt if problem else None, steps)

    def equivalent(self, problem: Problem, one: str, other: str) -> bool:
        """Tell whether two answers to `problem` mean the same; no truth is consulted, nothing is counted.

        By the verifier where it compares answers, else they must be the same text.
        """
        return one == other or self._equivalent(problem.prompt, one, other) == 1

    def room(self, problem: Problem) -> int:
        """Return the most tokens that a solution of `problem` may have."""
        return self.form.room(problem.prompt) if self.form.room else self.solution_tokens

    def verify(self, problem: Problem, steps: Sequence[str]) -> bool:
        """Tell whether `steps` solve a training or validation problem; counts one verifier call.

        Raises:
            UsageError: for a test problem, or one of another task.
            DataError: the verifier raised in over 5 % of at least 20 checks.
            BudgetSpent: the budget of verifier calls does not cover it.
        """
        return self.grades([problem], [steps])[0] == 1

    def grades(self, problems: Sequence[Problem], solutions: Sequence[Sequence[str]]) -> list[float]:
        """Return how right each solution is, in [0, 1]: 1 solves its problem; less may be a share of tests.

        Counts a verifier call for each; for training and validation problems.

        Raises:
            UsageError: for a test problem, or one of another task.
            DataError: the verifier raised in over 5 % of at least 20 checks, or gave a grade out of range.
            BudgetSpent: the budget of verifier calls does not cover all of them.
        """
        return self._doors.grade(problems, solutions, self.meter, False)

    def guided_prompt(self, problem: Problem, *, chat: bool = False) -> str:
        """Return the text or message of a training or validation problem that shows its answer.

        Counts one oracle label.

        Raises:
            UsageError: for a test problem, or where the task's form has no such prompts.
            BudgetSpent: the budget of oracle labels does not cover it.
        """
        return self.form.prompt(self._doors.guide(problem, self.meter), chat=chat)

    def hint(self, problem: Problem, strength: int = 0) -> str | None:
        """Return a hint to a training or validation problem, None if there is none of that strength.

        Counts one oracle label: somebody has looked at a solution for it.

        Args:
            problem: of this task.
            strength: 0 is the weakest.

        Raises:
            UsageError: for a test problem.
            BudgetSpent: the budget of oracle labels does not cover it.
        """
        return self._doors.hint(problem, strength, self.meter)

    def telling_hints(self) -> int:
        """Return how many training problems have a hint that gives their answer away."""
        return self._doors.telling([problem.id for problem in self.train])

    def answers_shown(self) -> float:
        """Return the share of training questions in which their answer stands as a word of its own."""
        return self._doors.shown([problem.id for problem in self.train])

    def prefer(
        self, problems: Sequence[Problem], outputs: Sequence[Sequence[str]]
    ) -> list[list[float]] | list[list[list[float]]]:
        """Return what the truth says of several outputs to each problem, as texts: their grades.

        Other tasks may return wins instead: for every two outputs the probability that the first is better.
        See `grades` for what is counted and raised.
        """
        many = [problem for problem, texts in zip(problems, outputs, strict=True) for _ in texts]
        found = iter(self.grades(many, [self.steps(text) for texts in outputs for text in texts]))
        return [[next(found) for _ in texts] for texts in outputs]

    @property
    def oracle(self) -> Oracle:
        """The door to reference solutions, counted on this task's meter."""
        return Oracle(lambda problem: self._doors.solve(problem, self.meter))

    def evaluate(
        self,
        solver: Solver,
        *,
        split: str = "test",
        limit: int | None = None,
        start: int = 0,
        meter: Meter | None = None,
    ) -> Score:
        """Return how many problems of a split `solver` solves.

        Args:
            solver: gets the problems and the meter, on which it must count, and returns the steps of one
                solution for each problem.
            split: train, validation or test.
            limit: so many problems; None is all.
            start: how many problems of the split are passed over before.
            meter: charged with what is drawn, scored and checked; None is one without limits.

        Raises:
            UsageError: an unknown split, no problems, or a wrong number of solutions.
            BudgetSpent: the meter's budget does not cover it.
        """
        if split not in SPLITS:
            raise UsageError(f"Unknown split {split!r}. {nearest(split, SPLITS)}")
        problems = getattr(self, split)[start : None if limit is None else start + limit]
        if not problems:
            raise UsageError(f"Task {self.name!r} has no {split} problems to evaluate (limit={limit}).")
        meter = meter or Meter()
        before = meter.snapshot()
        solutions = solver(problems, meter)
        if len(solutions) != len(problems):
            raise UsageError(f"The solver gave {len(solutions)} solutions for {len(problems)} problems.")
        grades = tuple(self._doors.grade(problems, solutions, meter, True))
        correct = tuple(grade == 1 for grade in grades)
        from selfstudy.evaluation.statistics import wilson

        low, high = wilson(sum(correct), len(correct))
        spent = meter.snapshot()
        return Score(
            split=split,
            ids=tuple(problem.id for problem in problems),
            correct=correct,
            grades=grades,
            accuracy=sum(correct) / len(correct),
            count=len(correct),
            low=low,
            high=high,
            generated_tokens=spent["generated_tokens"] - before["generated_tokens"],
            scored_tokens=spent["scored_tokens"] - before["scored_tokens"],
        )


def _never(question: str, one: str, other: str) -> bool:
    return False
