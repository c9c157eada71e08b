"""A map on a Ray cluster of its own whose process is killed after three records; not a test itself."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from selfstudy.core.fan_out import fan_out
from selfstudy.core.run import Run


def draw(directory, workers, enough=lambda done: False):
    """Return the results, the log and the counts of a map of eight items."""
    with Run(directory, {}, seed=2, fan_out=workers) as run:

        def work(item):
            run.meter.charge(samples=item)
            run.log(item=item)
            return float(run.rng(item).random())

        results = run.map("items", range(8), work, until=enough)
        lines = [{**line, "seconds": 0} for line in run.metrics()]
        return results, lines, {**run.meter.snapshot(), "seconds": 0}


def die(done):
    """Kill this process once three items are recorded."""
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return False


if __name__ == "__main__":
    with fan_out("local", workers=2) as workers:
        draw(Path(sys.argv[1]), workers, die)
