"""mathematics:MODULE - DeepMind's generators of school mathematics (Saxton et al., 2019); exact answers.

`mathematics:arithmetic__add_or_sub?train=1000&level=easy`. Levels are the package's own thirds of each
module's training range of difficulty; `all` is the whole range.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from selfstudy.core.errors import MissingExtra, UsageError, nearest
from selfstudy.core.random import stream_key
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.chain import fill_splits
from selfstudy.tasks.forms import text_form
from selfstudy.tasks.reasoning import Item, ReasoningTask

# The published data set's limits, in characters.
_LONGEST_QUESTION, _LONGEST_ANSWER = 160, 30
_LEVELS = {"easy": (0.0, 1 / 3), "medium": (1 / 3, 2 / 3), "hard": (2 / 3, 1.0), "all": (0.0, 1.0)}


def mathematics(
    module: str,
    *,
    train: int = 1000,
    validation: int = 200,
    test: int = 500,
    seed: int = 0,
    level: str = "all",
) -> ReasoningTask:
    """Make a task of one module.

    Args:
        module: such as arithmetic__add_or_sub or algebra__linear_1d.
        train: number of training problems.
        validation: number of validation problems.
        test: number of test problems.
        seed: draws other problems; a problem's split does not depend on it.
        level: easy, medium, hard or all.

    Raises:
        MissingExtra: mathematics-dataset is not installed.
        UsageError: an unknown module or level, or more problems than the module has.
    """
    if level not in _LEVELS:
        raise UsageError(f"level={level} is unknown. {nearest(level, _LEVELS)}")
    modules = _modules(_LEVELS[level])
    if module not in modules:
        raise UsageError(f"mathematics-dataset has no module {module!r}. {nearest(module, modules)}")
    name = f"mathematics:{module}?train={train}&validation={validation}&test={test}&seed={seed}&level={level}"

    def items(block: int, n: int) -> list[Item]:
        with _seeded(stream_key("mathematics", module, seed, level, block)):
            return [_sample(modules[module]) for _ in range(n)]

    return ReasoningTask(
        name,
        fill_splits(name, items, {"train": train, "validation": validation, "test": test}, block=128),
        form=text_form(),
        verifier=verifier("exact"),
        max_steps=16,
        step_tokens=64,
        solution_tokens=256,
    )


def _modules(part: tuple[float, float]) -> dict[str, Callable[[], Any]]:
    try:
        # mathematics-dataset 1.0.1 imports base_solution_linear from where sympy before 1.6 had it.
        new = importlib.import_module("sympy.solvers.diophantine.diophantine")
        sys.modules["sympy.solvers.diophantine"].base_solution_linear = new.base_solution_linear  # type: ignore[attr-defined]
        package = importlib.import_module("mathematics_dataset.modules.modules")
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "mathematics_dataset", "mathematics") from None

    def entropy(range_: tuple[float, float]) -> tuple[float, float]:
        low, high = range_
        return low + part[0] * (high - low), low + part[1] * (high - low)

    return dict(_flat(package.train(entropy), ""))


def _flat(modules: dict[str, Any], prefix: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    for key, value in modules.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}__")
        else:
            yield prefix + key, value


def _sample(make: Callable[[], Any]) -> Item:
    while True:
        problem = make()
        question, answer = str(problem.question), str(problem.answer)
        if len(question) <= _LONGEST_QUESTION and len(answer) <= _LONGEST_ANSWER:
            return Item(question, answer)


@contextmanager
def _seeded(key: int) -> Iterator[None]:
    """Seed the global generators that the package draws from, and put them back afterwards."""
    states = random.getstate(), np.random.get_state()
    random.seed(key)
    np.random.seed(key % 2**32)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
