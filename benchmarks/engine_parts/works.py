"""What the processes of benchmarks/engine.py do: an order a line comes in, an answer a line goes out.

The same file runs over this package and over the foundation's, so it uses only what both have.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.machine import set_threads
from selfstudy.core.random import stream_key
from selfstudy.models.language.loading import language_model, shipped_value_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Completion, Request, Sampler, TorchSampler
from selfstudy.models.language.value import ValueModel
from selfstudy.search.mcts import TreeSearch, grow
from selfstudy.search.reasoning import ReasoningDomain
from selfstudy.tasks.loading import task as task_of

Calls = list[list[Request]]


@cache
def tiny() -> LanguageModel:
    return language_model("tiny-lm")


@cache
def tiny_value() -> ValueModel:
    value = shipped_value_model(tiny())
    assert value is not None
    return value


@cache
def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


@cache
def calls_of(path: str, greedy: bool) -> Calls:
    """Return the recorded calls for completions, as they were or all greedy."""
    change: dict[str, Any] = {"temperature": 0.0} if greedy else {}
    return [
        [Request(**{**one, "stop": tuple(one["stop"]), **change}) for one in call]
        for call in read(path)["samples"]
    ]


class Recorder:
    """A sampler and a value model that note what they are asked."""

    def __init__(self, sampler: Sampler, value: ValueModel) -> None:
        self._sampler, self._value = sampler, value
        self.samples: list[list[dict[str, Any]]] = []
        self.scored: list[list[Any]] = []

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        if requests:
            self.samples.append([asdict(request) for request in requests])
        return self._sampler.sample(requests)

    def remembering(self) -> Recorder:
        return self

    def values(self, prefixes: Sequence[Any], meter: Meter) -> np.ndarray:
        self.scored.append(list(prefixes))
        return self._value.values(prefixes, meter)


def _search(problems: int, steps: int, iterations: int, recorder: Recorder | None = None) -> float:
    task = task_of(f"chain100?steps={steps}&train={problems}&validation=0&test=1")
    keys = np.array([stream_key("benchmark", problem.id) for problem in task.train], dtype=np.uint64)
    start = time.perf_counter()
    domain = ReasoningDomain(
        task,
        task.train,
        tiny(),
        recorder or tiny_value(),
        Meter(),
        temperature=1.0,
        sampler=recorder,
    )
    settings = TreeSearch(iterations=iterations, end_gate=0.95)
    grow(domain, range(problems), settings, keys, collect=True)
    return time.perf_counter() - start


def where() -> dict[str, Any]:
    return {"source": str(Path(selfstudy.__file__).resolve().parents[1])}


def record(path: str, problems: int, steps: int, iterations: int) -> dict[str, Any]:
    """Search, and write down what the policy and the value model were asked."""
    recorder = Recorder(TorchSampler(tiny(), remember=True), tiny_value())
    _search(problems, steps, iterations, recorder)
    Path(path).write_text(json.dumps({"samples": recorder.samples, "scored": recorder.scored}))
    depth = max(len(steps) for call in recorder.scored for _, steps in call)
    requests = sum(map(len, recorder.samples))
    return {"calls": len(recorder.samples), "requests": requests, "depth": depth}


def record_prompts(path: str, problems: int, samples: int) -> dict[str, Any]:
    """Write one call: samples of whole solutions for each problem."""
    task = task_of(f"chain100?steps=12&train={problems}&validation=0&test=1")
    call = [
        asdict(Request(prompt=problem.prompt, key=stream_key(problem.id, i), max_tokens=task.solution_tokens))
        for problem in task.train
        for i in range(samples)
    ]
    Path(path).write_text(json.dumps({"samples": [call]}))
    return {"requests": len(call)}


def search(problems: int, steps: int, iterations: int) -> dict[str, Any]:
    """Time a whole search, value model included."""
    return {"seconds": _search(problems, steps, iterations)}


def peak(problems: int, steps: int, iterations: int, cache_mib: int) -> dict[str, Any]:
    """Search once; return this process's peak memory before and after, MiB. For a process of its own."""
    for model in (tiny(), tiny_value().reader):
        if hasattr(model, "engine"):
            model.engine = type(model.engine)(cache_mib=cache_mib)
    _search(1, steps, iterations)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = _search(problems, steps, iterations)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"before_mib": before / 1024, "peak_mib": after / 1024, "seconds": seconds}


def _timed(sampler: TorchSampler, calls: Calls, out: str | None) -> dict[str, Any]:
    start = time.perf_counter()
    done = [sampler.sample(call) for call in calls]
    seconds = time.perf_counter() - start
    if out:
        Path(out).write_text(json.dumps([[list(c.tokens) for c in call] for call in done]))
    return {"seconds": seconds, "tokens": sum(len(c.tokens) for call in done for c in call)}


def replay(path: str, greedy: bool, remember: bool, out: str | None = None) -> dict[str, Any]:
    """Answer the recorded calls with a fresh sampler."""
    return _timed(TorchSampler(tiny(), remember=remember), calls_of(path, greedy), out)


@cache
def _tokenised(path: str, rows: int) -> list[tuple[Any, int, list[int]]]:
    """Return the calls as `generate` wants them, in parts of `rows`: (inputs, new tokens, end tokens)."""
    model, parts = tiny(), []
    for call in calls_of(path, True):
        for first in range(0, len(call), rows):
            part = call[first : first + rows]
            texts = [request.prompt for request in part]
            inputs = model.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
            stops = model.encode_all(part[0].stop, begins=False) if part[0].stop else []
            ends = [token for token in (model.end, *(tokens[0] for tokens in stops)) if token is not None]
            parts.append((inputs, part[0].max_tokens, ends))
    return parts


