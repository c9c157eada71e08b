"""Prompts whose outputs are judged, not checked: the user's judge says which of several is better.

`jsonl:prompts.jsonl?prompt=question&answer=reference&judge=judges:better`. A test prompt counts as won where
the judge prefers the model's output to the reference: the person's, or that of the model to be beaten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.functions import user_function
from selfstudy.data.readers import plain_text, read_rows
from selfstudy.data.splits import split_of
from selfstudy.evaluation.scores import Metric
from selfstudy.signals.judges import compared, comparisons, symmetric
from selfstudy.signals.verifiers import Verifier
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, Problem, ReasoningTask
from selfstudy.tasks.rows import gather, need_columns

Better = Callable[[str, list[str]], Any]
"""(prompt, outputs) to scores [m], or wins [m, m]."""
WIN_RATE = Metric(name="win rate against the reference", share=True)


class PreferenceTask(ReasoningTask):
    """Prompts with references, and a judge of outputs.

    Args:
        name: the specification that makes this task again.
        splits: items whose `solution` is the reference in lines; in training it may be None.
        judge: compares outputs when a method asks.
        evaluation_judge: compares outputs with the reference; None is `judge`.
        tokens: most tokens of an output.
        form: how prompts are put.
        temperature: for sampling.
        dropped: rows that could not be used, by reason.

    Raises:
        DataError: a validation or test prompt without a reference.
    """

    metric = WIN_RATE

    def __init__(
        self,
        name: str,
        splits: Mapping[str, Sequence[Item]],
        judge: Better,
        *,
        evaluation_judge: Better | None = None,
        tokens: int = 256,
        form: SolutionForm | None = None,
        temperature: float = 1.0,
        dropped: Mapping[str, int] | None = None,
    ) -> None:
        self._better = judge
        super().__init__(
            name,
            splits,
            form=replace(form or SolutionForm(), ended=_some_text, answer=_whole_text),
            verifier=_against_reference(evaluation_judge or judge),
            max_steps=1,
            step_tokens=tokens,
            solution_tokens=tokens,
            temperature=temperature,
            dropped=dropped,
        )

    def steps(self, text: str) -> tuple[str, ...]:
        """Return the lines of an output as they are, blank ones too; outer blanks aside."""
        return tuple(text.strip().split("\n")) if text.strip() else ()

    def written(self, steps: Sequence[str]) -> str:
        """Return the text of an output."""
        return "\n".join(steps)

    def prefer(
        self, problems: Sequence[Problem], outputs: Sequence[Sequence[str]]
    ) -> list[list[float]] | list[list[list[float]]]:
        """Return what the judge thinks of each problem's outputs, scores or wins; counts each comparison."""
        self.meter.charge(verifier_calls=sum(comparisons(len(texts)) for texts in outputs))
        return [
            compared(self._better, problem.prompt, texts).tolist()
            for problem, texts in zip(problems, outputs, strict=True)
        ]


def _some_text(question: str, steps: Sequence[str]) -> bool:
    return bool(steps)


def _whole_text(question: str | None, steps: Sequence[str]) -> str | None:
    return "\n".join(steps) or None


def _against_reference(better: Better) -> Verifier:
    def check(question: str, gold: str, given: str) -> float:
        if not gold:
            raise DataError(
                f"The prompt {question[:60]!r} has no reference, so an output cannot be graded by comparison "
                "with it. Give it one, or use a method that compares outputs with each other (dno)."
            )
        return won(better, question, given, gold)

    def grade_all(given: Sequence[tuple[str, str, str]]) -> list[float]:
        return [check(*one) for one in given]

    return Verifier("judge", check, reads="solution", grade_all=grade_all)


def won(better: Better, prompt: str, first: str, second: str) -> float:
    """Return 1 where the judge prefers the first output, 0 for the second, 1/2 where it cannot tell.

    The judge sees both orders.
    """
    a, b = (compared(better, prompt, pair) for pair in ((first, second), (second, first)))
    if a.ndim == 1:
        difference = float((a[0] - a[1]) + (b[1] - b[0]))
    else:
        difference = float(symmetric(a)[0, 1] + symmetric(b)[1, 0] - 1)
    return float(np.sign(difference) + 1) / 2 if abs(difference) > 1e-9 else 0.5


