"""gym:NAME - generators of reasoning-gym with their own scorers.

`gym:chain_sum?size=1000&seed=0&min_terms=2&max_terms=4`: all fields besides ours go to the generator. A model
states a one-line answer ("The answer is 8."); it is right when the generator scores it 1. With `form=chain`,
`gym:chain_sum` is posed as `4+3-2=` and solved in lines, as chain100 is, in plain integers. `shots=3` shows
three solved problems before each question, which a plain language model needs to see.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from selfstudy.core.errors import DataError, MachineError, UsageError, nearest
from selfstudy.data.chains import read_chain, solve
from selfstudy.signals.verifiers import Verifier, verifier
from selfstudy.tasks import gym_environment, gym_worker
from selfstudy.tasks.chain import CHAIN_FORM
from selfstudy.tasks.forms import STOP, TEMPLATE, SolutionForm, text_form, worked_examples
from selfstudy.tasks.reasoning import Item, ReasoningTask
from selfstudy.tasks.rows import split_items

_RIGHT = 0.999


class Scorer(Protocol):
    """Problems of a generator, in this process or another."""

    def questions(self) -> list[dict[str, Any]]: ...  # noqa: D102
    def score(self, index: int, answer: str) -> float: ...  # noqa: D102


def gym(
    generator: str,
    *,
    size: int = 1000,
    seed: int = 0,
    form: str = "text",
    shots: int = 0,
    max_steps: int = 32,
    step_tokens: int = 64,
    solution_tokens: int = 512,
    **config: str,
) -> ReasoningTask:
    """Make a task of a reasoning-gym generator.

    Args:
        generator: its name, such as chain_sum, countdown, gsm_symbolic.
        size: number of problems drawn; repeated ones are dropped, the rest is split 70/10/20 % by hash.
        seed: draws other problems.
        form: "text", or for chain_sum "chain".
        shots: the first so many training problems are shown, solved, before each question, and are not
            trained on; chat models do not see them.
        max_steps: most steps of a solution.
        step_tokens: most tokens of a step.
        solution_tokens: most tokens of a solution.
        config: fields of the generator's own configuration.

    Raises:
        UsageError: an unknown generator, field or form, or values that the generator refuses.
        MachineError: reasoning-gym is not installed.
    """
    if size < 1:
        raise UsageError(f"size={size} must be 1 or more.")
    if form not in ("text", "chain") or (form == "chain" and generator != "chain_sum"):
        raise UsageError(f"form={form} must be text or, for gym:chain_sum only, chain.")
    scorer = _scorer(generator, size, seed, config)
    items: dict[str, Item] = {}
    repeated = 0
    problems = scorer.questions()
    for index, problem in enumerate(problems):
        item = _chain_item(problem) if form == "chain" else _text_item(problem, index)
        repeated += item.prompt in items
        items.setdefault(item.prompt, item)
    extra = "".join(f"&{field}={value}" for field, value in sorted(config.items()))
    extra += f"&shots={shots}" if shots else ""
    name = f"gym:{generator}?size={size}&seed={seed}&form={form}{extra}"

    def right(question: str, gold: str, given: str) -> bool:
        return scorer.score(int(gold), given) >= _RIGHT

    splits = split_items(name, list(items.values()))
    if not 0 <= shots < len(splits["train"]):
        raise UsageError(
            f"shots={shots} must be from 0 to {len(splits['train']) - 1}, to leave a training problem."
        )
    shown, splits["train"] = splits["train"][:shots], splits["train"][shots:]
    answers = [problem["answer"] for problem in problems]
    solution_form = CHAIN_FORM if form == "chain" else text_form()
    return ReasoningTask(
        name,
        splits,
        form=_with_examples(solution_form, shown, answers) if shots else solution_form,
        verifier=verifier("chain") if form == "chain" else Verifier("gym", right),
        max_steps=max_steps,
        step_tokens=step_tokens,
        solution_tokens=solution_tokens,
        dropped={"duplicated": repeated} if repeated else {},
    )


def _text_item(problem: dict[str, Any], index: int) -> Item:
    """Return an item whose gold answer is the number under which the generator knows the problem."""
    lines = [line.strip() for line in (problem["solution"] or "").split("\n") if line.strip()]
    if lines and lines[-1].startswith("####"):
        lines[-1] = f"The answer is {problem['answer']}."
    return Item(problem["question"].strip(), str(index), tuple(lines) or None)


def _with_examples(form: SolutionForm, shown: Sequence[Item], answers: Sequence[str]) -> SolutionForm:
    """Return the form with solved problems before each question; without a solution the answer is all."""
    if any(not item.solution and answers[int(item.answer)] is None for item in shown):
        raise UsageError("This generator gives no answers that shots= could show. Leave it out.")
    solved = [
        (item.prompt, item.solution or (f"The answer is {answers[int(item.answer)]}.",)) for item in shown
    ]
    return replace(form, preamble=worked_examples(solved), template=TEMPLATE, stop=STOP)


def _chain_item(problem: dict[str, Any]) -> Item:
    chain = read_chain(problem["question"])
    prompt = f"{chain.start}" + "".join(f"{operator}{operand}" for operator, operand in chain.terms) + "="
    lines = solve(prompt)
    if lines[-1].partition("=")[2] != problem["answer"]:
        raise DataError(
            f"{problem['question']!r} is no chain of sums and differences. "
            "Use form=text with this configuration."
        )
    return Item(prompt, problem["answer"], lines)


def _scorer(generator: str, size: int, seed: int, config: dict[str, str]) -> Scorer:
    try:
        if importlib.util.find_spec("reasoning_gym") is not None:
            return gym_worker.Problems(generator, size, seed, config)
        return _Worker(generator, size, seed, config)
    except LookupError as error:
        what, name, known = error.args
        place = "reasoning-gym" if what == "generator" else f"gym:{generator}"
        raise UsageError(f"{place} has no {what} {name!r}. {nearest(name, known)}") from None
    except ValueError as error:
        raise UsageError(f"gym:{generator} refuses its configuration {config}: {error}") from None


class _Worker:
    """A process with reasoning-gym; it ends when this object does, or when this process does."""

    def __init__(self, generator: str, size: int, seed: int, config: dict[str, str]) -> None:
        self._load = {"name": generator, "size": size, "seed": seed, "config": config}
        self._lock = threading.Lock()
        self._start()

    def questions(self) -> list[dict[str, Any]]:
        return self._questions

    def score(self, index: int, answer: str) -> float:
        request = {"index": index, "answer": answer}
        with self._lock:
            try:
                reply = self._ask(request)
            except (
                OSError,
                MachineError,
            ):  # it was killed: problems are a function of the seed, so start anew
                self._start()
                reply = self._ask(request)
        if "raised" in reply:
            raise RuntimeError(reply["raised"])
        return reply["score"]

    def _start(self) -> None:
        packages = gym_environment.folder()
        if not packages.is_dir():
            raise MachineError(
                "gym: tasks need reasoning-gym, which is kept in a folder of its own because its exact pins "
                "would tie other packages. Install it with: python -m selfstudy.tasks.gym_environment"
            )
        # Without site-packages (-S) and without the script's own folder (-P): only the standard library and
        # reasoning-gym's folder can be imported there.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-P", str(Path(gym_worker.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(packages)},
            text=True,
            encoding="utf-8",
            start_new_session=True,  # a Ctrl-C is for the run; the worker ends with its pipe
        )
        self._end = weakref.finalize(self, _close, self._process)
        reply = self._ask(self._load)
        if "unknown" in reply:
            raise LookupError(*reply["unknown"])
        if "refused" in reply:
            raise ValueError(reply["refused"])
        if "raised" in reply:
            raise MachineError(f"reasoning-gym in {packages} does not work:\n{reply['raised']}")
        self._questions = reply["questions"]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        pipes = self._process
        assert pipes.stdin is not None and pipes.stdout is not None  # for the type checker: both are pipes
        pipes.stdin.write(json.dumps(request) + "\n")
        pipes.stdin.flush()
        line = pipes.stdout.readline()
        if not line:
            raise MachineError("The process of reasoning-gym ended unexpectedly. Run the task again.")
        return json.loads(line)


def _close(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # unflushed text of a broken pipe
                continue
