"""What a model thinks of its own answers: sums, shares of votes, cuts, and whether the sums are its own."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.budget import Meter
from selfstudy.core.errors import MachineError
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request
from selfstudy.models.language.scoring import pair_tokens, sequence_logprobs
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.rollouts import Answer, Group
from selfstudy.signals.self_rewards import cut, own_rewards, require_own_logprobs, vote_shares

PROBLEM = SimpleNamespace(id="1", prompt="1+1:")
TASK = SimpleNamespace(
    stop=(),
    answer=lambda steps, problem: steps[-1] if steps else None,
    equivalent=lambda problem, one, other: one.lstrip("0") == other.lstrip("0"),
    is_end=lambda problem, steps: len(steps) == 2,
)


def answer(*steps: str, logprobs: tuple[float, ...] = (-1.0,), finish: str = "end") -> Answer:
    return Answer(PROBLEM, "\n".join(steps), steps, (0,) * len(logprobs), finish, logprobs)


def sharpened(seed: int, scale: float, vocabulary: str = "ab") -> LanguageModel:
    """A random model whose logits are multiplied by `scale`."""
    model = random_tiny_model(1, 16, seed, vocabulary=vocabulary)
    with torch.no_grad():
        model.module.lm_head.weight.mul_(scale)
    return model


def test_raw_and_normalised_rewards_choose_differently() -> None:
    """Oracle: a pair by hand: -3 in one token against -4 in four."""
    group = Group(PROBLEM, (1,), (answer("a", logprobs=(-3.0,)), answer("b", logprobs=(-1.0,) * 4)))
    assert own_rewards(TASK, group, "likelihood").tolist() == [-3.0, -4.0]
    assert own_rewards(TASK, group, "normalised").tolist() == [-3.0, -1.0]


def test_shares_of_votes() -> None:
    """Oracle: by hand: equivalent answers vote together, none has no share but counts as a voter."""
    group = Group(PROBLEM, (1,), (answer("4"), answer("04"), answer("5"), answer()))
    assert own_rewards(TASK, group, "majority").tolist() == [0.5, 0.5, 0.25, 0.0]
    assert vote_shares(TASK, PROBLEM, ["5"], ["5", "4", None, "05"]).tolist() == [0.5]


def test_what_counts_as_cut_off() -> None:
    """Oracle: by hand; without any way to end, a whole form is whole, with one it is not."""
    short, whole = (answer(*steps, finish="length") for steps in (("a",), ("a", "b")))
    assert not cut(TASK, answer("a", finish="stop"), end=None) and not cut(TASK, answer("a"), end=3)
    assert cut(TASK, short, end=None) and not cut(TASK, whole, end=None)
    assert cut(TASK, whole, end=3)
    assert cut(SimpleNamespace(**{**vars(TASK), "stop": ("\n\n",)}), whole, end=None)


def drawn(model: LanguageModel, count: int = 8, temperature: float = 1.0) -> list[tuple[str, Answer]]:
    requests = [Request(prompt="1+1:", key=i, max_tokens=12, temperature=temperature) for i in range(count)]
    completions = open_sampler(model).sample(requests)
    return [("1+1:", Answer(PROBLEM, c.text, (), c.tokens, c.finish, c.logprobs)) for c in completions]


def test_the_sampler_states_the_models_own_logprobs() -> None:
    """Oracle: the module's forward pass, also of draws at another temperature; tokens are charged."""
    model, meter = sharpened(0, 20.0, "0123456789+:\n"), Meter()
    require_own_logprobs(model, drawn(model), meter)
    require_own_logprobs(model, drawn(model, temperature=0.5), meter)
    assert meter.snapshot()["scored_tokens"] == 2 * 8 * (4 + 12)


