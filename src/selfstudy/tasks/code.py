"""Programming problems that are judged by running tests: HumanEval, MBPP, and the user's own.

Programs run in the sandbox only; where there is none, the tasks are refused before any work.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.readers import Row, plain_text, read_hub, read_rows
from selfstudy.signals.code_tests import FENCE, CodeTests, code_tests, grade_code
from selfstudy.signals.sandbox import names_under_test, require_sandbox
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, ReasoningTask
from selfstudy.tasks.rows import DROPS_ALLOWED, gather, need_columns, split_items

STOP = ("\ndef ", "\nclass ", "\nif ", "\n#", "\nprint", "\n@", "\nassert ", '\n"""')
INSTRUCTION = (
    "Answer with the whole program in one block of Python code, begun by ```python and closed by ```."
)
BEYOND_PLAIN_DATA = (367, 533, 596, 601, 927)  # of MBPP: their tests hand over classes or modules
NOT_PLAIN = "whose tests hand over more than plain data"
TRAIN_FROM, VALIDATION_FROM, TEST_FROM = 601, 511, 11  # the official split of MBPP by task_id

_log = logging.getLogger(__name__)


def code_form(template: str, instruction: str = INSTRUCTION) -> SolutionForm:
    """Return the form of programs: lines that keep their indentation, closed by a fence if by anything."""
    return SolutionForm(
        template=template,
        instruction=instruction,
        stop=STOP,
        ended=lambda question, steps: ends_program(steps),
        answer=lambda question, steps: "\n".join(steps) or None,
        indented=True,
        closing=FENCE,
    )


def ends_program(steps: Sequence[str]) -> bool:
    """Tell whether lines look like a finished program: a fence, or a `return` as far left as the first line.

    >>> ends_program(["    y = x + 1", "    return y"]), ends_program(["    if x:", "        return 1"])
    (True, False)
    """
    if not steps:
        return False
    indents = [len(line) - len(line.lstrip()) for line in steps]
    return FENCE in steps[1:] or (steps[-1].lstrip().startswith("return") and indents[-1] == indents[0])


def humaneval() -> ReasoningTask:
    """164 functions to complete from their heads (Chen et al., 2021); all are test problems."""
    require_sandbox()
    rows = _rows("humaneval", "humaneval/test.jsonl.gz", ("openai/openai_humaneval", None, "test"))
    gathered = gather("humaneval", rows, read_humaneval, verifier("tests"))
    return _task("humaneval", {"test": gathered.items}, code_form("{question}"), gathered.dropped)


def mbpp() -> ReasoningTask:
    """974 short functions from one sentence and one test (Austin et al., 2021); the official splits.

    The first test of each problem is shown, which gives the name and the arguments; all of them judge.
    """
    require_sandbox()
    rows = _rows("mbpp", "mbpp/mbpp.jsonl.gz", ("google-research-datasets/mbpp", "full", None))
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    dropped: dict[str, int] = {}
    for row in rows:
        number = int(row.values["task_id"]) if row.values else TRAIN_FROM
        if number in BEYOND_PLAIN_DATA:
            dropped[NOT_PLAIN] = dropped.get(NOT_PLAIN, 0) + 1
        elif number >= TEST_FROM:
            split = "train" if number >= TRAIN_FROM else "validation" if number >= VALIDATION_FROM else "test"
            splits[split].append(row)
    judge = verifier("tests")
    taken: list[str] = []
    seen: set[str] = set()

    def read(values: Mapping[str, Any]) -> Item:
        item = read_mbpp(values)
        # A few tasks stand there twice with their tests in another order: the second shows two tests.
        item = read_mbpp(values, shown=2) if item.prompt in seen else item
        seen.add(item.prompt)
        return item

    items: dict[str, list[Item]] = {}
    for split in ("test", "validation", "train"):
        gathered = gather(f"mbpp ({split})", splits[split], read, judge, taken=taken)
        items[split] = gathered.items
        taken += [item.prompt for item in gathered.items]
        dropped = {k: dropped.get(k, 0) + gathered.dropped.get(k, 0) for k in {*dropped, *gathered.dropped}}
    return _task("mbpp", items, code_form('"""\n{question}\n"""\n'), dropped)


