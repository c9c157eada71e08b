"""Processes that do the jobs of a comparison at the same time, each on its share of the cores."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from selfstudy.app.contestants import Job
from selfstudy.core import errors
from selfstudy.core.errors import MachineError, SelfstudyError, UsageError
from selfstudy.core.machine import cores

PATIENCE = 60.0  # seconds that a process has to save its run


class Workers:
    """Processes that do jobs, one at a time each; a context manager, which ends them.

    A process that is ended saves its run first. One that is left alone, because this process was killed, ends
    at once, and its run goes on from its last checkpoint.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        threads = str(max(1, cores() // count))
        surroundings = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "selfstudy.app.comparison_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=surroundings,
                start_new_session=True,  # the terminal's Ctrl-C reaches this process alone
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):  # a job that it did not live to read
                    if pipe:
                        pipe.close()

    def do(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """Do the jobs in their order, as processes become free; yield each when it is done.

        Raises:
            SelfstudyError: of the kind that a job came to.
            MachineError: a process ended, such as for want of memory.
        """
        waiting: queue.Queue[Job] = queue.Queue()
        done: queue.Queue[tuple[Job, dict[str, Any]]] = queue.Queue()
        for job in jobs:
            waiting.put(job)
        for process in self._processes:
            threading.Thread(target=_feed, args=(process, waiting, done), daemon=True).start()
        for _ in jobs:
            job, answer = done.get()
            for note in answer.get("notes", ()):
                warnings.warn(note, stacklevel=2)
            if "error" in answer:
                raise _error(job, answer)
            yield job


def require_importable(entries: Sequence[Any]) -> None:
    """Raise a UsageError where another process could not import a method."""
    for entry in entries:
        if entry.target.startswith("__main__"):
            raise UsageError(
                f"The method {entry.slug!r} is defined in the script that runs, where another process does "
                "not find it. Put it in a file of its own, or compare with workers=1."
            )


def _feed(
    process: subprocess.Popen[str],
    waiting: queue.Queue[Job],
    done: queue.Queue[tuple[Job, dict[str, Any]]],
) -> None:
    assert process.stdin and process.stdout
    while True:
        try:
            job = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            process.stdin.write(json.dumps(job.to_json()) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):  # it ended, or was ended
            line = ""
        done.put((job, json.loads(line) if line else {"error": "MachineError", "message": _ended(process)}))


def _ended(process: subprocess.Popen[str]) -> str:
    return (
        f"A process of the comparison ended with code {process.poll()}, perhaps for want of memory. What was "
        "finished is kept: give the same command again, with fewer --workers."
    )


def _error(job: Job, answer: dict[str, Any]) -> Exception:
    where = f"{job.plan.slug}, seed {job.plan.seed}: "
    kind = getattr(errors, answer["error"] or " ", None)
    if kind is None:
        return RuntimeError(f"{where}\n{answer['message']}")
    if kind is errors.MissingExtra:
        kind = MachineError
    found: SelfstudyError = kind(where + answer["message"])
    return found