def generate(path: str, greedy: bool, rows: int, out: str | None = None) -> dict[str, Any]:
    """Answer the recorded calls by transformers' `generate`, call by call; the inputs are tokenised before."""
    model, parts, done = tiny(), _tokenised(path, rows), []
    choose: dict[str, Any] = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0}
    torch.manual_seed(0)
    start = time.perf_counter()
    for inputs, new, ends in parts:
        with torch.inference_mode():
            drawn = model.module.generate(
                **inputs, max_new_tokens=new, eos_token_id=ends or None, pad_token_id=0, **choose
            )
        done.append((drawn[:, inputs["input_ids"].shape[1] :], ends))
    seconds = time.perf_counter() - start
    flat = [_until(row, ends) for drawn, ends in done for row in drawn.tolist()]
    if out:
        sizes = iter(flat)
        Path(out).write_text(json.dumps([[next(sizes) for _ in call] for call in calls_of(path, True)]))
    return {"seconds": seconds, "tokens": sum(map(len, flat))}


def _until(row: list[int], ends: list[int]) -> list[int]:
    """Cut a row behind its first end token."""
    return row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))]


def differences(path: str, one: str, other: str) -> dict[str, Any]:
    """Return how many greedy outputs differ, and how far apart the logits are where they first do, at most."""
    gaps = []
    for call, ours, theirs in zip(calls_of(path, True), read(one), read(other), strict=True):
        for request, a, b in zip(call, ours, theirs, strict=True):
            if a != b:
                gaps.append(_gap(tiny(), request.prompt, a, b))
    requests = sum(map(len, calls_of(path, True)))
    return {"requests": requests, "split_by_rounding": len(gaps), "largest_gap": max(gaps, default=0.0)}


def _gap(model: LanguageModel, prompt: str, a: list[int], b: list[int]) -> float:
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if place is None:  # one goes on where the other has ended
        return float("inf")
    with torch.inference_mode():
        logits = model.module(torch.tensor([model.encode(prompt) + a[:place]])).logits[0, -1].float()
    return float((logits[a[place]] - logits[b[place]]).abs())


def score(path: str, cached: bool, out: str | None = None) -> dict[str, Any]:
    """Value the recorded prefixes, with a memory that begins empty or whole each time."""
    value = tiny_value().remembering() if cached else tiny_value()
    start = time.perf_counter()
    values = [value.values([(p, tuple(steps)) for p, steps in call]) for call in read(path)["scored"]]
    seconds = time.perf_counter() - start
    if out:
        Path(out).write_text(json.dumps([one.tolist() for one in values]))
    return {"seconds": seconds, "prefixes": sum(map(len, values))}


@cache
def gemma(dtype: str) -> LanguageModel:
    model = language_model("gemma-3-270m", dtype=dtype)
    # Without end tokens both draw the same number.
    model.tokenizer.eos_token = None
    model.module.generation_config.eos_token_id = None
    return model


def _questions(count: int) -> list[str]:
    names = ("Anna", "Ben", "Carla", "David")
    return [
        f"Question: {names[i % 4]} had {7 + 3 * i} marbles, found {2 + i} more and shared all of them between "
        f"{2 + i % 5} friends. How many marbles did each friend get, and how many were left over?\nAnswer:"
        for i in range(count)
    ]


def gemma_ours(dtype: str, batch: int, new: int, out: str | None = None) -> dict[str, Any]:
    """Continue questions by Gemma-3-270M, greedily."""
    calls = [[Request(prompt=text, key=0, max_tokens=new, temperature=0.0) for text in _questions(batch)]]
    answer = _timed(TorchSampler(gemma(dtype)), calls, out)
    assert answer["tokens"] == batch * new
    return answer


def gemma_generate(dtype: str, batch: int, new: int, out: str | None = None) -> dict[str, Any]:
    """Do the same by transformers' `generate`."""
    model = gemma(dtype)
    inputs = model.tokenizer(_questions(batch), return_tensors="pt", padding=True, padding_side="left")
    start = time.perf_counter()
    with torch.inference_mode():
        drawn = model.module.generate(**inputs, max_new_tokens=new, do_sample=False, pad_token_id=0)
    seconds = time.perf_counter() - start
    tokens = drawn[:, inputs["input_ids"].shape[1] :].tolist()
    if out:
        Path(out).write_text(json.dumps([tokens]))
    return {"seconds": seconds, "tokens": sum(map(len, tokens))}


def gemma_differences(dtype: str, batch: int, one: str, other: str) -> dict[str, Any]:
    """Return how many of their outputs differ, and how far apart the logits are where they first do."""
    rows = zip(_questions(batch), read(one)[0], read(other)[0], strict=True)
    gaps = [_gap(gemma(dtype), text, a, b) for text, a, b in rows if a != b]
    return {"requests": batch, "split_by_rounding": len(gaps), "largest_gap": max(gaps, default=0.0)}


def profile(path: str) -> dict[str, Any]:
    """Return which operations take the time of the recorded calls, as shares of the processor's time."""
    replay(path, False, True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        replay(path, False, True)
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return {event.key: round(event.self_cpu_time_total / total, 3) for event in events[:12]}


WORKS: dict[str, Callable[..., dict[str, Any]]] = {
    work.__name__: work
    for work in (
        where,
        record,
        record_prompts,
        search,
        peak,
        replay,
        generate,
        differences,
        score,
        gemma_ours,
        gemma_generate,
        gemma_differences,
        profile,
    )
}


def main() -> None:
    set_threads()
    transformers.utils.logging.set_verbosity_error()
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed must not come between
    for line in sys.stdin:
        work, arguments = json.loads(line)
        answers.write(json.dumps(WORKS[work](**arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