def programs(
    kind: str,
    path: str,
    *,
    prompt: str = "prompt",
    tests: str = "tests",
    solution: str = "",
    setup: str = "",
    continues: bool = False,
    instruction: str = INSTRUCTION,
    test: str = "",
    max_steps: int = 64,
    step_tokens: int = 64,
    solution_tokens: int = 512,
    temperature: float = 0.7,
) -> ReasoningTask:
    """Make a task of rows, each a question with tests.

    Args:
        kind: "jsonl", "csv" or "parquet".
        path: the file.
        prompt: column of the question.
        tests: column of the tests: a list of Python sources, or one source; asserts count one by one.
        solution: column of a right program; problems whose own solution fails a test are dropped.
        setup: column of Python that runs before each test: imports, helpers, data.
        continues: the question is the beginning of a program, which answers go on from.
        instruction: what chat models are told after the question.
        test: file to test on; else a fifth of the problems is.
        max_steps: most lines of a program.
        step_tokens: most tokens of a line.
        solution_tokens: most tokens of a program.
        temperature: for sampling.

    Raises:
        DataError: files or rows that cannot be used; over 20 % of the rows would be dropped.
        UsageError: fields that cannot be right.
        MachineError: programs cannot be run in a sandbox here.
    """
    given = {key: value for key, value in locals().items() if key not in ("kind", "path")}
    if not path:
        raise UsageError(f"{kind}: needs a path, as in {kind}:problems.{kind}?prompt=question&tests=tests.")
    if min(max_steps, step_tokens, solution_tokens) < 1 or temperature < 0:
        raise UsageError("max_steps, step_tokens and solution_tokens are at least 1, temperature at least 0.")
    require_sandbox()

    def read(values: Mapping[str, Any]) -> Item:
        question = plain_text(values[prompt])
        before = str(values.get(setup) or "")
        reference = str(values.get(solution) or "").rstrip() if solution else ""
        head = question if continues else ""
        held = code_tests(_sources(values[tests]), setup=before, head=head, reference=reference)
        lines = tuple(reference.split("\n")) if reference else None
        return Item(question, held.to_text() if held.names else "", lines)

    def load(file: str, taken: Sequence[str] = ()) -> tuple[list[Item], dict[str, int]]:
        rows = read_rows(Path(file).expanduser(), kind)
        need_columns(file, rows, list(filter(None, (prompt, tests, solution, setup))))
        gathered = gather(file, rows, _reader(read), verifier("tests"), taken=taken)
        if not solution:
            return gathered.items, gathered.dropped
        return solved_by_reference(file, gathered.items, gathered.dropped)

    held_out, _ = load(test) if test else (None, {})
    items, dropped = load(path, [item.prompt for item in held_out or ()])
    defaults = programs.__kwdefaults__ or {}
    fields = [f"{k}={quote(str(v), safe='/:.,')}" for k, v in given.items() if v != defaults[k]]
    fields = list(dict.fromkeys([f"tests={quote(tests)}", *fields]))
    return _task(
        f"{kind}:{path}?{'&'.join(fields)}",
        split_items(path, items, held_out),
        code_form("{question}" if continues else '"""\n{question}\n"""\n', instruction),
        dropped,
        max_steps=max_steps,
        step_tokens=step_tokens,
        solution_tokens=solution_tokens,
        temperature=temperature,
    )


