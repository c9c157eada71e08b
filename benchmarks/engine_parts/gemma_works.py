"""Works with Gemma-3-270M, which continues questions greedily and without end."""

from __future__ import annotations

from functools import cache
from typing import Any

from answering import by_generate, by_sampler, partings

from selfstudy.models.language.loading import language_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request, TorchSampler


@cache
def gemma(dtype: str) -> LanguageModel:
    model = language_model("gemma-3-270m", dtype=dtype)
    # Without end tokens both draw the same number.
    model.tokenizer.eos_token = None
    model.module.generation_config.eos_token_id = None
    return model


def questions(count: int) -> list[str]:
    names = ("Anna", "Ben", "Carla", "David")
    return [
        f"Question: {names[i % 4]} had {7 + 3 * i} marbles, found {2 + i} more and shared all of them with "
        f"{2 + i % 5} friends. How many marbles did each of them get, and how many were left over?\nAnswer:"
        for i in range(count)
    ]


def gemma_ours(dtype: str, batch: int, new: int, out: str | None = None) -> dict[str, Any]:
    """Draw by our sampler."""
    call = [Request(prompt=text, key=0, max_tokens=new, temperature=0.0) for text in questions(batch)]
    answer = by_sampler(TorchSampler(gemma(dtype)), [call], out)
    assert answer["tokens"] == batch * new
    return answer


def gemma_generate(dtype: str, batch: int, new: int, out: str | None = None) -> dict[str, Any]:
    """Draw by transformers' `generate`."""
    inputs = gemma(dtype).tokenizer(questions(batch), return_tensors="pt", padding=True, padding_side="left")
    return by_generate(gemma(dtype), [(inputs.to(gemma(dtype).device), new, [])], True, out)


def gemma_partings(dtype: str, batch: int, one: str, other: str) -> dict[str, Any]:
    """Compare what both have drawn."""
    return partings(gemma(dtype), questions(batch), one, other)
