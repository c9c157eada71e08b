"""Known sets of mathematical problems in words: GSM8K, MATH-500, MAWPS, SVAMP.

They are read from `$SELFSTUDY_DATA`, else from the hub. GSM8K keeps its official test split. MATH-500 is a
test split only. MAWPS and SVAMP are published for evaluation only and are split here by hash, 70/10/20 %:
numbers on these splits are our own and must not be compared with published ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.readers import Row, plain_text, read_hub, read_rows
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.forms import WORD_PROBLEMS, SolutionForm, plain_answer, text_form
from selfstudy.tasks.reasoning import Item, ReasoningTask
from selfstudy.tasks.rows import gather, split_items

_CALCULATOR = re.compile(r"<<[^>]*>>")
_BOXED_INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."


def gsm8k(*, most_steps: int = 0) -> ReasoningTask:
    """Grade-school problems (Cobbe et al., 2021): 7,473 to train and validate, the official 1,319 to test.

    Args:
        most_steps: only problems whose reference solution has at most so many steps before the answer, for
            small models; 0 takes all. Numbers on a part must not be compared with published ones.
    """
    if most_steps < 0:
        raise UsageError(f"most_steps={most_steps} must be zero or more.")
    test = _rows("gsm8k", "gsm8k/test.jsonl.gz", ("openai/gsm8k", "main", "test"))
    train = _rows("gsm8k", "gsm8k/train.jsonl.gz", ("openai/gsm8k", "main", "train"))
    name = f"gsm8k?most_steps={most_steps}" if most_steps else "gsm8k"
    form = text_form(preamble=WORD_PROBLEMS)
    return _task(name, train, _read_gsm8k, form, test=test, most_steps=most_steps)


def math500() -> ReasoningTask:
    """500 problems of MATH's test split (Lightman et al., 2023); all are test problems."""
    rows = _rows("math500", "math500/test.jsonl.gz", ("HuggingFaceH4/MATH-500", None, "test"))
    form = text_form(instruction=_BOXED_INSTRUCTION)
    gathered = gather("math500", rows, _read_math500, verifier("math"))
    return ReasoningTask(
        "math500",
        {"test": gathered.items},
        form=form,
        verifier=verifier("math"),
        max_steps=32,
        step_tokens=256,
        solution_tokens=1024,
        temperature=0.7,
        dropped=gathered.dropped,
    )


def mawps(*, kinds: str = "") -> ReasoningTask:
    """One- and two-step problems (Koncel-Kedziorski et al., 2016); our own split.

    Args:
        kinds: only these, comma-separated: addsub, singleop, singleeq, multiarith. All if empty.
    """
    rows = _rows("mawps", "math_word_problems/mawps_test.jsonl.gz", None)
    wanted = set(filter(None, kinds.split(",")))
    known = {row.values["type"] for row in rows if row.values}
    if wanted - known:
        raise UsageError(f"mawps has no kind {min(wanted - known)!r}. Known: {', '.join(sorted(known))}.")
    rows = [row for row in rows if row.values and (not wanted or row.values["type"] in wanted)]
    name = f"mawps?kinds={kinds}" if kinds else "mawps"
    return _task(name, rows, _read_mawps, text_form(preamble=WORD_PROBLEMS))


def svamp() -> ReasoningTask:
    """1,000 one-step problems with distractors (Patel et al., 2021); our own split."""
    rows = _rows("svamp", "math_word_problems/svamp_test.jsonl.gz", ("ChilleD/SVAMP", None, "test"))
    return _task("svamp", rows, _read_svamp, text_form(preamble=WORD_PROBLEMS))


def _rows(name: str, relative: str, hub: tuple[str, str | None, str] | None) -> list[Row]:
    path = library_file(relative)
    if path is not None:
        return read_rows(path, "jsonl")
    here = f"Put the file {relative} into a folder and set ${VARIABLE} to that folder"
    if hub is None:
        raise DataError(f"The data set {name} is not here. {here}.")
    try:
        return read_hub(*hub)
    except DataError as error:
        raise DataError(
            f"The data set {name} is not here. {here}, "
            f"or download {hub[0]} from the Hugging Face hub. ({error})"
        ) from error


def _task(
    name: str,
    rows: list[Row],
    read: Callable[[Mapping[str, Any]], Item],
    form: SolutionForm,
    *,
    test: list[Row] | None = None,
    most_steps: int = 0,
) -> ReasoningTask:
    judge = verifier("math")
    held_out = gather(f"{name} (test)", test, read, judge).items if test is not None else None
    taken = [item.prompt for item in held_out or ()]
    gathered = gather(name, rows, read, judge, taken=taken)
    splits = split_items(name, gathered.items, held_out)
    if most_steps:  # the last line of a reference solution states the answer
        splits = {
            split: [item for item in items if len(item.solution or ()) <= most_steps + 1]
            for split, items in splits.items()
        }
        if not (splits["train"] and splits["test"]):
            raise UsageError(f"most_steps={most_steps} leaves nothing to train on, or nothing to test on.")
    return ReasoningTask(
        name,
        splits,
        form=form,
        verifier=judge,
        max_steps=8,
        step_tokens=64,
        solution_tokens=256,
        temperature=0.7,
        dropped=gathered.dropped,
    )


def _read_gsm8k(values: Mapping[str, Any]) -> Item:
    rationale, mark, answer = plain_text(values["answer"]).rpartition("####")
    if not mark:
        raise ValueError("no #### before the answer")
    answer = plain_answer(answer)
    lines = (line.strip() for line in _CALCULATOR.sub("", rationale).split("\n"))
    steps = (*filter(None, lines), f"The answer is {answer}.")
    return Item(plain_text(values["question"]), answer, steps)


def _read_math500(values: Mapping[str, Any]) -> Item:
    question = plain_text(values.get("problem") or values.get("prompt")).removesuffix(_BOXED_INSTRUCTION)
    return Item(question.strip(), plain_text(values["answer"]))


def _read_mawps(values: Mapping[str, Any]) -> Item:
    return Item(plain_text(values["input"]), plain_text(values["target"]))


def _read_svamp(values: Mapping[str, Any]) -> Item:
    body, question = plain_text(values["Body"]), plain_text(values["Question"])
    return Item(
        f"{body}{'' if body[-1:] in '.?!,' else ','} {question}", plain_answer(plain_text(values["Answer"]))
    )
