"""Tree search in lockstep against one tree after the other.

Method: the tiny LM and its first value model search 64 chains of 12 steps by MCTS* (36 iterations, branch
3, collect mode), once all in lockstep and once one by one, with the same stream for each tree; float32.
First the forests are compared: every node and visit must be equal, values to 1e-4 (batches
of different size round differently); otherwise the benchmark fails. "Problems per second" counts problems
with a verified solution. Both are timed in turn; figures are medians of the repetitions after a warm-up.
The engine below it is measured by benchmarks/engine.py.

    python benchmarks/search.py [--repetitions 3] [--threads 2] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from selfstudy.core.budget import Meter
from selfstudy.core.machine import hardware, versions
from selfstudy.core.random import stream_key
from selfstudy.models.language.loading import language_model, shipped_value_model
from selfstudy.search.mcts import TreeSearch, grow
from selfstudy.search.reasoning import ReasoningDomain
from selfstudy.search.tree import Forest
from selfstudy.tasks.loading import task as task_of
from selfstudy.tasks.reasoning import Problem, ReasoningTask

TREES = 64
SETTINGS = TreeSearch(iterations=36, end_gate=0.95)


def search(task: ReasoningTask, policy, value, problems: tuple[Problem, ...]) -> Forest:
    domain = ReasoningDomain(task, problems, policy, value, Meter(), temperature=1.0)
    keys = np.array([stream_key("benchmark", problem.id) for problem in problems], dtype=np.uint64)
    return grow(domain, range(len(problems)), SETTINGS, keys, collect=True)


def solved(task: ReasoningTask, forest: Forest) -> int:
    return sum(
        any(
            task.is_end(task.train[t], forest.path(t, n)) and task.verify(task.train[t], forest.path(t, n))
            for n in forest.leaves(t)
        )
        for t in range(len(forest))
    )


def compare(together: Forest, alone: list[Forest]) -> int:
    """Return how many trees are equal; a tree may differ only where rounding decided between two nodes."""
    equal = 0
    for t, other in enumerate(alone):
        one = together.select([t])
        equal += (
            one.actions == other.actions
            and np.array_equal(one.visits, other.visits)
            and np.allclose(one.value, other.value, atol=1e-4)
        )
    return equal


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()

    task = task_of(f"chain100?steps=12&train={TREES}&validation=0&test=1")
    policy = language_model("tiny-lm")
    value = shipped_value_model(policy)
    if value is None:
        sys.exit("the first value model of tiny-lm is missing: python -m selfstudy.tasks.build_tiny")
    search(task, policy, value, task.train)  # warms up
    passes: dict[str, list[float]] = {"lockstep": [], "one by one": []}
    for _ in range(options.repetitions):
        start = time.perf_counter()
        together = search(task, policy, value, task.train)
        passes["lockstep"].append(time.perf_counter() - start)
        start = time.perf_counter()
        alone = [search(task, policy, value, (problem,)) for problem in task.train]
        passes["one by one"].append(time.perf_counter() - start)
    times = {name: statistics.median(seconds) for name, seconds in passes.items()}
    equal = compare(together, alone)
    if equal < TREES - 1:
        sys.exit(f"only {equal} of {TREES} trees are equal in lockstep and alone")
    found = solved(task, together)
    result = {
        "search": {
            **{f"{name}_seconds": seconds for name, seconds in times.items()},
            "verified_problems_per_second": found / times["lockstep"],
            "solved": found,
            "trees_equal": equal,
            "ratio": times["one by one"] / times["lockstep"],
        },
        "threads": options.threads,
        "versions": versions(),
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
