"""What a comparison of four methods and five seeds takes: one process, two, and hopeless runs ended.

Method: `selfstudy.compare` on Fashion-MNIST with 1,000 labels, from a conv encoder of 8, 16 and 32 channels,
with the four methods of `METHODS` on settings that each take about as long. Three comparisons follow one
another in one run of this file, each in an empty directory: one fit at a time with two threads; two fits at a
time with one thread each; the same with `stop_hopeless=1`. Cores used are the processor seconds of this
process and its children over the wall seconds. Nothing else may run on the machine.

The best method with hopeless runs ended must be that without; the table of each comparison is made again from
its result.json alone and must be the same.

    SELFSTUDY_DATA=... python benchmarks/comparison.py --json benchmarks/results/comparison.json
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import selfstudy
from selfstudy.app.comparison import notes
from selfstudy.app.report import write_report
from selfstudy.core.machine import cores, hardware, versions

TASK, MODEL, SEEDS = "fashion-mnist?labels=1000&train=4000&test=2000", "conv?first=8", 5
STEPS = 300
METHODS: dict[str, dict[str, Any]] = {
    "sla": {"objective": "base", "training": {"steps": STEPS}},
    "ps-kd": {"training": {"steps": STEPS}},
    "lion": {"training": {"steps": STEPS, "learning_rate": 1e-4}},
    "barlow-twins": {"pretraining": {"epochs": 5, "batch": 128}},
}
WAYS: dict[str, dict[str, Any]] = {
    "one at a time": {"workers": 1},
    "two at a time": {"workers": 2},
    "two at a time, hopeless ended": {"workers": 2, "stop_hopeless": 1.0},
}


def used() -> float:
    """Return the processor seconds of this process and its finished children."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)


def measured(folder: Path, **how: Any) -> dict[str, Any]:
    """Return what one comparison took and came to."""
    begun, before = time.perf_counter(), used()
    result = selfstudy.compare(
        *METHODS, task=TASK, model=MODEL, seeds=SEEDS, fields=METHODS, out=folder, **how
    )
    wall, processor = time.perf_counter() - begun, used() - before
    kept, alone = json.loads((folder / "result.json").read_text()), folder.with_name("alone")
    alone.mkdir()
    shutil.copy(folder / "result.json", alone)
    tables = [
        page[page.index("<h2>Comparison") : page.index("<h2>How it")] for page in map(_page, (folder, alone))
    ]
    shutil.rmtree(alone)
    means = {slug: found["over_seeds"]["mean"] for slug, found in kept["results"].items()}
    return {
        "wall_seconds": round(wall, 1),
        "cores_used": round(processor / wall, 2),
        "best": max(means, key=lambda slug: means[slug]),
        "means": means,
        "runs_ended": kept.get("stopped", {}).get("runs", 0),
        "saved_share_of_samples": kept.get("stopped", {}).get("saved_share", 0.0),
        "table_from_json_alone": tables[0] == tables[1] and notes(result) == notes(kept),
    }


def _page(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    known = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, how) in enumerate(WAYS.items()):
            found[name] = measured(Path(folder) / str(number), **how)
            print(name, json.dumps(found[name]))
    one, two, ended = found.values()
    result = {
        "what": __doc__.splitlines()[0],
        "cores": cores(),
        "faster_by_two_processes": round(one["wall_seconds"] / two["wall_seconds"], 2),
        "faster_by_ending_hopeless_runs": round(two["wall_seconds"] / ended["wall_seconds"], 2),
        "same_best": len({way["best"] for way in found.values()}) == 1,
        "ways": found,
        "hardware": hardware(),
        "versions": versions(),
    }
    print(json.dumps({key: value for key, value in result.items() if key != "ways"}, indent=1))
    if known.json:
        known.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
