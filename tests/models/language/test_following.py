"""Tokens drawn from known states against samplers that remember nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, MachineError
from selfstudy.models.language.engine import Engine
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Completion, Request, TorchSampler

from .random_models import random_model

PROMPT = "47+8-2:"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def model(kind: str = "llama") -> LanguageModel:
    """Random, with tokens that all have a text or end; its favourites are likely enough to come again."""
    made = random_model(kind)
    with torch.no_grad():
        made.module.get_output_embeddings().weight[16] = 0
    return made


def asked(prompt: str, key: int = 0, count: int = 6, **more: object) -> Request:
    return Request(prompt=prompt, key=key, max_tokens=count, **more)  # type: ignore[arg-type]


def same(got: list[Completion], expected: list[Completion]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert (a.text, a.tokens, a.finish) == (b.text, b.tokens, b.finish)
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
@pytest.mark.parametrize("settings", [{}, {"rows": 5}, {"cache_mib": 1}])
def test_draws_the_same_as_without_memory(kind: str, settings: dict[str, Any]) -> None:
    """Oracle: a fresh plain sampler for every call, over calls that ask again, go on, and mix both."""
    own = LanguageModel(kind, model(kind).module, model(kind).tokenizer, Engine(**settings))
    meter, plain = Meter(), Meter()
    sampler = TorchSampler(own, meter, remember=True)
    rng = np.random.default_rng(0)
    prompts = [PROMPT, "1", "99*9:"]
    for turn in range(6):
        requests = [
            asked(
                prompts[rng.integers(len(prompts))],
                key=int(rng.integers(4)),
                count=int(rng.integers(1, 9)),
                temperature=float(rng.choice([0.0, 0.3, 1.0])),
                top_p=float(rng.choice([1.0, 0.5])),
                stop=((), ("\n",), ("1", "+5"), ("3-", "8*"))[rng.integers(4)],
            )
            for _ in range(24)
        ]
        got = sampler.sample(requests)
        same(got, TorchSampler(own, plain).sample(requests))
        prompts += [one.prompt + c.text for one, c in zip(requests, got, strict=True) if turn % 2][:3]
    spent, whole = meter.snapshot(), plain.snapshot()
    assert spent["generated_tokens"] == whole["generated_tokens"]
    assert spent["flops"] < whole["flops"] / 2


def test_what_is_known_costs_nothing() -> None:
    """Oracle: FLOPs by hand. Three tokens take a prompt of 7 and 2 drawn tokens; six take 3 more.

    A sample that parts from what is known at its first token feeds each of its own but the last.
    """
    meter = Meter()
    sampler = TorchSampler(model(), meter, remember=True)
    spent = [0.0]

    def sample(*requests: Request) -> list[Completion]:
        done = sampler.sample(requests)
        spent.append(meter.snapshot()["flops"])
        return done

    greedy = asked(PROMPT, temperature=0)
    sample(replace(greedy, max_tokens=3))
    (first,) = sample(greedy)
    sample(greedy, replace(greedy, max_tokens=2), replace(greedy, max_tokens=4))
    for key in range(100):
        (other,) = TorchSampler(model()).sample([asked(PROMPT, key)])
        if other.tokens[0] != first.tokens[0] and len(other.tokens) == 6:
            break
    sample(asked(PROMPT, key))
    assert np.diff(spent).tolist() == [model().flops(tokens) for tokens in (7 + 2, 3, 0, 5)]


def test_what_two_requests_have_drawn_alike_is_kept_once() -> None:
    """Oracle: FLOPs by hand: both end at other times; the text of the longer one is known up to its end."""
    meter = Meter()
    sampler = TorchSampler(model(), meter, remember=True)
    _, longer = sampler.sample([asked(PROMPT, count=count, temperature=0) for count in (2, 5)])
    before = meter.snapshot()["flops"]
    assert before == model().flops(7 + 4) and len(longer.tokens) == 5
    sampler.sample([asked(PROMPT + longer.text, count=1, temperature=0)])
    assert meter.snapshot()["flops"] - before == model().flops(1)


@pytest.mark.parametrize("tokens", [3, 20, 47])
def test_the_budget_holds_for_what_is_known(tokens: int) -> None:
    """Law: known tokens count as drawn ones, and the step that the budget does not cover is not taken."""
    requests = [asked(PROMPT, key) for key in range(8)]
    sampler = TorchSampler(model(), remember=True)
    done = sampler.sample(requests)
    assert sum(len(c.tokens) for c in done) > 20
    sampler.meter = Meter(Budget(generated_tokens=tokens))
    if sum(len(c.tokens) for c in done) > tokens:
        with pytest.raises(BudgetSpent):
            sampler.sample(requests)
    else:
        same(sampler.sample(requests), done)
    assert sampler.meter.snapshot()["generated_tokens"] <= tokens


def test_known_states_of_a_damaged_vocabulary_layer() -> None:
    """Limit: weights that changed are read anew, so logits that are not finite name the token and request."""
    broken = model().copy()
    sampler = TorchSampler(broken, remember=True)
    sampler.sample([asked(PROMPT)])
    with torch.no_grad():
        broken.module.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(MachineError, match="token 1 of request 0"):
        sampler.sample([asked(PROMPT)])
