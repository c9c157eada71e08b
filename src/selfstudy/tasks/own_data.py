"""The user's own problems: JSON lines, CSV, Parquet, or a data set of the hub.

`jsonl:problems.jsonl?prompt=question&answer=answer&verifier=math`. The splits are made by a hash of the
question, 70/10/20 %, so that more rows never move a question from one split to another.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.data.readers import Row, hub_splits, read_hub, read_rows
from selfstudy.signals.verifiers import verifier as verifier_named
from selfstudy.tasks.chain import CHAIN_FORM
from selfstudy.tasks.countdown import COUNTDOWN_FORM
from selfstudy.tasks.forms import INSTRUCTION, text_form
from selfstudy.tasks.reasoning import ReasoningTask
from selfstudy.tasks.rows import columns, gather, need_columns, split_items

_log = logging.getLogger(__name__)


def table(
    kind: str,
    path: str,
    *,
    prompt: str = "prompt",
    answer: str = "answer",
    solution: str = "",
    hint: str = "",
    images: str = "",
    labels: bool = True,
    verifier: str = "math",
    preamble: str = "",
    instruction: str = INSTRUCTION,
    test: str = "",
    config: str = "",
    split: str = "train",
    max_steps: int = 8,
    step_tokens: int = 64,
    solution_tokens: int = 320,
    temperature: float = 1.0,
) -> ReasoningTask:
    """Make a task of rows.

    Args:
        kind: "jsonl", "csv", "parquet" or "hf".
        path: the file; for "hf" owner/name or a local folder in the hub's layout.
        prompt: column of the question.
        answer: column of the gold answer.
        solution: column of reference steps, one per line; none if empty.
        hint: column of a hint for training, or several with commas between, weak ones first; none if empty.
        images: column of the images that a question shows, one or a list: paths from the folder of the file,
            or what image files hold; none if empty.
        labels: false leaves the answers of `path` unread, if it has any. It needs `test`; a fifth of
            its problems is for validation.
        verifier: math, exact, choice, chain, countdown or module:function.
        preamble: file with worked examples that plain language models read first.
        instruction: what chat models are told after the question.
        test: file (for "hf": split, by default "test" if there is one) to test on.
        config: for "hf": the configuration.
        split: for "hf": the split to train on.
        max_steps: most steps of a solution.
        step_tokens: most tokens of a step.
        solution_tokens: most tokens of a solution.
        temperature: for sampling.

    Raises:
        DataError: files or rows that cannot be used.
        UsageError: fields that cannot be right.
    """
    given = {key: value for key, value in locals().items() if key not in ("kind", "path")}
    _check(kind, path, given)
    judge = verifier_named(verifier)
    rows, test_rows = _hub(path, config, split, test) if kind == "hf" else _files(kind, path, test)
    truth = (answer, solution, *filter(None, map(str.strip, hint.split(","))))
    if not labels:
        _leave_unread(path, rows, test_rows, [column for column in truth if column])
    held_out = None
    if test_rows is not None:
        need_columns(test or "test", test_rows, list(filter(None, (prompt, answer, images))))
        read = columns(prompt, truth[0], truth[1], truth[2:], images, Path(test).expanduser().parent)
        held_out = gather(test or "test", test_rows, read, judge).items
    told = truth if labels else ("", "")
    need_columns(path, rows, list(filter(None, (prompt, *told, images))))
    read = columns(prompt, told[0], told[1], told[2:], images, Path(path).expanduser().parent)
    gathered = gather(path, rows, read, judge, taken=[item.key for item in held_out or ()])
    forms = {"chain": CHAIN_FORM, "countdown": COUNTDOWN_FORM}
    return ReasoningTask(
        _name(kind, path, given),
        split_items(path, gathered.items, held_out, labelled=labels),
        form=forms.get(verifier) or text_form(preamble=_preamble(preamble), instruction=instruction),
        verifier=judge,
        max_steps=max_steps,
        step_tokens=step_tokens,
        solution_tokens=solution_tokens,
        temperature=temperature,
        dropped=gathered.dropped,
    )


def _check(kind: str, path: str, given: dict[str, Any]) -> None:
    for field in ("max_steps", "step_tokens", "solution_tokens"):
        if given[field] < 1:
            raise UsageError(f"{field}={given[field]} must be 1 or more.")
    if given["temperature"] < 0:
        raise UsageError(f"temperature={given['temperature']} must be 0 or more.")
    if not path:
        raise UsageError(f"{kind}: needs a path, as in {kind}:problems?prompt=question&answer=answer.")
    if kind != "hf" and (given["config"] or given["split"] != "train"):
        raise UsageError(f"The fields config and split are for hf: tasks, not for {kind}:.")


def _files(kind: str, path: str, test: str) -> tuple[list[Row], list[Row] | None]:
    rows = read_rows(Path(path).expanduser(), kind)
    return rows, read_rows(Path(test).expanduser(), kind) if test else None


def _hub(path: str, config: str, split: str, test: str) -> tuple[list[Row], list[Row] | None]:
    splits = hub_splits(path, config or None)
    for name in filter(None, (split, test)):
        if name not in splits:
            raise DataError(f"The data set {path!r} has no split {name!r}. {nearest(name, splits)}")
    test = test or ("test" if "test" in splits and split != "test" else "")
    rows = read_hub(path, config or None, split)
    return rows, read_hub(path, config or None, test) if test else None


def _leave_unread(path: str, rows: list[Row], test_rows: list[Row] | None, truth: list[str]) -> None:
    """Take the columns of the truth off the rows to train on, and say so."""
    if test_rows is None:
        raise UsageError(
            f"labels=false leaves {path} without answers to test on. Name a file with answers: test=FILE."
        )
    held = [
        row for row in rows if row.values and any(row.values.pop(name, None) is not None for name in truth)
    ]
    if held:
        _log.warning("%s: the answers of %d rows are not read (labels=false).", path, len(held))


def _preamble(path: str) -> str:
    if not path:
        return ""
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The preamble {path} cannot be read ({error}). Give a UTF-8 text file with worked examples."
        ) from None
    return text + "\n\n" if text else ""


def _name(kind: str, path: str, given: dict[str, Any]) -> str:
    defaults = table.__kwdefaults__ or {}
    fields = [
        f"{field}={quote(str(value), safe='/:.,')}"
        for field, value in given.items()
        if value != defaults[field]
    ]
    return f"{kind}:{path}" + ("?" + "&".join(fields) if fields else "")
