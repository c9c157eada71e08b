"""Sampling and values on a GPU beside the same on the processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.models.language.loading import shipped_value_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.value import ValueModel

from ..models.language.random_models import random_model

KINDS = ("llama-biased", "qwen3", "gemma3_text", "mistral-window", "gpt2")
TIE = 1e-3


def on(device: str, model: LanguageModel) -> LanguageModel:
    copy = model.copy()
    copy.module.to(device)
    return copy


def greedy(count: int) -> list[Request]:
    texts = ["47+8:", "1", "123-4*2:", "99+12:\n3=", "5" * 17, "8-3:"]
    return [
        Request(prompt=texts[i % 6] + str(i % 10) * (i // 6), key=i, max_tokens=3 + i % 14, temperature=0.0)
        for i in range(count)
    ]


def require_same(model: LanguageModel, asked: list[Request], one: list, other: list) -> None:
    """Fail unless greedy outputs are the same up to where two tokens are as likely."""
    for request, a, b in zip(asked, one, other, strict=True):
        place = next((i for i, (x, y) in enumerate(zip(a.tokens, b.tokens, strict=False)) if x != y), None)
        if place is None:
            assert len(a.tokens) == len(b.tokens)
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=2e-3)
            continue
        text = torch.tensor([[*model.encode(request.prompt), *a.tokens[:place]]], device=model.device)
        with torch.inference_mode():
            logits = model.module(text).logits[0, -1]
        assert (logits[a.tokens[place]] - logits[b.tokens[place]]).abs() < TIE


@pytest.mark.parametrize("kind", ["tiny-lm", *KINDS])
def test_greedy_outputs_are_those_of_the_processor_alone_and_among_many(kind: str) -> None:
    """Oracle: the same sampler on the processor; on the GPU, each request as a call of its own."""
    given = selfstudy.model(kind) if kind == "tiny-lm" else random_model(kind)
    gpu, processor = on("cuda", given), on("cpu", given)
    asked = greedy(64)
    sampler = TorchSampler(gpu)
    together = sampler.sample(asked)
    require_same(processor, asked, TorchSampler(processor).sample(asked), together)
    alone = [sampler.sample([request])[0] for request in asked[:12]]
    require_same(processor, asked[:12], alone, together[:12])


@pytest.mark.parametrize("kind", ["tiny-lm", "qwen3"])
def test_draws_belong_to_their_keys(kind: str) -> None:
    """Oracle: the same requests in small calls draw the same tokens as in one of 256, but for rounding."""
    given = selfstudy.model(kind) if kind == "tiny-lm" else random_model(kind)
    sampler = TorchSampler(on("cuda", given))
    asked = [Request(prompt=f"{i % 7}+{i % 5}:", key=i, max_tokens=12, stop=("\n",)) for i in range(256)]
    many = sampler.sample(asked)
    few = [one for first in range(0, 256, 32) for one in sampler.sample(asked[first : first + 32])]
    assert sum(a.tokens != b.tokens for a, b in zip(many, few, strict=True)) <= 2
    assert len({one.tokens for one in many}) > 32


@pytest.mark.parametrize("kind", ["tiny-lm", "gemma3_text"])
def test_bfloat16_draws_what_the_model_finds_likely(kind: str) -> None:
    """Oracle: the log-probabilities of one forward pass of the module over each whole text."""
    given = selfstudy.model("tiny-lm?dtype=bfloat16") if kind == "tiny-lm" else None
    model = on("cuda", given or random_model(kind, dtype=torch.bfloat16))
    asked = [Request(prompt=f"{i}+{i % 5}:", key=i, max_tokens=8) for i in range(40)]
    for request, one in zip(asked, TorchSampler(model, remember=True).sample(asked), strict=True):
        tokens = [*model.encode(request.prompt), *one.tokens]
        with torch.inference_mode():
            logits = model.module(torch.tensor([tokens], device="cuda")).logits[0].float()
        logs = logits.log_softmax(-1)[-len(one.tokens) - 1 : -1]
        expected = logs.gather(1, torch.tensor(one.tokens, device="cuda")[:, None])[:, 0].cpu()
        np.testing.assert_allclose(one.logprobs, expected, atol=0.5)
        assert abs(np.mean(one.logprobs) - float(expected.mean())) < 0.15


@pytest.mark.parametrize("likelihood", [False, True])
def test_values_from_cached_prefixes(likelihood: bool) -> None:
    """Oracle: the value model without a memory, on the processor."""
    policy = selfstudy.model("tiny-lm")
    value = (
        ValueModel.from_policy(policy, likelihood=likelihood) if likelihood else shipped_value_model(policy)
    )
    assert value is not None and policy.device.type == value.device.type == "cuda"
    value.net.head.weight.data += 0.02
    prefixes = [(f"{i % 4}7+8:", ("47+8=55", "55-1=54")[:n]) for i in range(40) for n in range(3)]
    remembering = value.remembering()
    found = [remembering.values(prefixes), remembering.values(prefixes[::-1])[::-1]]
    plain = value.copy()
    plain.net.to("cpu")
    for values in found:
        np.testing.assert_allclose(values, plain.values(prefixes), atol=1e-4)
