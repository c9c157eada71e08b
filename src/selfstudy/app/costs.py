"""What a fit will cost, said before it starts: from the method's own figures and a timed first step."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selfstudy.core.budget import describe
from selfstudy.core.machine import cores
from selfstudy.core.method import Method

TIMED = (8, 64)  # sequences and tokens of the timed step
BYTES_TRAINED = 20  # a parameter in training: weight, gradient, two moments, and the kept original


@dataclass(frozen=True)
class Speed:
    """What one timed step says about this machine."""

    flops: float
    """Floating-point operations a second."""


def cost_lines(method: Method, task: Any, model: Any) -> list[str]:
    """Return the lines that say what `method` on `task` from `model` costs on this machine.

    A method may offer `cost(task, model)`: amounts by budget unit (`generated_tokens`, `scored_tokens`,
    `flops`, `samples`, ...). For language models time is FLOPs over the speed of a timed step, so short of
    memory traffic and Python it is a lower bound. Other methods may offer `trial(task, model)`: a callable
    that does one step on a copy, and how many such steps a fit takes.
    """
    parameters = _size(model)
    size = "size unknown" if parameters is None else f"{parameters:,} parameters"
    lines = [f"model     {getattr(model, 'name', type(model).__name__)}, {size}"]
    counts = [
        f"{len(problems):,} {split}"
        for split in ("train", "pool", "labelled", "validation", "test")
        if (problems := getattr(task, split, None)) is not None and hasattr(problems, "__len__")
    ]
    lines.append(
        f"task      {getattr(task, 'name', type(task).__name__)}"
        + (f": {', '.join(counts)}" if counts else "")
    )
    estimate = getattr(method, "cost", None)
    amounts = dict(estimate(task, model)) if estimate else {}
    if amounts:
        lines.append(f"expects   up to about {describe(amounts)}")
    trial = getattr(method, "trial", None)
    if trial:
        step, count = trial(task, model)
        seconds = _seconds(step, 2)  # a step may be long
        took = f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
        whole = _duration(seconds * count)
        lines.append(f"machine   {cores()} cores, {took} for a step in a trial, {count:,} of them: {whole}")
    speed = _timed_step(model)
    if speed is not None:
        time_text = (
            f", {_duration(amounts['flops'] / speed.flops)} of arithmetic" if amounts.get("flops") else ""
        )
        lines.append(
            f"machine   {cores()} cores, {speed.flops / 1e9:.1f} GFLOP/s in a timed first step{time_text}"
        )
    if parameters is not None:
        peak = _resident() + parameters * BYTES_TRAINED
        lines.append(f"memory    about {peak / 2**30:.1f} GiB at the peak")
    return lines


def _size(model: Any) -> int | None:
    """Return the number of weights of a language model or a small one; None where a model has none."""
    from selfstudy.models.small import SmallModel

    if isinstance(model, SmallModel):
        return model.weights
    parameters = getattr(model, "parameters", None)
    return parameters if isinstance(parameters, int) else None


def _seconds(step: Callable[[], object], calls: int) -> float:
    """Return the least time of some calls: the first warms caches up, and other work only ever adds."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def _timed_step(model: Any) -> Speed | None:
    """Time one forward and backward pass of a language model; None for other models."""
    from selfstudy.models.language.model import LanguageModel

    if not isinstance(model, LanguageModel):
        return None
    import torch

    width = min(TIMED[1], model.context)
    # The device is the model's, so that the figure is the one training will see.
    device = next(model.module.parameters()).device
    tokens = torch.zeros(TIMED[0], width, dtype=torch.long, device=device)
    model.module.eval()
    with torch.no_grad():
        seconds = _seconds(lambda: model.module(input_ids=tokens, use_cache=False).logits.sum().item(), 4)
    return Speed(flops=model.flops(TIMED[0] * width) / seconds)


def _resident() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _duration(seconds: float) -> str:
    """Return seconds as a person says them.

    >>> _duration(40), _duration(400), _duration(40_000)
    ('40 s', '7 min', '11.1 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
