"""TorchSampler against transformers' own `generate`, as a ratio measured in one run.

Method: one random model of the tiny-lm size (4 layers, width 128, 0.83 million weights, 17 tokens),
float32, one thread unless --threads says otherwise. Both decode greedily, 96 new tokens after each of 256
prompts of 20 to 60 tokens; end tokens are switched off for both, so that both draw the same number.
`generate` gets the prompts as it wants them: tokenised before, padded on the left, with the attention mask,
and its dynamic cache; what is timed for TorchSampler includes tokenising and building the completions.
First both outputs are compared token by token: a difference is allowed only where the two likeliest tokens
are as close as rounding (the benchmark fails otherwise). Then the two are timed in turn, after one warm-up
each; the figures are medians of the repetitions.

A second figure is what tree search asks for: 200 requests of up to 12 tokens with a stop string after 67
distinct prefixes of 30 to 130 tokens, three requests each; the peer is `generate` with the same stop token
as end token.

    python benchmarks/sampling.py [--repetitions 5] [--threads 1] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.tiny import PAD, VOCABULARY, random_tiny_model

NEWLINE = VOCABULARY.index("\n")


def model_without_end() -> LanguageModel:
    """A random model with logits far enough apart that rounding rarely changes the likeliest token."""
    model = random_tiny_model()
    with torch.no_grad():
        model.module.lm_head.weight.mul_(20)
        model.module.lm_head.weight[PAD] = 0  # their logit is 0, never the largest
    return model


def prompts(count: int, shortest: int, longest: int) -> list[str]:
    rng = np.random.default_rng(0)
    letters = np.array(list("0123456789+-*=:"))
    lengths = rng.integers(shortest, longest + 1, count)
    return ["".join(rng.choice(letters, length)) for length in lengths]


def generate(model: LanguageModel, texts: list[str], new: int, end: int | None) -> torch.Tensor:
    batch = model.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.inference_mode():
        out = model.module.generate(
            **batch, max_new_tokens=new, do_sample=False, eos_token_id=end, pad_token_id=PAD
        )
    return out[:, batch["input_ids"].shape[1] :]


def median_times(works: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Time the works in turn, so that a disturbance of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(repetitions + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if repetition:  # the first warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def first_differences(
    model: LanguageModel, texts: list[str], ours: list[list[int]], theirs: list[list[int]]
) -> list[float]:
    """For each text whose outputs differ: how far apart the logits are at the first difference."""
    gaps = []
    for text, a, b in zip(texts, ours, theirs, strict=True):
        if a == b:
            continue
        place = next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
        with torch.inference_mode():
            logits = model.module(torch.tensor([model.encode(text) + a[:place]])).logits[0, -1]
        gaps.append(float((logits[a[place]] - logits[b[place]]).abs()))
    return gaps


def batch_of_256(model: LanguageModel, repetitions: int) -> dict[str, float]:
    new, texts = 96, prompts(256, 20, 60)
    model.module.generation_config.eos_token_id = None
    sampler = TorchSampler(model)
    requests = [Request(prompt=text, key=0, max_tokens=new, temperature=0) for text in texts]
    ours = [list(c.tokens) for c in sampler.sample(requests)]
    gaps = first_differences(model, texts, ours, generate(model, texts, new, None).tolist())
    if max(gaps, default=0) > 1e-3:
        sys.exit(f"the greedy outputs differ by more than rounding: logits {max(gaps):g} apart")
    times = median_times(
        {
            "selfstudy": lambda: sampler.sample(requests),
            "transformers": lambda: generate(model, texts, new, None),
        },
        repetitions,
    )
    return {
        **times,
        "ratio": times["transformers"] / times["selfstudy"],
        "tokens_per_second": len(texts) * new / times["selfstudy"],
        "rows_equal": len(texts) - len(gaps),
        "rows_split_by_rounding": len(gaps),
    }


def search_calls(model: LanguageModel, repetitions: int) -> dict[str, float]:
    texts = [text for text in prompts(67, 30, 130) for _ in range(3)][:200]
    sampler = TorchSampler(model)
    requests = [Request(prompt=t, key=i, max_tokens=12, stop=("\n",)) for i, t in enumerate(texts)]
    times = median_times(
        {
            "selfstudy": lambda: sampler.sample(requests),
            "transformers": lambda: generate(model, texts, 12, NEWLINE),
        },
        repetitions,
    )
    return {**times, "ratio": times["transformers"] / times["selfstudy"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    model = model_without_end()
    result = {
        "batch_256_new_96": batch_of_256(model, options.repetitions),
        "search_200_new_12": search_calls(model, options.repetitions),
        "threads": options.threads,
        "repetitions": options.repetitions,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.processor() or platform.machine(),
    }
    for name in ("batch_256_new_96", "search_200_new_12"):
        part = result[name]
        print(
            f"{name}: {part['ratio']:.2f} times transformers' generate "
            f"({part['selfstudy']:.2f} s against {part['transformers']:.2f} s)"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
