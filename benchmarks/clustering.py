"""Clusters of a million points whose near points agree, against scikit-learn's k-means.

Method: points of K Gaussian blobs, drawn once. First, on a part of them and with smoothness 0 and a large
sharpness, ours is Lloyd's algorithm: from the same start both must end with the same inertia to 0.1 %,
otherwise the benchmark fails. Then all points are clustered once by each contestant in a process of its own:
k-means++ and up to 20 rounds. Ours also finds the three nearest neighbours of each point (exactly, by blocks,
or by faiss) and smooths over them; the search is timed by itself. Peak memory is that of the process, which
holds the points too. Ratios are ours to scikit-learn's.

    python benchmarks/clustering.py [--points 1000000] [--dimensions 16] [--clusters 20] [--search faiss]
        [--threads 2] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SPREAD, ROUNDS, CHECKED = 0.6, 20, 20_000
CONTESTANTS = ("k-means of scikit-learn", "ours without smoothness", "ours")


def points(count: int, dimensions: int, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points [n, d] of length 1, and their blobs."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(clusters, dimensions)).astype(np.float32)
    blobs = rng.integers(0, clusters, count)
    found = centres[blobs] + SPREAD * rng.standard_normal((count, dimensions), dtype=np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found, blobs


def require_equal(items: np.ndarray, clusters: int) -> float:
    """Run both from one start on some points; return how far their inertias are apart."""
    import torch
    from sklearn.cluster import KMeans, kmeans_plusplus

    from selfstudy.learning.prototypes import squared_distances
    from selfstudy.learning.transduction import Transduction, transduce

    start, _ = kmeans_plusplus(items, clusters, random_state=0)
    peer = KMeans(clusters, init=start, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(items)
    queries = torch.from_numpy(items)
    settings = Transduction(smoothness=0.0, sharpness=1e5, rounds=300)
    nobody = queries.new_empty(0, clusters)
    found = transduce(queries[:0], nobody, queries, settings, graph=None, start=torch.from_numpy(start))
    inertia = float(squared_distances(queries, found.prototypes).amin(1).sum())
    apart = abs(inertia - peer.inertia_) / peer.inertia_
    if apart > 1e-3:
        sys.exit(f"the inertias differ: {inertia} and {peer.inertia_}")
    return apart


def one(contestant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Cluster all points once, and return seconds, peak memory and agreement with the blobs."""
    import torch

    from selfstudy.evaluation.clustering import agreement
    from selfstudy.learning.joint_labels import cluster
    from selfstudy.learning.transduction import Transduction, graph_of

    torch.set_num_threads(options.threads)
    items, blobs = points(options.points, options.dimensions, options.clusters)
    resting, found = _peak(), {}
    start = time.perf_counter()
    if contestant == CONTESTANTS[0]:
        from sklearn.cluster import KMeans

        labels = KMeans(options.clusters, n_init=1, max_iter=ROUNDS, tol=0, random_state=0).fit_predict(items)
    else:
        smoothness = 1.0 if contestant == "ours" else 0.0
        settings = Transduction(smoothness=smoothness, rounds=ROUNDS, transform="none", search=options.search)
        labels = cluster(items, options.clusters, settings).labels
    found["seconds"] = time.perf_counter() - start
    found["peak_gib"] = _peak()
    found["peak_gib_before"] = resting
    found["nmi"] = agreement(blobs, labels).nmi
    if contestant == "ours":
        start = time.perf_counter()
        graph_of(torch.from_numpy(items), None, settings)
        found["seconds_of_the_search"] = time.perf_counter() - start
    return found


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=16)
    parser.add_argument("--clusters", type=int, default=20)
    parser.add_argument("--search", choices=("torch", "faiss"), default="torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        sys.stdout.write(json.dumps(one(options.only, options)))
        return
    from selfstudy.core.machine import hardware, versions

    items, _ = points(min(CHECKED, options.points), options.dimensions, options.clusters)
    apart = require_equal(items, options.clusters)
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    measured = {}
    for contestant in CONTESTANTS:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", contestant]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        measured[contestant] = json.loads(done.stdout)
    peer = measured[CONTESTANTS[0]]["seconds"]
    result = {
        "inertias_apart": apart,
        "contestants": measured,
        "ratio": {name: found["seconds"] / peer for name, found in measured.items()},
        "points": options.points,
        "dimensions": options.dimensions,
        "clusters": options.clusters,
        "search": options.search,
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
