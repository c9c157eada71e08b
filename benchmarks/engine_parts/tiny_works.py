"""Works with the tiny LM and its value model: searches, and answers to what a search has asked."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from answering import Part, by_generate, by_sampler, partings

from selfstudy.core.budget import Meter
from selfstudy.core.random import stream_key
from selfstudy.models.language.loading import language_model, shipped_value_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Completion, Request, TorchSampler
from selfstudy.models.language.value import ValueModel
from selfstudy.search.mcts import TreeSearch, grow
from selfstudy.search.reasoning import ReasoningDomain
from selfstudy.tasks.loading import task as task_of


@cache
def tiny() -> LanguageModel:
    return language_model("tiny-lm")


@cache
def tiny_value() -> ValueModel:
    value = shipped_value_model(tiny())
    assert value is not None
    value.net.to(tiny().device)  # the foundation left it on the processor
    return value


@cache
def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


@cache
def calls_of(path: str, greedy: bool) -> list[list[Request]]:
    """Return the recorded calls for completions, as they were or all greedy."""
    change: dict[str, Any] = {"temperature": 0.0} if greedy else {}
    return [
        [Request(**{**one, "stop": tuple(one["stop"]), **change}) for one in call]
        for call in read(path)["samples"]
    ]


def written(request: Request) -> dict[str, Any]:
    """Return what both packages' requests have; the foundation's show no images and know no top-p."""
    fields = asdict(request)
    assert not fields.pop("images") and fields.pop("top_p") == 1
    return fields


class Recorder:
    """Stands before the sampler and the value model of a search, and notes what they are asked."""

    def __init__(self) -> None:
        self._sampler, self._value = TorchSampler(tiny(), remember=True), tiny_value()
        self.samples: list[list[dict[str, Any]]] = []
        self.scored: list[list[Any]] = []

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Note the requests of one call."""
        if requests:
            self.samples.append([written(request) for request in requests])
        return self._sampler.sample(requests)

    def remembering(self) -> Recorder:
        """Return itself: what is recorded is only the questions."""
        return self

    def values(self, prefixes: Sequence[Any], meter: Meter) -> np.ndarray:
        """Note the prefixes of one call."""
        self.scored.append(list(prefixes))
        return self._value.values(prefixes, meter)


def search(problems: int, steps: int, iterations: int, recorder: Recorder | None = None) -> dict[str, Any]:
    """Search chains by MCTS*; return the seconds."""
    task = task_of(f"chain100?steps={steps}&train={problems}&validation=0&test=1")
    keys = np.array([stream_key("benchmark", problem.id) for problem in task.train], dtype=np.uint64)
    settings = TreeSearch(iterations=iterations, branch=3, end_gate=0.95)
    value = recorder or tiny_value()
    start = time.perf_counter()
    domain = ReasoningDomain(task, task.train, tiny(), value, Meter(), temperature=1.0, sampler=recorder)
    grow(domain, range(problems), settings, keys, collect=True)
    return {"seconds": time.perf_counter() - start}


def record(path: str, **settings: int) -> dict[str, Any]:
    """Search, and write down what was asked."""
    recorder = Recorder()
    search(**settings, recorder=recorder)
    Path(path).write_text(json.dumps({"samples": recorder.samples, "scored": recorder.scored}))
    depth = max(len(steps) for call in recorder.scored for _, steps in call)
    requests = sum(map(len, recorder.samples))
    return {"calls": len(recorder.samples), "requests": requests, "depth": depth}


def record_prompts(path: str, problems: int, samples: int, new: int) -> dict[str, Any]:
    """Write one call: samples of `new` tokens for each problem."""
    task = task_of(f"chain100?steps=12&train={problems}&validation=0&test=1")
    call = [
        written(Request(prompt=problem.prompt, key=stream_key(problem.id, i), max_tokens=new))
        for problem in task.train
        for i in range(samples)
    ]
    Path(path).write_text(json.dumps({"samples": [call]}))
    return {"requests": len(call), "new": new}


def replay(path: str, greedy: bool, remember: bool, out: str | None = None) -> dict[str, Any]:
    """Answer the recorded calls with a fresh sampler."""
    return by_sampler(TorchSampler(tiny(), remember=remember), calls_of(path, greedy), out)


@cache
def _tokenised(path: str, rows: int) -> list[Part]:
    """Return the calls as `generate` wants them, in parts of at most `rows`."""
    model, parts = tiny(), []
    for call in calls_of(path, True):
        for first in range(0, len(call), rows):
            part = call[first : first + rows]
            texts = [request.prompt for request in part]
            inputs = model.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
            stops = model.encode_all(part[0].stop, begins=False) if part[0].stop else []
            ends = [token for token in (model.end, *(tokens[0] for tokens in stops)) if token is not None]
            parts.append((inputs.to(model.device), part[0].max_tokens, ends))
    return parts


def generate(path: str, greedy: bool, rows: int, out: str | None = None) -> dict[str, Any]:
    """Answer the recorded calls by transformers' `generate`, call by call."""
    return by_generate(tiny(), _tokenised(path, rows), greedy, out)


def tiny_partings(path: str, one: str, other: str) -> dict[str, Any]:
    """Compare two greedy answers to the recorded calls."""
    prompts = [request.prompt for call in calls_of(path, True) for request in call]
    return partings(tiny(), prompts, one, other)


def score(path: str, cached: bool, out: str | None = None) -> dict[str, Any]:
    """Value the recorded prefixes, with a memory that begins empty, or each whole."""
    value = tiny_value().remembering() if cached else tiny_value()
    calls = [[(prompt, tuple(steps)) for prompt, steps in call] for call in read(path)["scored"]]
    start = time.perf_counter()
    values = [value.values(call) for call in calls]
    seconds = time.perf_counter() - start
    if out:
        Path(out).write_text(json.dumps(np.concatenate(values).tolist()))
    return {"seconds": seconds, "prefixes": sum(map(len, values))}


def peak(problems: int, steps: int, iterations: int, cache_mib: int) -> dict[str, Any]:
    """Search once; return this process's peak memory before and after, MiB. For a process of its own."""
    for model in (tiny(), tiny_value().reader):
        model.engine = type(model.engine)(cache_mib=cache_mib)
    search(1, steps, iterations)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = search(problems, steps, iterations)["seconds"]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"before_mib": before / 1024, "peak_mib": after / 1024, "seconds": seconds}


def profile(path: str) -> dict[str, Any]:
    """Return which operations take the time of the recorded calls, as shares of all operations'."""
    replay(path, greedy=False, remember=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        replay(path, greedy=False, remember=True)
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return {event.key: round(event.self_cpu_time_total / total, 3) for event in events[:12]}
