"""The share of the processor's peak: prefill, decode and fine-tuning of the tiny LM beside torch's products.

Work: three things that the public parts do. "prefill": `TorchSampler` draws one token after each of 512
random prompts of 96 tokens. "decode": it draws 64 more after each of 256 random prompts of 8 tokens; the time
of drawing just one is taken off. "fine_tuning": the gradient of a batch of 128 solutions of chains of 4 to 12
steps and one step of AdamW, as `fine_tune` takes it. All figures count the same operations: 2 for each weight
of a linear layer and token (6 with the gradient), of tokens that are texts' own, not of padding, and of the
vocabulary's layer where logits are needed: not in reading prompts. Products within attention count for
nothing, and what else is done between two products neither.

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


@dataclass(frozen=True)
class Work:
    """Something to time, its operations, and what its peer multiplies: weights, and rows of each at once."""

    seconds: Callable[[], float]
    operations: float
    products: list[tuple[torch.Tensor, int]]
    gradient: bool = False


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that `work` takes: of processor time, by thread; on a GPU by the clock."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    work()
    return (time.process_time() - start) / torch.get_num_threads()


def layers(model: LanguageModel) -> list[torch.Tensor]:
    """Return the weights [out, in] of all linear layers, that of the vocabulary last."""
    head = model.module.get_output_embeddings()
    inner = [
        part for part in model.module.modules() if isinstance(part, torch.nn.Linear) and part is not head
    ]
    return [part.weight.detach() for part in (*inner, head)]


def size(weights: list[torch.Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def requests(count: int, length: int, drawn: int) -> list[Request]:
    """Return requests with prompts of random letters, all different."""
    rng = np.random.default_rng(length)
    texts = ["".join(rng.choice(LETTERS, length)) for _ in range(count)]
    return [Request(prompt=text, key=i, max_tokens=drawn) for i, text in enumerate(texts)]


def sampling(sampler: TorchSampler, asked: list[Request]) -> float:
    return seconds_of(lambda: sampler.sample(asked), sampler.model.device)


def prefill(model: LanguageModel) -> Work:
    (count, length), inner = PREFILL, layers(model)[:-1]
    asked, sampler = requests(count, length, 1), TorchSampler(model)
    products = [(weight, READ_TOKENS) for weight in inner]
    return Work(partial(sampling, sampler, asked), 2.0 * size(inner) * count * length, products)


def decode(model: LanguageModel) -> Work:
    (count, length, drawn), weights = DECODE, layers(model)
    first, all_of_them = requests(count, length, 1), requests(count, length, drawn + 1)
    sampler = TorchSampler(model)
    return Work(
        lambda: sampling(sampler, all_of_them) - sampling(sampler, first),
        2.0 * size(weights) * count * drawn,
        [(weight, count) for weight in weights],
    )


def solutions(model: LanguageModel) -> list[tuple[list[int], int]]:
    """Return tokens of exact solutions, and where they begin."""
    rng = generator("machine-peak", 0)
    pairs = []
    for steps in rng.integers(4, 13, BATCH):
        prompts, lines = draw(rng, 1, int(steps))
        pairs.append((prompts[0], "".join(f"{line}\n" for line in lines[0])))
    return pair_tokens(model, pairs, end=True)


def fine_tuning(model: LanguageModel) -> Work:
    sequences = solutions(model)
    lengths = [len(tokens) for tokens, _ in sequences]
    learner = model.copy()
    module = learner.module.train()
    joint = Joint(module, named_optimizer("adamw", module.parameters()))

    def step() -> None:
        accumulate(joint, sequences, None)
        update(joint.optimizer, 1e-6, 1.0)

    *inner, head = layers(model)
    told = sum(lengths) - sum(start for _, start in sequences)  # tokens that logits are computed for
    parts = len(batch_parts(sequences, lengths, None, model.device))
    products = [*((weight, sum(lengths) // parts) for weight in inner), (head, told // parts)]
    operations = 6.0 * (size(inner) * sum(lengths) + head.numel() * told)
    return Work(lambda: seconds_of(step, model.device), operations, products, gradient=True)


WORKS = {"prefill": prefill, "decode": decode, "fine_tuning": fine_tuning}


def products(shapes: list[tuple[torch.Tensor, int]], gradient: bool, seconds: float) -> float:
    """Return the operations a second of products on the layers' shapes, measured for about `seconds`."""
    given = [
        (
            weight,
            weight.new_empty(rows, weight.shape[1]).normal_(),
            weight.new_empty(rows, len(weight)).normal_(),
        )
        for weight, rows in shapes
    ]

    def once() -> None:
        for weight, entering, leaving in given:
            torch.mm(entering, weight.T)
            if gradient:
                torch.mm(leaving, weight)
                torch.mm(leaving.T, entering)

    once()
    spent, times = 0.0, 0
    while spent < seconds:
        spent, times = spent + seconds_of(once, shapes[0][0].device), times + 1
    operations = sum(2.0 * weight.numel() * rows for weight, rows in shapes)
    return (3 if gradient else 1) * operations * times / spent


def measured(work: Work, repetitions: int) -> dict[str, Any]:
    shares, rates, peaks = [], [], []
    for attempt in range(repetitions + 1):
        taken = work.seconds()
        rate = work.operations / taken
        peak = products(work.products, work.gradient, min(taken, 1.0))
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
        "rows": work.products[0][1],
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
    results: dict[str, Any] = {}
    for name, make in WORKS.items():
        work = make(model)
        results[name] = measured(work, options.repetitions)
        low, high = results[name]["quartiles"]
        print(
            f"{name}: {results[name]['share']:.0%} of torch.mm ({low:.0%} to {high:.0%}); "
            f"{results[name]['gflops']:.0f} of {results[name]['products_gflops']:.0f} GFLOP/s"
        )
    results |= {
        "profile": profiled(work),  # of the last, fine-tuning
        "shapes": sorted({tuple(weight.shape) for weight in layers(model)}),
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
