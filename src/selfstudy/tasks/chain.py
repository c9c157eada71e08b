"""chain100: chains of arithmetic modulo 100, the default task; their truth is computed, never stored.

`chain100?steps=12&train=2000&validation=500&test=2000&seed=0` - `steps` is K or a range such as `1-12`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.chains import apply, chain_answer, chain_length, draw, read_chain, replay, solve
from selfstudy.data.splits import SPLITS, split_of
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, ReasoningTask

__all__ = [
    "CHAIN_FORM",
    "apply",
    "chain100",
    "chain_length",
    "draw",
    "fill_splits",
    "read_chain",
    "replay",
    "solve",
]

# Characters of a line such as 47+8=55 with its line break.
LINE_CHARACTERS = 8
# Problems are drawn in blocks of one size, so that a larger training split leaves the test split as it is.
_BLOCK = 1024
# Blocks without anything new before a space of problems counts as exhausted.
_BARREN = 20


def _all_lines(prompt: str, steps: Sequence[str]) -> bool:
    return len(steps) >= chain_length(prompt)


def _room(prompt: str) -> int:
    return LINE_CHARACTERS * chain_length(prompt)


def _guided(prompt: str, answer: str) -> str:
    return f"{prompt.removesuffix(':')}={answer}:"


def _hinted(prompt: str, hint: str) -> str:
    # Before the question: what is written then stands as far from the question as without a hint.
    return f"{hint}\n{prompt}"


def _tells(prompt: str, answer: str, hint: str) -> bool:
    return _all_lines(prompt, hint.splitlines())


CHAIN_FORM = SolutionForm(ended=_all_lines, answer=chain_answer, guided=_guided, hinted=_hinted, tells=_tells)


def first_lines(lines: Sequence[str]) -> tuple[str, ...]:
    r"""Return the hints to a chain: the first half of its solution's lines, and all but the last.

    >>> first_lines(["47+8=55", "55-2=53", "53*3=59", "59+1=60"])
    ('47+8=55\n55-2=53', '47+8=55\n55-2=53\n53*3=59')
    """
    counts = dict.fromkeys((-(-len(lines) // 2), len(lines) - 1))
    return tuple("\n".join(lines[:count]) for count in counts if 0 < count < len(lines))


def chain100(
    *,
    steps: str = "12",
    train: int = 2000,
    validation: int = 500,
    test: int = 2000,
    seed: int = 0,
    smallest: int = 2,
    largest: int = 9,
) -> ReasoningTask:
    """Make the chain100 task.

    Args:
        steps: K, or a range "1-12" from which K is drawn uniformly.
        train: number of training problems.
        validation: number of validation problems.
        test: number of test problems.
        seed: draws other problems; a problem's split does not depend on it.
        smallest: least operand.
        largest: greatest operand.

    Raises:
        UsageError: sizes that the space of problems does not hold, or a value out of range.
    """
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", steps)
    if found is None:
        raise UsageError(f"steps={steps} must be a number such as 12 or a range such as 1-12.")
    low, high = int(found[1]), int(found[2] or found[1])
    name = (
        f"chain100?steps={steps}&train={train}&validation={validation}&test={test}&seed={seed}"
        f"&smallest={smallest}&largest={largest}"
    )

    def items(block: int, n: int) -> list[Item]:
        rng = generator("chain100", seed, low, high, smallest, largest, block)
        prompts, solutions = draw(rng, n, (low, high), smallest=smallest, largest=largest)
        return [
            Item(prompt, lines[-1][-2:], lines, first_lines(lines))
            for prompt, lines in zip(prompts, solutions, strict=True)
        ]

    return ReasoningTask(
        name,
        fill_splits(name, items, {"train": train, "validation": validation, "test": test}),
        form=replace(CHAIN_FORM, room=_room),
        verifier=verifier("chain"),
        max_steps=high,
        step_tokens=2 * LINE_CHARACTERS,
        solution_tokens=LINE_CHARACTERS * high,
    )


def fill_splits(
    name: str, items: Callable[[int, int], list[Item]], sizes: dict[str, int], *, block: int = _BLOCK
) -> dict[str, list[Item]]:
    """Fill splits of given sizes with distinct problems, each in the split that its text belongs to.

    Args:
        name: the task, for messages.
        items: draws a block of n problems, given (index of the block, n).
        sizes: the number of problems of each split.
        block: how many are drawn at a time, whatever the sizes are.

    Raises:
        UsageError: a size below zero, no training or test problems, or too few distinct problems.
    """
    for split, size in sizes.items():
        if size < 0:
            raise UsageError(f"{split}={size} must be zero or more.")
    splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    index = barren = 0
    while any(len(splits[split]) < sizes[split] for split in SPLITS):
        before = sum(map(len, splits.values()))
        for item in items(index, block):
            split = split_of(item.prompt)
            if item.prompt not in seen and len(splits[split]) < sizes[split]:
                seen.add(item.prompt)
                splits[split].append(item)
        index += 1
        barren = barren + 1 if sum(map(len, splits.values())) == before else 0
        if barren == _BARREN:
            have = ", ".join(f"{split} {len(splits[split])}" for split in SPLITS)
            raise UsageError(
                f"There are not enough distinct problems for {name}: found {have}. "
                "Ask for fewer, or for longer problems."
            )
    return splits
