"""list-programs: find the few lines of Python that turn the given lists into the results; made up, offline.

`list-programs?lines=3-5&train=1000&validation=200&test=500&seed=0`. A problem shows three examples; a program
is judged on eight hidden ones. Problems are split by what their programs do, so that no program of the test
split is known from training under another form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.list_programs import (
    LARGEST,
    LINES,
    RETURN,
    Behaviour,
    behaviour,
    behaviours,
    draw_lists,
    examples,
    perform,
    telling,
)
from selfstudy.data.splits import SPLITS, split_of
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_line_model
from selfstudy.signals.list_programs import grade_list_programs, write_cases
from selfstudy.signals.verifiers import Verifier
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, ReasoningTask

SHOWN, HIDDEN = 3, 8  # examples of a problem
LINES_ALLOWED = 8
_BLOCK = 2048  # programs drawn at a time, whatever the sizes are
_BARREN = 4  # blocks without anything new before the space counts as exhausted
_ENUMERATED = 3  # lines of the programs among which a shorter one of the same behaviour is looked for

PROGRAM_FORM = SolutionForm(
    template="{question}\n",
    instruction=(
        "Each line shows a list of numbers x and the list that a program makes of it. Write the program: "
        "lines of Python such as `x = sorted(x)`, one assignment to x a line, and `return x` as the last "
        "line. Answer with these lines only."
    ),
    closing=RETURN,
    ended=lambda question, steps: RETURN in steps,
    answer=lambda question, steps: "\n".join(steps) if RETURN in steps else None,
)


def list_programs(
    *, lines: str = "3-5", train: int = 1000, validation: int = 200, test: int = 500, seed: int = 0
) -> ReasoningTask:
    """Make the task.

    Args:
        lines: of a program, a number or a range, before `return x`.
        train: number of training problems.
        validation: number of validation problems.
        test: number of test problems.
        seed: draws other problems; the split of a program does not depend on it.

    Raises:
        UsageError: sizes that cannot be had, or a value out of range.
    """
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", lines)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= low <= high < LINES_ALLOWED:
        raise UsageError(
            f"lines={lines} must be a number from 1 to {LINES_ALLOWED - 1} or a range such as 3-5."
        )
    sizes = {"train": train, "validation": validation, "test": test}
    if min(sizes.values()) < 0:
        raise UsageError(f"The sizes of the splits must be zero or more: {sizes}.")
    name = f"list-programs?lines={lines}&train={train}&validation={validation}&test={test}&seed={seed}"
    return ReasoningTask(
        name,
        _fill(name, sizes, seed, low, high),
        form=PROGRAM_FORM,
        verifier=Verifier("list-programs", lambda *_: False, reads="solution", grade_all=grade_list_programs),
        max_steps=LINES_ALLOWED,
        step_tokens=32,
        solution_tokens=LINES_ALLOWED + 1,
    )


def training_items(n: int, *, lines: tuple[int, int], seed: int) -> list[Item]:
    """Return problems of the training split with their programs, not distinct: for a base model to learn.

    Args:
        n: how many.
        lines: least and most of a program.
        seed: draws others.
    """
    found: list[Item] = []
    for block in _blocks(seed, *lines):
        found += [item for shown, item in block if split_of(repr(shown)) == "train"]
        if len(found) >= n:
            break
    return found[:n]


def program_model(layers: int = 4, width: int = 128, seed: int = 0) -> LanguageModel:
    """Return an untrained tiny model that reads numbers and writes the lines of this task, a token each."""
    return random_line_model([*LINES, RETURN], LARGEST, layers=layers, width=width, seed=seed, context=128)


def _fill(name: str, sizes: dict[str, int], seed: int, low: int, high: int) -> dict[str, list[Item]]:
    splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
    seen: set[Behaviour] = set()
    questions: set[str] = set()
    barren = 0
    for block in _blocks(seed, low, high):
        before = sum(map(len, splits.values()))
        for shown, item in block:
            split = split_of(repr(shown))
            if shown in seen or item.prompt in questions or len(splits[split]) == sizes[split]:
                continue
            seen.add(shown)
            questions.add(item.prompt)
            splits[split].append(item)
        if all(len(splits[split]) == sizes[split] for split in SPLITS):
            return splits
        barren = barren + 1 if sum(map(len, splits.values())) == before else 0
        if barren == _BARREN:
            have = ", ".join(f"{split} {len(splits[split])}" for split in SPLITS)
            raise UsageError(
                f"There are not enough different programs for {name}: found {have}. Ask for fewer, or longer "
                "ones."
            )
    raise AssertionError("blocks never end")


def _blocks(seed: int, low: int, high: int) -> Iterator[list[tuple[Behaviour, Item]]]:
    """Yield problems with the behaviour of their programs, without those that a shorter program solves."""
    least = behaviours(min(_ENUMERATED, high - 1))
    texts = list(LINES)
    index = 0
    while True:
        rng = generator("list-programs", seed, low, high, index)
        block = []
        counts = rng.integers(low, high + 1, size=_BLOCK).tolist()
        chosen = rng.integers(0, len(texts), size=(_BLOCK, high)).tolist()
        for count, row in zip(counts, chosen, strict=True):
            program = tuple(texts[i] for i in row[:count])
            shown = behaviour(program)
            if least.get(shown, count) < count or not telling(shown):
                continue
            lists = draw_lists(rng, SHOWN + HIDDEN)
            results = [perform(program, given) for given in lists]
            if max((value for result in results[:SHOWN] for value in result), default=0) > LARGEST:
                continue
            prompt = "\n".join(examples(program, lists[:SHOWN]))
            cases = list(zip(lists[SHOWN:], results[SHOWN:], strict=True))
            block.append((shown, Item(prompt, write_cases(cases), (*program, RETURN))))
        yield block
        index += 1