def solved_by_reference(
    source: str, items: Sequence[Item], dropped: Mapping[str, int]
) -> tuple[list[Item], dict[str, int]]:
    """Return the problems whose own solution passes all tests, and what was dropped.

    Raises:
        DataError: over 20 % of the problems fail, or all.
    """
    checked = [item for item in items if item.solution]
    grades = grade_code([(item.prompt, item.answer, "\n".join(item.solution or ())) for item in checked])
    failed = {item.prompt for item, grade in zip(checked, grades, strict=True) if grade < 1}
    kept = [item for item in items if item.prompt not in failed]
    if len(failed) > DROPS_ALLOWED * len(items) or not kept:
        example = next(item.prompt for item in items if item.prompt in failed)
        raise DataError(
            f"The solutions of {len(failed)} of {len(items)} problems of {source} fail their own tests, the "
            f"first is {example[:80]!r}; up to {DROPS_ALLOWED:.0%} are dropped. Repair tests or solutions, "
            "or leave the column of solutions out."
        )
    if failed:
        _log.warning("%s: dropped %d problems whose own solution fails a test.", source, len(failed))
        dropped = {**dropped, "whose own solution fails": len(failed)}
    return kept, dict(dropped)


def read_humaneval(values: Mapping[str, Any]) -> Item:
    """Read a row of HumanEval: one test, `check(function)`; helpers of the head are the tests' too."""
    head, name = str(values["prompt"]), str(values["entry_point"])
    body = ast.parse(head + "    pass\n").body
    helpers = [ast.unparse(one) for one in body if getattr(one, "name", None) != name]
    setup = "\n".join([*helpers, str(values["test"])])
    tests = CodeTests(tests=(f"check({name})",), names=(name,), setup=setup, head=head)
    return Item(head, tests.to_text(), tuple(str(values["canonical_solution"]).rstrip().split("\n")))


def read_mbpp(values: Mapping[str, Any], *, shown: int = 1) -> Item:
    """Read a row of MBPP; so many of its tests stand in the question."""
    code = str(values["code"]).replace("\r", "")
    sources = [str(test) for test in values["test_list"]]
    setup = str(values.get("test_setup_code") or "").replace("\r", "")
    question = "\n".join([plain_text(values["text"]), *sources[:shown]])
    names = names_under_test(code, sources, setup)
    tests = CodeTests(tests=tuple(sources), names=names, setup=setup)
    return Item(question, tests.to_text(), tuple(code.rstrip().split("\n")))


def _reader(read: Callable[[Mapping[str, Any]], Item]) -> Callable[[Mapping[str, Any]], Item]:
    """A test that is no Python makes a row that cannot be read, as `gather` understands it."""

    def reading(values: Mapping[str, Any]) -> Item:
        try:
            return read(values)
        except SyntaxError as error:
            raise ValueError(str(error)) from error

    return reading


def _sources(cell: Any) -> list[str]:
    return [str(one) for one in cell] if isinstance(cell, list | tuple) else [str(cell or "")]


def _rows(name: str, relative: str, hub: tuple[str, str | None, str | None]) -> list[Row]:
    path = library_file(relative)
    if path is not None:
        return read_rows(path, "jsonl")
    try:
        repository, config, split = hub
        splits = [split] if split else ["train", "validation", "test", "prompt"]
        return [row for one in splits for row in read_hub(repository, config, one)]
    except DataError as error:
        raise DataError(
            f"The data set {name} is not here. Put the file {relative} into a folder and set ${VARIABLE} to "
            f"that folder, or download {hub[0]} from the hub. ({error})"
        ) from error


def _task(
    name: str,
    splits: Mapping[str, Sequence[Item]],
    form: SolutionForm,
    dropped: Mapping[str, int],
    *,
    max_steps: int = 64,
    step_tokens: int = 64,
    solution_tokens: int = 512,
    temperature: float = 0.7,
) -> ReasoningTask:
    return ReasoningTask(
        name,
        splits,
        form=form,
        verifier=verifier("tests"),
        max_steps=max_steps,
        step_tokens=step_tokens,
        solution_tokens=solution_tokens,
        temperature=temperature,
        dropped=dropped,
    )
