"""Loki's rule among 100,000 labels: time and peak memory, without a square of distances.

Peer: the rule as it is usually written, from the whole matrix of distances: 75 GiB for 100,000 labels.
At --small labels both are run: they must predict the same, and their times and peaks are compared. Then the
rule alone is run at --labels. Each run is a process of its own, whose peak resident memory over that before
(ru_maxrss) is the figure; making the labels counts, drawing their edges or embeddings does not. The benchmark
fails where predictions differ, or where the larger run takes more than --most GiB.

    python benchmarks/loki.py [--labels 100000] [--observed 1000] [--items 1000] [--width 384] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfstudy.core.machine import hardware, versions
from selfstudy.models.labels.building import edges_space, embedding_space
from selfstudy.models.labels.rule import LokiRule

KINDS = ("tree", "embeddings")


def drawn(kind: str, labels: int, width: int) -> np.ndarray:
    """Return the edges of a random tree, each node below one of those before it, or random embeddings."""
    random = np.random.default_rng(0)
    if kind == "tree":
        return np.stack([random.integers(0, np.arange(1, labels)), np.arange(1, labels)], 1)
    return random.standard_normal((labels, width))


def run_once(way: str, kind: str, labels: int, observed: int, items: int, width: int) -> dict[str, Any]:
    """Predict all items in this process; return the time, the peak memory and a sum of what was predicted."""
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    parts, known = drawn(kind, labels, width), random.permutation(labels)[:observed]
    p = random.dirichlet(np.full(observed, 0.01), items)
    for kind_of in KINDS:  # imports and first calls
        few = drawn(kind_of, 9, 3)
        LokiRule(edges_space(few) if kind_of == "tree" else embedding_space(few), [1, 2]).predict(np.eye(2))
    before, start = _peak(), time.perf_counter()
    space = edges_space(parts) if kind == "tree" else embedding_space(parts)
    made = time.perf_counter() - start
    if way == "blocks":
        told = LokiRule(space, known).predict(p)
    else:
        square = space.distances(np.arange(labels))
        told = (p @ square[known] ** 2).argmin(1)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "making_seconds": made,
        "peak_mib": (_peak() - before) / 1024,
        "told": told.tolist(),
        "not_observed": float(1 - np.isin(told, known).mean()),
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_a_process(*arguments: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in {
        "labels": 100_000,
        "observed": 1000,
        "items": 1000,
        "width": 384,
        "small": 4000,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--most", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=6)
    options = parser.parse_args()
    if options.child:
        way, kind, *numbers = options.child
        sys.stdout.write(json.dumps(run_once(way, kind, *map(int, numbers))) + "\n")
        return
    sizes = options.observed, options.items, options.width
    result: dict[str, Any] = {
        **{name: vars(options)[name] for name in ("labels", "observed", "items", "width")}
    }
    for kind in KINDS:
        few = {way: in_a_process(way, kind, options.small, *sizes) for way in ("blocks", "square")}
        if few["blocks"].pop("told") != few["square"].pop("told"):
            sys.exit(f"on {kind}, blocks predict otherwise than the square")
        many = in_a_process("blocks", kind, options.labels, *sizes)
        many.pop("told")
        ratios = {of: few["square"][of] / max(few["blocks"][of], 1e-9) for of in ("seconds", "peak_mib")}
        result[kind] = {f"{options.small} labels": {**few, "square_over_blocks": ratios}, "all labels": many}
        if many["peak_mib"] > 1024 * options.most:
            sys.exit(f"on {kind}, {many['peak_mib']:.0f} MiB were taken")
    text = json.dumps({**result, "versions": versions(), "hardware": hardware()}, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