@pytest.mark.parametrize("engine", ["temperature", "top-p"])
def test_processed_logprobs_are_refused(engine: str) -> None:
    """Oracle: an engine that states them after a temperature of 0.7, or after a cut at top-p 0.9."""
    model = sharpened(0, 20.0, "0123456789+:\n")
    stated = []
    for prompt, one in drawn(model):
        with torch.no_grad():
            logits = model.module(torch.tensor([[*model.encode(prompt), *one.tokens]])).logits[0, 3:-1]
        if engine == "temperature":
            logits = logits / 0.7
        logs = logits.log_softmax(-1)[range(len(one.tokens)), list(one.tokens)]
        if engine == "top-p":
            logs = logs - np.log(0.9)
        stated.append((prompt, replace(one, logprobs=tuple(logs.tolist()))))
    with pytest.raises(MachineError, match=r"nats a token.*top-p"):
        require_own_logprobs(model, stated, Meter())


def enumerated(model: LanguageModel, length: int) -> dict[tuple[int, ...], float]:
    """The probability of each sequence of this length after the prompt "a"."""
    ways = list(itertools.product(range(3), repeat=length))
    logs = sequence_logprobs(model, [("a", way) for way in ways])
    return dict(zip(ways, np.exp(logs).tolist(), strict=True))


def test_sequence_logprobs_are_those_of_the_enumerated_product() -> None:
    """Oracle: the product of conditional probabilities, and 1 for all sequences of a length together."""
    model = sharpened(3, 10.0)
    found = enumerated(model, 3)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    for way, probability in found.items():
        product = 1.0
        for i in range(3):
            logits = model.module(torch.tensor([[*model.encode("a"), *way[:i]]])).logits[0, -1].detach()
            product *= float(logits.softmax(-1)[way[i]])
        assert probability == pytest.approx(product, rel=1e-4)


def test_padding_on_the_left_changes_no_sum() -> None:
    """Oracle: transformers with padding on the left, a mask and positions; other rows of the batch."""
    model = sharpened(3, 10.0)
    pairs = [("a", (1, 0, 1)), ("abba", (0,))]
    sums = sequence_logprobs(model, pairs)
    assert sums == pytest.approx([sequence_logprobs(model, [pair])[0] for pair in pairs], abs=1e-5)
    for (tokens, start), total in zip(pair_tokens(model, pairs, end=False), sums, strict=True):
        pad = 4
        ids = torch.tensor([[2] * pad + tokens])
        mask = torch.tensor([[0] * pad + [1] * len(tokens)])
        place = (mask.cumsum(1) - 1).clamp(min=0)
        logs = model.module(ids, attention_mask=mask, position_ids=place).logits[0].detach().log_softmax(-1)
        plain = sum(float(logs[pad + i - 1, tokens[i]]) for i in range(start, len(tokens)))
        assert total == pytest.approx(plain, abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([30.0, 100.0, 200.0]))
def test_greedy_gives_a_response_of_more_than_one_half(seed: int, scale: float) -> None:
    """Oracle: the likeliest of all 27 sequences of three tokens; above 1/2 each token of it is."""
    model = sharpened(seed, scale)
    found = enumerated(model, 3)
    best = max(found, key=lambda way: found[way])
    (greedy,) = open_sampler(model).sample([Request(prompt="a", key=0, max_tokens=3, temperature=0.0)])
    if found[best] > 0.5 + 1e-6:
        assert greedy.tokens == best


def test_below_one_half_greedy_may_miss_the_likeliest() -> None:
    """Oracle: a table by hand: the first token 0 has 0.51, split evenly; after 1 all mass is on one path."""
    first = {0: 0.51, 1: 0.49}
    second = {0: {0: 0.5, 1: 0.5}, 1: {0: 1.0, 1: 0.0}}
    whole = {(a, b): first[a] * second[a][b] for a in first for b in second[a]}
    best = max(whole, key=lambda way: whole[way])
    greedy_first = max(first, key=lambda a: first[a])
    greedy = (greedy_first, max(second[greedy_first], key=lambda b: second[greedy_first][b]))
    assert 0.48 < whole[best] < 0.5 and greedy != best
