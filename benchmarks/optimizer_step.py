"""A step of Lion against those of lion-pytorch and of torch's fused AdamW: 10 million weights in 300 tensors.

150 matrices of 258 x 256 and 150 vectors of 258, normal weights and gradients, rate 1e-4 and decay 0.1, one
thread. First the weights of both Lions are compared after 200 steps on the same gradients, which change from
step to step: no two may be further apart than 1e-7, else the benchmark fails. Then all are timed in turn, the
first changing from round to round, after a warm-up. A ratio is the median over rounds of the other's time by
ours, of the clock and of the processor, with its quartiles; state is what each optimiser holds after a step,
in bytes. lion-pytorch's default step is timed, which is for one tensor at a time, and its step by `foreach`.

lion-pytorch needs nothing but torch:

    pip install --no-deps lion-pytorch==0.2.5
    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python benchmarks/optimizer_step.py [--rounds 60] [--json PATH]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lion_pytorch import Lion as PeerLion
from lion_pytorch.foreach import Lion as PeerForeachLion

from selfstudy.core.machine import hardware, versions
from selfstudy.learning.optimizers import Lion

SHAPES = [(258, 256), (258,)] * 150
RATE, DECAY = 1e-4, 0.1
STEPS, APART = 200, 1e-7
WARM_UP = 5
OURS = "selfstudy"

MAKERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    OURS: lambda weights: Lion(weights, lr=RATE, weight_decay=DECAY),
    "lion-pytorch": lambda weights: PeerLion(weights, lr=RATE, weight_decay=DECAY),
    "lion-pytorch, foreach": lambda weights: PeerForeachLion(weights, lr=RATE, weight_decay=DECAY),
    "torch AdamW, fused": lambda weights: torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY, fused=True),
}


def made_weights() -> list[torch.nn.Parameter]:
    """Return the same weights at every call, with gradients."""
    stream = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(0.05 * torch.randn(shape, generator=stream)) for shape in SHAPES]
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=stream)
    return weights


def distance() -> float:
    """Return the largest difference of a weight between both Lions after all steps."""
    sides = made_weights(), made_weights()
    optimizers = MAKERS[OURS](sides[0]), MAKERS["lion-pytorch"](sides[1])
    stream = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        factors = torch.randn(len(SHAPES), generator=stream)
        for first, second, factor in zip(*sides, factors, strict=True):
            # Another gradient at each step, at the cost of one product.
            turned = (first.grad * factor).roll(1, 0)  # type: ignore[operator]
            first.grad = turned / turned.std()
            second.grad = first.grad
        for optimizer in optimizers:
            optimizer.step()
    return max((a - b).abs().max().item() for a, b in zip(*sides, strict=True))


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of all tensors of an optimiser's state; AdamW counts its steps too."""
    tensors = [t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def timed(optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """Return seconds of the clock and of the processor of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    optimizer.step()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turn(
    optimizers: dict[str, torch.optim.Optimizer], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of each optimiser's steps, one each in a round."""
    names = list(optimizers)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(-WARM_UP, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds = timed(optimizers[name])
            if number >= 0:
                found[name].append(seconds)
    return found


def quartiles(values: Iterable[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high}


def main() -> None:
    """Compare, time and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    apart = distance()
    if apart > APART:
        raise SystemExit(f"After {STEPS} steps the weights of both Lions are {apart:g} apart.")
    optimizers = {name: make(made_weights()) for name, make in MAKERS.items()}
    found = in_turn(optimizers, options.rounds)
    result: dict[str, Any] = {
        "largest_difference": apart,
        "milliseconds": {name: quartiles(1000 * wall for wall, _ in rows) for name, rows in found.items()},
        "ratio": {},
        "ratio_cpu": {},
        "state_bytes": {name: state_bytes(optimizer) for name, optimizer in optimizers.items()},
        "weights": sum(weight.numel() for weight in made_weights()),
        "tensors": len(SHAPES),
        "rounds": options.rounds,
        "threads": 1,
        "versions": {**versions(), "lion-pytorch": importlib.metadata.version("lion-pytorch")},
        "hardware": hardware(),
    }
    for name, rows in found.items():
        pairs = list(zip(rows, found[OURS], strict=True))
        result["ratio"][name] = quartiles(theirs[0] / ours[0] for theirs, ours in pairs)
        result["ratio_cpu"][name] = quartiles(theirs[1] / ours[1] for theirs, ours in pairs)
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
