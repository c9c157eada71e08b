"""Questions that a model writes itself, about given ones or about their images alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.splits import text_key
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request

if TYPE_CHECKING:
    from selfstudy.core.run import Run
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

TEMPLATES = {
    "in-context": "Here is a question: {question}\nWrite one new question of this kind that can be answered "
    "by reasoning. Write the question alone, on one line.\n",
    "direct": "Write one question about what is shown that can be answered by reasoning. Write the question "
    "alone, on one line.\n",
}


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Settings of the questions that a model writes itself."""

    each: int = 0
    """New questions drawn for each training problem, about its images where it has some; 0 writes none."""
    mode: Literal["in-context", "direct"] = "in-context"
    """Whether the original question is shown, or its images alone."""
    template: str | None = None
    """What the model is asked, with {question} in the place of the original one; None takes our words."""
    alone: bool = False
    """Train on the new questions alone, without the original ones."""
    temperature: float = 1.0
    """Of the draws."""
    tokens: int = 128
    """Most tokens of a question."""
    shortest: int = 3
    """Least characters of a question."""
    longest: int = 600
    """Most characters of a question."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        if self.each < 0 or self.tokens < 1 or not 1 <= self.shortest <= self.longest:
            raise UsageError(
                "Questions.each must be 0 or more, tokens 1 or more, and 1 <= shortest <= longest must hold."
            )
        if self.temperature <= 0:
            raise UsageError(f"Questions.temperature is {self.temperature}; it must be above 0.")


def write_questions(
    task: ReasoningTask, model: LanguageModel, settings: Questions, run: Run
) -> list[Problem]:
    """Return new problems without answers; what is too short or long, not a question, or known is left out.

    The texts are a stage of the run, so that they are written once.

    Args:
        task: whose training problems are shown; its form says what is a question.
        model: writes.
        settings: see there.
        run: gives the random streams, and counts.

    Raises:
        DataError: nothing that was written is a question.
        BudgetSpent: the meter does not cover it.
    """
    shown = [problem for problem in task.train for _ in range(settings.each)]
    template = settings.template if settings.template is not None else TEMPLATES[settings.mode]
    requests = [
        Request(
            prompt=asking(model, problem, template),
            key=run.key("question", problem.id, i % settings.each),
            max_tokens=settings.tokens,
            temperature=settings.temperature,
            stop=("\n",),
            images=problem.images,
        )
        for i, problem in enumerate(shown)
    ]
    texts = run.stage(
        "questions",
        lambda: [completion.text.strip() for completion in open_sampler(model, run.meter).sample(requests)],
    )
    found = usable(task, shown, texts, settings)
    if not found:
        raise DataError(
            f"None of the {len(texts)} texts that {model.name!r} wrote is a new question of {task.name!r}; "
            f"it wrote {', '.join(map(repr, texts[:3]))}. Say in questions.template what it shall write."
        )
    return found


def asking(model: LanguageModel, problem: Problem, template: str) -> str:
    """Return the prompt that asks for a question about a problem."""
    text = template.replace("{question}", problem.prompt)
    return model.prompt(text, images=len(problem.images)) if problem.images else model.prompt(text)


def usable(
    task: ReasoningTask, shown: Sequence[Problem], texts: Sequence[str], settings: Questions
) -> list[Problem]:
    """Return the texts that are new questions, each about the images of the problem it was written for."""
    known = {(problem.prompt, problem.images) for problem in task.train}
    found = []
    for problem, text in zip(shown, texts, strict=True):
        one = (text, problem.images)
        if settings.shortest <= len(text) <= settings.longest and task.form.asks(text) and one not in known:
            known.add(one)
            names = [image.name for image in problem.images]
            found.append(replace(problem, id=text_key("\x1f".join([text, *names])), prompt=text))
    return found
