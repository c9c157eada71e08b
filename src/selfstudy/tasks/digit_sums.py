"""digit-sums: questions about two or three images of handwritten digits, from the set of scikit-learn.

`digit-sums?source=pool&labels=false&train=2000`. Questions are `a+b=`, `a-b+c=` (modulo 10) and `max=`; a
solution reads the digits, works the result out, and states its last digit: `r3r8s11:1`; one that states it at
once, `:1`, counts too. All images of a problem are from one part of the set: 240 labelled ones, 60 for
validation, a pool of 897, 600 to test on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.random import generator
from selfstudy.data.problem_images import ProblemImage, image_of
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, ReasoningTask

CHARACTERS = "0123456789abcrsmx+-=:\n"
PARTS = {"labelled": (0, 240), "validation": (240, 300), "pool": (300, 1197), "test": (1197, 1797)}
QUESTIONS = {"a+b=": (2,), "a-b+c=": (3,), "max=": (2, 3)}
"""Questions, with the numbers of images that they are asked of."""
LONGEST = 14  # tokens of a solution and its line break

_SOLUTION = re.compile(r"(?:(?:r\d)+s-?\d+)?:(\d)")


def stated(question: str | None, steps: Sequence[str]) -> str | None:
    """Return the digit behind the colon of the first line, or None where that is no whole solution.

    >>> [stated("a+b=", [text]) for text in ("r3r8s11:1", ":1", "s11:1")]
    ['1', '1', None]
    """
    found = _SOLUTION.fullmatch(steps[0]) if steps else None
    return found[1] if found else None


def solution(question: str, digits: Sequence[int]) -> str:
    """Return the solution of a question about digits.

    >>> solution("a-b+c=", [1, 9, 2])
    'r1r9r2s-6:4'
    """
    result = {"a+b=": sum(digits), "max=": max(digits)}.get(question)
    if result is None:
        result = digits[0] - digits[1] + digits[2]
    return "".join(f"r{digit}" for digit in digits) + f"s{result}:{result % 10}"


FORM = SolutionForm(
    ended=lambda question, steps: stated(question, steps) is not None,
    answer=stated,
    asks=QUESTIONS.__contains__,
    stop=("\n",),
    room=lambda question: LONGEST,
)


def digit_sums(
    *,
    source: str = "pool",
    labels: bool = True,
    train: int = 2000,
    validation: int = 200,
    test: int = 600,
    seed: int = 0,
) -> ReasoningTask:
    """Make the digit-sums task.

    Args:
        source: of the images to train on, "pool" or "labelled".
        labels: false makes training problems without looking at the labels of their images.
        train: number of training problems.
        validation: number of validation problems.
        test: number of test problems.
        seed: draws other problems from the same images.

    Raises:
        UsageError: an unknown source, or a number that cannot be.
    """
    if source not in ("pool", "labelled"):
        raise UsageError(f"Unknown source {source!r}. {nearest(source, ['pool', 'labelled'])}")
    if min(train, test) < 1 or validation < 0:
        raise UsageError("train and test must be 1 or more, and validation 0 or more.")
    parts = {"train": (source, train, labels), "validation": ("validation", validation, True)}
    parts["test"] = ("test", test, True)
    return ReasoningTask(
        f"digit-sums?source={source}&labels={str(labels).lower()}&train={train}&validation={validation}"
        f"&test={test}&seed={seed}",
        {split: _items(*part, seed) for split, part in parts.items()},
        form=FORM,
        verifier=verifier("exact"),
        max_steps=1,
        step_tokens=LONGEST,
        solution_tokens=LONGEST,
    )


def _items(part: str, count: int, labelled: bool, seed: int) -> list[Item]:
    """Draw different questions about the images of one part."""
    rng = generator("digit-sums", part, seed)
    images, (first, end) = _images(), PARTS[part]
    order = generator("digit-sums").permutation(len(images))[first:end]
    items: dict[str, Item] = {}
    questions = list(QUESTIONS)
    while len(items) < count:
        question = questions[rng.integers(len(questions))]
        number = int(rng.choice(QUESTIONS[question]))
        chosen = order[rng.choice(end - first, number, replace=False)]
        shown = tuple(images[i] for i in chosen)
        item = Item(question, "", images=shown, labelled=False)
        if labelled:
            steps = solution(question, _labels()[chosen].tolist())
            item = Item(question, steps[-1], (steps,), images=shown)
        items.setdefault(item.key, item)
    return list(items.values())


@cache
def _images() -> list[ProblemImage]:
    from sklearn.datasets import load_digits

    pixels = (load_digits().images * 255 / 16).round().astype(np.uint8)  # [1797, 8, 8]
    return [image_of(one) for one in pixels]


@cache
def _labels() -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().target
