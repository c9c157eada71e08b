"""One round of HAST's selection among 120,000 texts: seconds and peak memory.

Method: texts of AG News are embedded by all-MiniLM-L6-v2, and their features (384) repeated to 120,000
with a little noise of their own, so that no two are equal; that is not timed. 130 are labelled, and an
adapter of 128 with a head is trained on them. Timed is what a round does from there: finding equal
items, probabilities and adapted features of the pool, the vote of 14 neighbours, weights, and a query by
breaking ties. Once the pseudo-labels are chosen from 16,384 drawn items, as the paper has it, and once
from the whole pool, where each of 120,000 has its neighbours among all; with torch, and with faiss where
it is installed. Each is a process of its own: its peak resident memory (ru_maxrss), interpreter and
libraries included, is the figure. Of 200 items the vote is checked against distances of all pairs in
float64. The bar is 60 seconds and 4 GiB for the whole pool on two cores; the benchmark fails above it.

    SELFSTUDY_DATA=... python benchmarks/selection.py [--threads 2] [--quick] [--json PATH]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfstudy.core.machine import hardware, versions

TEXTS, LABELLED, NOISE, CHECKED = 120_000, 130, 0.02, 200
SAMPLE = 16_384
MOST_SECONDS, MOST_GIB = 60.0, 4.0


def write_pool(folder: Path, count: int, embedded: int) -> None:
    """Write features [count, 384] and labels of texts of AG News, repeated with noise."""
    import selfstudy
    from selfstudy.data.text_sets import text_splits

    whole = text_splits("ag-news")["train"].only(slice(embedded))
    encoder = selfstudy.model("minilm?length=64")
    features = encoder.embed_texts(whole.texts).numpy()
    rng = np.random.default_rng(0)
    at = np.concatenate([rng.permutation(len(whole)) for _ in range(-(-count // len(whole)))])[:count]
    noise = rng.normal(scale=NOISE, size=(count, features.shape[1])).astype(np.float32)
    np.save(folder / "features.npy", features[at] + noise)
    np.save(folder / "labels.npy", whole.labels[at])


def selected(folder: Path, sample: int, backend: Any) -> dict[str, Any]:
    """Select in this process; return what it took and what came of it."""
    from selfstudy.core.run import Run
    from selfstudy.data.image_sets import UNKNOWN
    from selfstudy.data.items import Vectors, first_equal
    from selfstudy.data.labelled import balanced_places
    from selfstudy.learning.pair_tuning import PairTuning
    from selfstudy.learning.pool_learners import AdapterLearner
    from selfstudy.learning.self_training import Known, candidates_of, evidence_of
    from selfstudy.signals.evidence import PseudoLabels
    from selfstudy.signals.pseudo_labels import neighbour_vote, select
    from selfstudy.signals.queries import query

    features, truth = np.load(folder / "features.npy"), np.load(folder / "labels.npy")
    given = np.full(len(truth), UNKNOWN)
    at = balanced_places(truth, LABELLED, 0, "benchmark")
    given[at] = truth[at]
    pool, names = Vectors("AG News", features, given), ("0", "1", "2", "3")
    learner = AdapterLearner(None, torch.from_numpy(features), names, PairTuning())
    settings = PseudoLabels(backend=backend)
    with tempfile.TemporaryDirectory() as place, Run(Path(place) / "run", {}) as run:
        trained = learner.train(at, truth[at], np.ones(len(at)), run, ("labels alone", 0))
        start = time.perf_counter()
        known = Known(given, np.zeros(len(given), dtype=bool), first_equal(pool))
        drawn = np.sort(run.rng("sample", 0).permutation(known.unlabelled)[:sample])
        evidence = evidence_of(learner, trained, known, drawn, run, 0, progress=0.0, passes=10)
        found, _ = select(evidence, settings)
        asked = query("breaking-ties", candidates_of(learner, trained, known, run, 0, passes=10), 10)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": seconds,
        "peak_gib": peak / 2**30,
        "chosen_from": len(drawn),
        "pseudo_labels": len(found.places),
        "right": float((truth[drawn[found.places]] == found.labels).mean()),
        "asked": len(asked),
        "votes_differ": differing(evidence, neighbour_vote(evidence, settings)),
    }


def differing(evidence: Any, vote: tuple[np.ndarray, np.ndarray]) -> int:
    """Return of how many of the checked items the vote is another than by all pairs in float64."""
    features = evidence.features.double().numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    different = 0
    for place in np.random.default_rng(1).permutation(len(features))[:CHECKED]:
        distances = ((features - features[place]) ** 2).sum(1)
        distances[place] = np.inf
        votes = np.bincount(evidence.told[np.argsort(distances)[:14]], minlength=4) / 14
        different += abs(votes[vote[0][place]] - votes.max()) + abs(votes.max() - vote[1][place]) > 1e-9
    return int(different)


def in_a_process(folder: Path, sample: int, backend: str, threads: int) -> dict[str, Any]:
    child = [
        sys.executable,
        __file__,
        "--child",
        str(folder),
        str(sample),
        backend,
        "--threads",
        str(threads),
    ]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tenth of the texts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        folder, sample, backend = options.child
        sys.stdout.write(json.dumps(selected(Path(folder), int(sample), backend)) + "\n")
        return
    count = TEXTS // 10 if options.quick else TEXTS
    backends = ["torch", *(["faiss"] if importlib.util.find_spec("faiss") else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pool(folder, count, embedded=1000 if options.quick else 8000)
        ways = {
            f"{backend}, from {'a sample' if sample == SAMPLE else 'the whole pool'}": in_a_process(
                folder, sample, backend, options.threads
            )
            for backend in backends
            for sample in (SAMPLE, count)
        }
    result = {
        "texts": count,
        "width": 384,
        "labelled": LABELLED,
        "noise": NOISE,
        "ways": ways,
        "threads": options.threads,
        "versions": versions(),
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")
    if any(way["votes_differ"] > 1 for way in ways.values()):
        sys.exit("votes differ from those of all pairs")
    whole = ways["torch, from the whole pool"]
    if whole["seconds"] > MOST_SECONDS or whole["peak_gib"] > MOST_GIB:
        sys.exit(f"the selection took {whole['seconds']:.0f} s and {whole['peak_gib']:.1f} GiB")


if __name__ == "__main__":
    main()
