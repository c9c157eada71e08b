"""The share of the processor's peak: prefill, decode and fine-tuning of the tiny LM beside torch's products.

Work: three things that the public parts do. "prefill": `TorchSampler` draws one token after each of 512
random prompts of 96 tokens. "decode": it draws 64 more after each of 256 random prompts of 8 tokens; the time
of drawing just one is taken off. "fine_tuning": the gradient of a batch of 128 solutions of chains of 4 to 12
steps and one step of AdamW, as `fine_tune` takes it. All figures count the same operations: 2 for each weight
of a linear layer and token (6 with the gradient), of tokens that are texts' own, not of padding. Products
within attention count for nothing, and what else is done between two products neither.

Peer: `torch.mm` on the shapes of the same layers, [T, in] x [in, out], one layer after the other; for
fine-tuning also the two products of its gradient. T is the number of tokens that the work itself reads at
once: see `rows` in the results. An attempt is the work, then the peer for as long, at most a second. A share
is the work's operations a second by the peer's; the figure is the median of the attempts with its quartiles,
after a warm-up of both. Times are of this process's processor (all its threads), divided by their number:
what else runs on the machine then only counts by the room that it takes in the caches. float32.

Notes: `profile` in the results lists where the time of fine-tuning goes, by torch's profiler, in shares of
all operations. There is no accelerator in these figures; `device` says so.

    OMP_NUM_THREADS=1 python benchmarks/machine_peak.py [--repetitions 5] [--threads 1] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfstudy.core.machine import hardware, versions
from selfstudy.core.random import generator
from selfstudy.data.chains import draw
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.fine_tuning import accumulate
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import update
from selfstudy.learning.optimizers import named_optimizer
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.prefixes import READ_TOKENS
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.scoring import pair_tokens
from selfstudy.models.language.tiny import random_tiny_model

LETTERS = np.array(list("0123456789+-*=:"))
PREFILL, DECODE = (512, 96), (256, 8, 64)  # prompts, their tokens, tokens drawn
BATCH = 128
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """Something to time, its operations, and the shapes that its peer multiplies."""

    seconds: Callable[[], float]
    operations: float
    rows: int
    gradient: bool = False


def processor_time(work: Callable[[], Any]) -> float:
    """Return the seconds of processor time that `work` takes, by thread."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / torch.get_num_threads()


def layers(model: LanguageModel) -> list[torch.Tensor]:
    """Return the weights [out, in] of all linear layers."""
    found = [part.weight for part in model.module.modules() if isinstance(part, torch.nn.Linear)]
    return [weight.detach() for weight in found]


def requests(count: int, length: int, drawn: int) -> list[Request]:
    """Return requests with prompts of random letters, all different."""
    rng = np.random.default_rng(length)
    texts = ["".join(rng.choice(LETTERS, length)) for _ in range(count)]
    return [Request(prompt=text, key=i, max_tokens=drawn) for i, text in enumerate(texts)]


def sampling(model: LanguageModel, asked: list[Request]) -> float:
    return processor_time(lambda: TorchSampler(model).sample(asked))


def prefill(model: LanguageModel, weights: int) -> Work:
    count, length = PREFILL
    asked = requests(count, length, 1)
    return Work(partial(sampling, model, asked), 2.0 * weights * count * length, READ_TOKENS)


def decode(model: LanguageModel, weights: int) -> Work:
    count, length, drawn = DECODE
    first, all_of_them = requests(count, length, 1), requests(count, length, drawn + 1)
    return Work(
        lambda: sampling(model, all_of_them) - sampling(model, first), 2.0 * weights * count * drawn, count
    )


def solutions(model: LanguageModel) -> list[tuple[list[int], int]]:
    """Return tokens of exact solutions, and where they begin."""
    rng = generator("machine-peak", 0)
    pairs = []
    for steps in rng.integers(4, 13, BATCH):
        prompts, lines = draw(rng, 1, int(steps))
        pairs.append((prompts[0], "".join(f"{line}\n" for line in lines[0])))
    return pair_tokens(model, pairs, end=True)


def fine_tuning(model: LanguageModel, weights: int) -> Work:
    sequences = solutions(model)
    lengths = [len(tokens) for tokens, _ in sequences]
    learner = model.copy()
    module = learner.module.train()
    joint = Joint(module, named_optimizer("adamw", module.parameters()))

    def step() -> None:
        accumulate(joint, sequences, None)
        update(joint.optimizer, 1e-6, 1.0)

    rows = sum(lengths) // len(batch_parts(sequences, lengths, None, CPU))
    return Work(lambda: processor_time(step), 6.0 * weights * sum(lengths), rows, gradient=True)


WORKS = {"prefill": prefill, "decode": decode, "fine_tuning": fine_tuning}


def products(weights: list[torch.Tensor], rows: int, gradient: bool, seconds: float) -> float:
    """Return the operations a second of products on the layers' shapes, measured for about `seconds`."""
    entering = [torch.randn(rows, weight.shape[1]) for weight in weights]
    leaving = [torch.randn(rows, weight.shape[0]) for weight in weights]

    def once() -> None:
        for weight, x, grad in zip(weights, entering, leaving, strict=True):
            torch.mm(x, weight.T)
            if gradient:
                torch.mm(grad, weight)
                torch.mm(grad.T, x)

    once()
    spent, times = 0.0, 0
    while spent < seconds:
        spent, times = spent + processor_time(once), times + 1
    size = sum(weight.numel() for weight in weights)
    return (6.0 if gradient else 2.0) * size * rows * times / spent


def measured(work: Work, weights: list[torch.Tensor], repetitions: int) -> dict[str, Any]:
    shares, rates, peaks = [], [], []
    for attempt in range(repetitions + 1):
        taken = work.seconds()
        rate = work.operations / taken
        peak = products(weights, work.rows, work.gradient, min(taken, 1.0))
        if attempt:  # the first warms up
            shares.append(rate / peak)
            rates.append(rate / 1e9)
            peaks.append(peak / 1e9)
    low, middle, high = statistics.quantiles(shares, n=4, method="inclusive")
    return {
        "share": middle,
        "quartiles": [low, high],
        "gflops": statistics.median(rates),
        "products_gflops": statistics.median(peaks),
        "rows": work.rows,
    }


def profiled(work: Work) -> dict[str, float]:
    """Return the operations that take most of the time, in shares of all."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        work.seconds()
    spent = {event.key: event.self_cpu_time_total for event in record.key_averages()}
    most = sorted(spent, key=lambda key: -spent[key])[:12]
    return {key: spent[key] / sum(spent.values()) for key in most}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = random_tiny_model()
    weights = layers(model)
    size = sum(weight.numel() for weight in weights)
    results: dict[str, Any] = {}
    for name, make in WORKS.items():
        work = make(model, size)
        results[name] = measured(work, weights, options.repetitions)
        low, high = results[name]["quartiles"]
        print(
            f"{name}: {results[name]['share']:.0%} of torch.mm ({low:.0%} to {high:.0%}); "
            f"{results[name]['gflops']:.0f} of {results[name]['products_gflops']:.0f} GFLOP/s"
        )
    results |= {
        "profile": profiled(work),  # of the last, fine-tuning
        "shapes": sorted({tuple(weight.shape) for weight in weights}),
        "threads": options.threads,
        "repetitions": options.repetitions,
        "device": "cpu: no accelerator was used",
        "hardware": hardware(),
        "versions": versions(),
    }
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
