"""Sampling through transformers' own forward pass, for architectures that the decoder does not know."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.core.budget import Meter
from selfstudy.models.language.engine import Engine
from selfstudy.models.language.module_flight import ModuleFlight
from selfstudy.models.language.sampling import Request, TorchSampler

from .random_models import random_model

PROMPTS = [(1, 2, 3), (), (4,) * 9, (1, 2, 3), (7, 8)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@torch.inference_mode()
def advance(flight: ModuleFlight, texts: list[list[int]], rng: np.random.Generator) -> None:
    """Feed a token a row; the logits are those of each whole text by itself."""
    tokens = rng.integers(0, 16, len(texts)).tolist()
    logits = flight.step(np.array(tokens))
    for row, (text, token) in enumerate(zip(texts, tokens, strict=True)):
        text.append(token)
        expected = flight._model.module(torch.tensor([text]), use_cache=False).logits[0, -1]
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=5e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["gpt2", "gemma3_text"])
def test_rows_in_waves(kind: str) -> None:
    """Oracle: plain passes; each distinct prompt is read once, rows leave, and a second wave begins anew."""
    flight, rng = ModuleFlight(random_model(kind), places=5, steps=8), np.random.default_rng(0)
    for wave, prompts in enumerate((PROMPTS, [(), ()], PROMPTS[::-1][:3])):
        read: list[int] = []
        arrays = [np.array(prompt, dtype=np.int32) for prompt in prompts]
        places = flight.choose(arrays, range(5))
        flight.put(places, arrays, read.append)
        flight.begin(places)
        assert sum(read) == sum(map(len, set(prompts)))
        texts = [list(prompt) for prompt in prompts]
        for _ in range(3):
            advance(flight, texts, rng)
        alive = np.array([row != 0 for row in range(len(texts))])
        now = flight.leave(alive)
        if flight.rows == len(texts):  # few that have ended stay
            assert now.tolist() == list(range(len(texts))) and wave == 0
        else:
            assert now[alive].tolist() == list(range(len(texts) - 1))
            texts = texts[1:]
        advance(flight, texts, rng)
        left = np.zeros(flight.rows, dtype=bool)
        left[-1] = True
        now = flight.leave(left)
        texts = [text for text, is_left in zip(texts, left.tolist(), strict=True) if is_left]
        assert flight.rows == 1 and int(now[-1]) == 0
        for _ in range(3):
            advance(flight, texts, rng)
        flight.leave(np.zeros(1, dtype=bool))


def test_more_requests_than_rows() -> None:
    """Oracle: each request alone; waves of 4 rows, the FLOPs of what is read and fed by hand."""
    wide, narrow = random_model("gpt2"), random_model("gpt2", Engine(rows=4))
    prompts = ["12+3:", "1", "47-8*2:", "12+3:"]
    requests = [
        Request(prompt=prompts[i % 4], key=i, max_tokens=1 + i % 5, temperature=(0.0, 1.0)[i % 2])
        for i in range(22)
    ]
    done = TorchSampler(narrow).sample(requests)
    for request, completion in zip(requests, done, strict=True):
        (alone,) = TorchSampler(wide).sample([request])
        assert completion.tokens == alone.tokens and completion.finish == alone.finish
        np.testing.assert_allclose(completion.logprobs, alone.logprobs, atol=1e-4)
    meter = Meter()
    TorchSampler(wide, meter).sample([Request(prompt="12+3:", key=i, max_tokens=1) for i in range(3)])
    assert meter.snapshot()["flops"] == wide.flops(4 + 3)
