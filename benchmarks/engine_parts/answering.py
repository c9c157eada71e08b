"""What all works need: answers by our sampler and by transformers' `generate`, and where two of them part."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request, TorchSampler

Part = tuple[Any, int, list[int]]
"""Inputs of `generate`, how many new tokens, and the tokens that end a row."""


def by_sampler(sampler: TorchSampler, calls: Sequence[Sequence[Request]], out: str | None) -> dict[str, Any]:
    """Answer calls in their order; return the seconds and the tokens drawn."""
    start = time.perf_counter()
    done = [sampler.sample(call) for call in calls]
    seconds = time.perf_counter() - start
    return _answer(seconds, [list(c.tokens) for call in done for c in call], out)


def by_generate(model: LanguageModel, parts: Sequence[Part], greedy: bool, out: str | None) -> dict[str, Any]:
    """Answer parts that were tokenised before."""
    choose: dict[str, Any] = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0}
    torch.manual_seed(0)
    done = []
    start = time.perf_counter()
    for inputs, new, ends in parts:
        with torch.inference_mode():
            drawn = model.module.generate(
                **inputs, max_new_tokens=new, eos_token_id=ends or None, pad_token_id=0, **choose
            )
        done.append(drawn[:, inputs["input_ids"].shape[1] :])
    _wait_for(model)
    seconds = time.perf_counter() - start
    rows = [
        _until(row, ends) for drawn, (_, _, ends) in zip(done, parts, strict=True) for row in drawn.tolist()
    ]
    return _answer(seconds, rows, out)


def _wait_for(model: LanguageModel) -> None:
    """Let a GPU end what it was given; our sampler's tokens are read from it anyway."""
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def _answer(seconds: float, rows: list[list[int]], out: str | None) -> dict[str, Any]:
    if out:
        Path(out).write_text(json.dumps(rows))
    return {"seconds": seconds, "tokens": sum(map(len, rows))}


def _until(row: list[int], ends: list[int]) -> list[int]:
    """Cut a row behind its first end token."""
    return row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))]


def partings(model: LanguageModel, prompts: Sequence[str], one: str, other: str) -> dict[str, Any]:
    """Return how many greedy outputs differ, and how far apart logits are where they do first, at most."""
    rows = zip(prompts, *(json.loads(Path(path).read_text()) for path in (one, other)), strict=True)
    gaps = [_gap(model, prompt, a, b) for prompt, a, b in rows if a != b]
    return {"requests": len(prompts), "split_by_rounding": len(gaps), "largest_gap": max(gaps, default=0.0)}


def _gap(model: LanguageModel, prompt: str, a: list[int], b: list[int]) -> float:
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if place is None:  # one goes on where the other has ended
        return float("inf")
    with torch.inference_mode():
        text = torch.tensor([model.encode(prompt) + a[:place]], device=model.device)
        logits = model.module(text).logits[0, -1].float()
    return float((logits[a[place]] - logits[b[place]]).abs())
