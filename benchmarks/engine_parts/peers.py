"""Processes that do a benchmark's works in turn, one at a time, and what is made of their times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FOUNDATION = "8d598d5253e1054369642cb911f4b9890ae7c99c"
"""The commit before the engine: one memory of prefixes by whole texts, and transformers' own forward pass."""


class Peer:
    """A process with the selfstudy of one source folder, which answers orders for the works of `works.py`.

    Args:
        source: the folder that holds the package.
        threads: of torch.
    """

    def __init__(self, source: Path, threads: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("works.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        found = Path(self.ask("where")["source"])
        if found != source.resolve():
            raise SystemExit(f"the process for {source} has loaded the package of {found}")

    def ask(self, work: str, **arguments: Any) -> dict[str, Any]:
        """Let it do a work; return the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([work, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the process that was to {work} has ended (see above)")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def foundation_source(folder: Path) -> Path:
    """Unpack the foundation's package into `folder`; return the folder that holds it."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", FOUNDATION, "src"], capture_output=True)
    if archive.returncode:
        raise SystemExit(
            f"commit {FOUNDATION[:7]} is not in this clone ({archive.stderr.decode().strip()}); "
            "fetch the whole history: git fetch --unshallow"
        )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "src"


def in_turn(orders: dict[str, tuple[Peer, str, dict[str, Any]]], repetitions: int) -> dict[str, Any]:
    """Time works in turn, so that a disturbance of the machine meets all of them.

    Args:
        orders: by contestant, the first of which is ours: who does which work with which arguments.
        repetitions: after one that warms up.

    Returns:
        the seconds of each, and how many times as long as ours each other took, turn by turn.
    """
    times: dict[str, list[float]] = {name: [] for name in orders}
    for repetition in range(repetitions + 1):
        for name, (peer, work, arguments) in orders.items():
            seconds = peer.ask(work, **arguments)["seconds"]
            if repetition:
                times[name].append(seconds)
    ours, *others = times
    return {
        "seconds": {name: _spread(values) for name, values in times.items()},
        "times_ours": {
            name: _spread([other / own for own, other in zip(times[ours], times[name], strict=True)])
            for name in others
        },
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(values, [25, 50, 75]).tolist()
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}