def prompts(
    kind: str,
    path: str,
    *,
    judge: str,
    evaluation_judge: str = "",
    prompt: str = "prompt",
    answer: str = "answer",
    instruction: str = "",
    template: str = "{question}",
    test: str = "",
    tokens: int = 256,
    temperature: float = 1.0,
) -> PreferenceTask:
    """Make a task of prompts and a judge.

    Rows without a reference are trained on; the others are split by a hash of the prompt, 70/10/20 %.

    Args:
        kind: "jsonl", "csv" or "parquet".
        path: the file.
        judge: module:function, called as function(prompt, outputs).
        evaluation_judge: another one that measures; the same if empty.
        prompt: column of the prompt.
        answer: column of the reference.
        instruction: what chat models are told after the prompt.
        template: how a plain model sees a prompt; {question} stands for it.
        test: file to test on.
        tokens: most tokens of an output.
        temperature: for sampling.

    Raises:
        DataError: files or rows that cannot be used.
        UsageError: fields that cannot be right.
    """
    given = {key: value for key, value in locals().items() if key not in ("kind", "path")}
    if tokens < 1 or temperature < 0:
        raise UsageError("tokens must be 1 or more, and temperature 0 or more.")
    better = user_function(judge, "judge")
    measuring = user_function(evaluation_judge, "judge") if evaluation_judge else None
    rows = read_rows(Path(path).expanduser(), kind)
    need_columns(path, rows, [prompt])
    read, plain = _reader(prompt, answer), Verifier("judge", lambda *_: True, usable=lambda _: True)
    held_out = None
    if test:
        test_rows = read_rows(Path(test).expanduser(), kind)
        need_columns(test, test_rows, [prompt, answer])
        held_out = gather(test, test_rows, read, plain).items
    gathered = gather(path, rows, read, plain, taken=[item.prompt for item in held_out or ()])
    return PreferenceTask(
        _name(kind, path, given),
        _split(path, gathered.items, held_out),
        better,
        evaluation_judge=measuring,
        tokens=tokens,
        form=SolutionForm(template=template, instruction=instruction),
        temperature=temperature,
        dropped=gathered.dropped,
    )


_NOTHING = "\0"  # stands for a missing reference, which `gather` would drop


def _reader(prompt: str, answer: str) -> Callable[[Mapping[str, Any]], Item]:
    def read(values: Mapping[str, Any]) -> Item:
        text = plain_text(values.get(answer)).strip()
        return Item(
            plain_text(values.get(prompt)), text or _NOTHING, tuple(text.split("\n")) if text else None
        )

    return read


def _split(path: str, items: Sequence[Item], test: Sequence[Item] | None) -> dict[str, list[Item]]:
    splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    ends = {} if test is None else {"train_end": 0.9, "validation_end": 1.0}
    for item in items:
        if item.solution is None:
            splits["train"].append(Item(item.prompt, ""))
        else:
            splits[split_of(item.prompt, **ends)].append(item)
    for item in test or ():
        if item.solution is None:
            raise DataError(f"The test prompt {item.prompt[:60]!r} has no reference to be compared with.")
        splits["test"].append(item)
    for split in ("train", "test"):
        if not splits[split]:
            known = sum(item.solution is not None for item in items)
            raise DataError(
                f"{path} gives {len(items)} prompts, {known} of them with a reference, and none falls into "
                f"the {split} split. A test prompt needs a reference to be compared with, such as what the "
                "present model answers: give more, or a file of their own, ?test=FILE."
            )
    return splits


def _name(kind: str, path: str, given: dict[str, Any]) -> str:
    defaults = prompts.__kwdefaults__ or {}
    fields = [
        f"{field}={quote(str(value), safe='/:.,')}"
        for field, value in given.items()
        if value != defaults.get(field)
    ]
    return f"{kind}:{path}?" + "&".join(fields)
