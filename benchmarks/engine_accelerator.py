"""The language-model engine on a GPU: the table of `engine.py`, and shares of the GPU's own speed.

tree, plain, values: as there, on the device that models load to; the foundation's value model is moved to it.
gemma: as there, with 8, 32 and 256 questions, by a model of Gemma-3-270M's shape with random weights, since
  times do not depend on them: 18 layers of width 640, 262,144 tokens. Its tokenizer has the questions' words.
share: what `machine_peak.py` does, the tiny LM's shape and Gemma's beside `torch.mm` there; operations of the
  vocabulary's layer count only where logits are computed.
step: a step of drawing at 256 rows (the tiny LM) and 32 (Gemma's shape): seconds, and those in which kernels
  ran, by torch's profiler; recorded (see `models/language/gpu_steps.py`), and launched kernel by kernel.
grpo: a step of `grpo_step.py`'s short shape, on the GPU and on one thread of its machine's processor, in
  turn.

float32 is without TF32. vLLM would be the peer for many rows; whether it was installed is told.

    python benchmarks/engine_accelerator.py [--only tree ...] [--repetitions 5] [--json PATH]

With --json, the sections that were run replace those of the file. Where the repository has no history,
--foundation names a folder with the `src` of the foundation.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

import engine
import grpo_step
import machine_peak
from engine_parts.peers import FOUNDATION, ROOT, Peer, foundation_source
from selfstudy.core.machine import hardware, versions
from selfstudy.models.language import sampling
from selfstudy.models.language.loading import language_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.tiny import random_tiny_model

DTYPES = ("float32", "bfloat16")


def gemma(bench: engine.Bench, dtype: str, batch: int) -> dict[str, Any]:
    return engine.gemma_of(bench.ours, bench, dtype, batch)


def share(bench: engine.Bench, shape: str, dtype: str) -> dict[str, Any]:
    """Return the shares of prefill, decode and fine-tuning beside products on the same layers."""
    model = _model(shape, dtype)
    return {
        name: machine_peak.measured(make(model), bench.repetitions)
        for name, make in machine_peak.WORKS.items()
    }


def step(bench: engine.Bench, shape: str, dtype: str) -> dict[str, Any]:
    """Return how long a step takes, and how long kernels run in it."""
    model, rows, new = _model(shape, dtype), 256 if shape == "tiny" else 32, 32
    asked = [machine_peak.requests(rows, 24, drawn) for drawn in (1, new + 1)]
    found: dict[str, Any] = {"rows": rows}
    record = sampling.can_record
    for name, can_record in {"recorded": record, "launched": lambda _: False}.items():
        sampling.can_record = can_record
        sampler = TorchSampler(model)
        times = []
        for turn in range(bench.repetitions + 2):
            one, all_of_them = (_seconds(sampler, requests) for requests in asked)
            if turn > 1:  # the first two record
                times.append((all_of_them - one) / new)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as record_of_kernels:
            _seconds(sampler, asked[1])
        kernels = sum(event.self_device_time_total for event in record_of_kernels.key_averages()) / 1e6
        found[name] = {"seconds": statistics.median(times), "kernel_seconds": kernels / (new + 1)}
    sampling.can_record = record
    return found


def _seconds(sampler: TorchSampler, requests: list[Request]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    sampler.sample(requests)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def grpo(bench: engine.Bench) -> dict[str, Any]:
    """Return the seconds of a GRPO step on both devices."""
    shape, times = grpo_step.SHAPES["short"], {"cuda": [], "cpu": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(bench.repetitions):
            for device, seconds in times.items():
                model = random_tiny_model(seed=0, end=True)
                model.module.to(device)
                run = Path(folder) / f"{device}-{turn}"
                steps = list(grpo_step.ours(shape, model, grpo_step.STEPS + grpo_step.WARM, turn, run))
                seconds.append(statistics.mean(second for _, second in steps[grpo_step.WARM :]))
    ratios = [cpu / cuda for cuda, cpu in zip(times["cuda"], times["cpu"], strict=True)]
    spread = {device: grpo_step.spread(seconds) for device, seconds in times.items()}
    return {"seconds_a_step": spread, "processor_times_gpu": grpo_step.spread(ratios)}


def _model(shape: str, dtype: str) -> LanguageModel:
    name = "tiny-lm" if shape == "tiny" else "gemma-3-270m"
    return language_model(name, dtype=dtype)


SECTIONS: dict[str, Callable[[engine.Bench], dict[str, Any]]] = {
    "tree": engine.tree,
    "plain": engine.plain,
    "values": engine.values,
    **{
        f"gemma-{dtype}-{batch}": partial(gemma, dtype=dtype, batch=batch)
        for dtype in DTYPES
        for batch in (8, 32, 256)
    },
    **{
        f"{name}-{shape}-{dtype}": partial(section, shape=shape, dtype=dtype)
        for name, section in (("step", step), ("share", share))
        for shape in ("tiny", "gemma")
        for dtype in DTYPES
    },
    "grpo": grpo,
}


def about() -> dict[str, Any]:
    """Tell what it was measured on."""
    installed = importlib.util.find_spec("vllm") is not None
    return {
        "foundation": FOUNDATION,
        "device": torch.cuda.get_device_name(),
        "vllm": "installed" if installed else "not installed: not measured",
        "gemma": "random weights of Gemma-3-270M's shape",
        "versions": versions(),
        "hardware": hardware(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--foundation", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("There is no GPU that torch can use; engine.py measures on the processor.")
    torch.set_num_threads(1)
    peers: dict[str, Peer] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["SELFSTUDY_CACHE"] = str(folder)  # where the model of this name is looked for

        def foundation() -> Peer:
            if "foundation" not in peers:
                source = options.foundation or foundation_source(folder)
                peers["foundation"] = stack.enter_context(closing(Peer(source, 1)))
            return peers["foundation"]

        ours = stack.enter_context(closing(Peer(ROOT / "src", 1)))
        bench = engine.Bench(ours, foundation, folder, options.repetitions, 1)
        results: dict[str, Any] = {}
        for name in options.only:
            shape = folder / "gemma-3-270m"
            if "gemma" in name and not shape.exists():
                ours.ask("gemma_shape", folder=str(shape))
            results[name] = SECTIONS[name](bench)
            sys.stdout.write(f"{name}: {json.dumps(results[name], indent=1)}\n")
            sys.stdout.flush()
            if options.json:  # section by section, for a machine may be lent for a time
                old = json.loads(options.json.read_text()) if options.json.exists() else {}
                known = {**old, name: {**results[name], "repetitions": options.repetitions}, "about": about()}
                options.json.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
