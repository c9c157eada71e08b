"""A process that does jobs of a comparison: JSON lines in, JSON lines out; it ends with the one that asks.

Not started by people: `selfstudy.app.comparison_workers` starts it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
import warnings
from typing import IO, Any

from selfstudy.core.errors import SelfstudyError, Stopped


def main() -> None:
    """Do the jobs of standard input, one at a time, and answer each on standard output."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what else is printed must not look like an answer
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(sys.stdin, lines), daemon=True).start()
    loaded: dict[tuple[str, str], Any] = {}
    while line := lines.get():
        answer = _answer(json.loads(line), loaded)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if answer.get("error") == Stopped.__name__:  # asked to end, and the run is saved
            return


def _read(asked: IO[str], lines: queue.Queue[str]) -> None:
    for line in asked:
        lines.put(line)
    # Nobody asks any more, perhaps because of a kill. A run that is cut off here goes on from its checkpoint.
    os._exit(0)


def _answer(said: dict[str, Any], loaded: dict[tuple[str, str], Any]) -> dict[str, Any]:
    from selfstudy import model, task
    from selfstudy.app.contestants import Job, do
    from selfstudy.app.plans import Loaded

    with warnings.catch_warnings(record=True) as notes:
        try:
            job = Job.from_json(said)
            names = job.plan.task, job.plan.model
            if names not in loaded:
                loaded.clear()
                loaded[names] = Loaded(task=task(names[0]), model=model(names[1]))
            do(job, loaded[names])
            answer: dict[str, Any] = {}
        except SelfstudyError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        except Exception:
            answer = {"error": "", "message": traceback.format_exc()}
    return {**answer, "notes": [str(note.message) for note in notes]}


if __name__ == "__main__":
    main()
