"""Verdicts per second: the sandbox beside a fresh, unprotected `python -c` for each program.

Method: the 164 reference programs of HumanEval with their tests, every second one made wrong; where
SELFSTUDY_DATA has none, as many made-up programs of that size. Both ways judge all of them, two at a time,
and must come to the same verdicts. Then they are timed in turn; the figures are medians. The peer runs code
and tests in one process without any limit, so it does less: the ratio says what the protection costs, with
interpreters that start ahead. The bar is 30 verdicts a second on two cores; the benchmark fails below it.

    SELFSTUDY_DATA=... python benchmarks/sandbox.py [--workers 2] [--repeats 5] [--json PATH]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from selfstudy.core.machine import hardware, versions
from selfstudy.signals.sandbox import Limits, Program, Sandbox

BAR = 30.0
COUNT = 164

MADE_UP = '''from typing import List


def total_{n}(numbers: List[int], at_least: int) -> int:
    """Return the sum of {n} and all numbers that are at least `at_least`.

    >>> total_{n}([1, 2, 3], 2)
    {n} + 5
    """
    total = {n}
    for number in numbers:
        if number >= at_least:
            total += number
    return total
'''
MADE_UP_TEST = """
def check(candidate):
    assert candidate([1, 2, 3], 2) == {n} + 5
    assert candidate([], 2) == {n}
    for size in range(50):
        numbers = list(range(size))
        assert candidate(numbers, 10) == {n} + sum(one for one in numbers if one >= 10)

check(total_{n})
"""


def programs() -> tuple[str, list[Program]]:
    """Return where the programs come from, and the programs, every second one wrong."""
    path = Path(os.environ.get("SELFSTUDY_DATA", ""), "humaneval", "test.jsonl.gz")
    found = []
    if path.is_file():
        source = "HumanEval"
        for row in map(json.loads, gzip.decompress(path.read_bytes()).splitlines()):
            name, test = row["entry_point"], f"{row['test']}\ncheck({row['entry_point']})\n"
            setup, code = row["prompt"], row["prompt"] + row["canonical_solution"]
            found.append(Program(code=code, tests=(test,), names=(name,), setup=setup))
    else:
        source = "made up"
        for n in range(COUNT):
            code, test = MADE_UP.format(n=n), MADE_UP_TEST.format(n=n)
            found.append(Program(code=code, tests=(test,), names=(f"total_{n}",)))
    return source, [wrong(one) if i % 2 else one for i, one in enumerate(found)]


def wrong(program: Program) -> Program:
    """Return the program with a function that gives nothing."""
    (name,) = program.names
    code = f"{program.code}\n\ndef {name}(*_, **__):\n    return None\n"
    return Program(code=code, tests=program.tests, names=program.names, setup=program.setup)


def fresh(program: Program) -> bool:
    """Return the verdict of a Python of its own, without protection."""
    (test,) = program.tests
    text = f"{program.setup}\n{program.code}\n{test}"
    return subprocess.run([sys.executable, "-c", text], stderr=subprocess.DEVNULL).returncode == 0


def seconds(work: Callable[[], list[bool]]) -> tuple[float, list[bool]]:
    begun = time.perf_counter()
    found = work()
    return time.perf_counter() - begun, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    source, judged = programs()
    wall = Limits(test=60.0, program=60.0)
    with Sandbox(given.workers, wall) as sandbox, ThreadPoolExecutor(given.workers) as threads:
        ways: dict[str, Callable[[], list[bool]]] = {
            "sandbox": lambda: [verdict.share == 1 for verdict in sandbox.judge(judged)],
            "python -c": lambda: list(threads.map(fresh, judged)),
        }
        right = [i % 2 == 0 for i in range(len(judged))]
        for name, way in ways.items():  # also warms both up
            if way() != right:
                sys.exit(f"{name} does not come to the right verdicts")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.repeats):
            for name, way in ways.items():
                times[name].append(seconds(way)[0])
    rates = {name: len(judged) / statistics.median(took) for name, took in times.items()}
    result = {
        "programs": source,
        "count": len(judged),
        "workers": given.workers,
        "verdicts_per_second": rates,
        "ratio": rates["sandbox"] / rates["python -c"],
        "seconds": times,
        "hardware": hardware(),
        "versions": versions(),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    if rates["sandbox"] < BAR:
        sys.exit(f"{rates['sandbox']:.1f} verdicts a second; the bar is {BAR:g}")


if __name__ == "__main__":
    main()
