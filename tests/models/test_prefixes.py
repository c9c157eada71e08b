"""The memory of prefixes against plain forward passes over whole texts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, Gemma3TextConfig, Gemma3TextModel

from selfstudy.core.budget import Meter
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.prefixes import PrefixStore, can_continue
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.models.language.value import ValueModel

KINDS = ("llama", "gemma3")
quick = settings(max_examples=25, deadline=None, derandomize=True)

# Batches of texts: each goes on, by some tokens, from one of those read before (cut somewhere) or from none.
growths = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 20), st.integers(0, 9), st.lists(st.integers(0, 15), min_size=1, max_size=5)
        ),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@cache
def policy() -> LanguageModel:
    """Two layers with weights large enough that every token matters."""
    model = random_tiny_model(2, 32)
    with torch.no_grad():
        for weight in model.module.parameters():
            if weight.dim() == 2:
                weight.mul_(5)
    return model


@cache
def decoder(kind: str) -> torch.nn.Module:
    if kind == "llama":
        return policy().module.base_model
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Gemma3TextConfig(
            vocab_size=18,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=4,
            sliding_window_pattern=2,
            max_position_embeddings=512,
        )
        return Gemma3TextModel(config).eval()


def texts_of(batches: list[list[tuple[int, int, list[int]]]]) -> list[list[list[int]]]:
    """Work the growths out to batches of distinct texts."""
    before: list[list[int]] = [[]]
    out = []
    for batch in batches:
        rows: dict[tuple[int, ...], None] = {}
        for which, cut, more in batch:
            base = before[which % len(before)]
            rows[(*base[: len(base) - cut % (len(base) + 1)], *more)] = None
        out.append([list(row) for row in rows])
        before += out[-1]
    return out


def plain(kind: str, row: list[int]) -> tuple[torch.Tensor, DynamicCache]:
    """One text by itself: the last hidden state, keys and values."""
    kept = DynamicCache()
    hidden = decoder(kind)(input_ids=torch.tensor([row]), past_key_values=kept, use_cache=True)
    return hidden.last_hidden_state[0, -1], kept


def longest_read(row: list[int], read: set[tuple[int, ...]]) -> int:
    return max((n for n in range(len(row) + 1) if tuple(row[:n]) in read), default=0)


@pytest.mark.parametrize("kind", KINDS)
@given(batches=growths)
@quick
def test_reading_on_equals_reading_whole(kind: str, batches: list) -> None:
    """Oracle: a plain forward pass over each text by itself; the count of new tokens by a set of texts."""
    store, read = PrefixStore(decoder(kind)), set[tuple[int, ...]]()
    for rows in texts_of(batches):
        expected = sum(max(1, len(row) - longest_read(row, read)) for row in rows)
        assert store.missing(rows) == expected
        used = store._used
        with torch.inference_mode():
            kept, hidden, *_ = store.read(rows)
            assert store._used - used == expected
            for i, row in enumerate(rows):
                alone, cache_ = plain(kind, row)
                torch.testing.assert_close(hidden[i], alone, rtol=1e-4, atol=1e-5)
                if kind == "llama":  # the plain cache of a sliding layer keeps its window only
                    for layer, other in zip(kept.layers, cache_.layers, strict=True):
                        n = len(row)
                        torch.testing.assert_close(layer.keys[i, :, :n], other.keys[0], rtol=1e-4, atol=1e-5)
                        torch.testing.assert_close(
                            layer.values[i, :, :n], other.values[0], rtol=1e-4, atol=1e-5
                        )
        read |= {tuple(row) for row in rows}


@pytest.mark.parametrize("kind", KINDS)
@given(batches=growths, room=st.integers(1, 30))
@quick
def test_forgetting_changes_no_number(kind: str, batches: list, room: int) -> None:
    """Oracle: a store that never forgets; `missing` is what is then really read."""
    large, small = PrefixStore(decoder(kind)), PrefixStore(decoder(kind))
    small.capacity = room
    for rows in texts_of(batches):
        missing, before = small.missing(rows), small._used
        with torch.inference_mode():
            hidden = small.read(rows).last
            expected = large.read(rows).last
        torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-5)
        assert missing in (small._used - before, small._used), "after forgetting, everything is read"
        assert small._used <= max(room, sum(map(len, rows)))


def test_it_forgets_when_full_and_only_then() -> None:
    """Oracle: sums by hand, with room for 10 tokens: 4 + 5 fit, one more would, two would not."""
    store = PrefixStore(decoder("llama"))
    store.capacity = 10
    with torch.inference_mode():
        store.read([[1, 2, 3, 4]])
        store.read([[5, 6, 7, 8, 9]])
        assert store.missing([[1, 2, 3, 4, 5]]) == 1
        store.read([[1, 2, 3, 4, 5]])
        assert store.missing([[1, 2, 3, 4, 5, 6]]) == 6
        store.read([[1, 2, 3, 4, 5, 6]])
        assert store.missing([[5, 6, 7, 8, 9]]) == 5 and store.missing([[1, 2, 3, 4, 5, 6, 7]]) == 1


def test_what_was_forgotten_is_not_found_again() -> None:
    """Oracle: by hand: room for 12; a third text makes it forget, also the first of the same length."""
    store = PrefixStore(decoder("llama"))
    store.capacity = 12
    with torch.inference_mode():
        for row in ([1, 2, 3, 4], [5, 6, 7, 8, 9], [7, 7, 7, 7]):
            store.read([row])
        assert store.missing([[1, 2, 3, 4, 5]]) == 5 and store.missing([[7, 7, 7, 7, 5]]) == 1


def test_the_size_in_bytes() -> None:
    """Oracle: 2 (keys, values) * 2 layers * 4 heads * 8 numbers * 4 bytes = 512 a token."""
    assert PrefixStore(decoder("llama"), most=512 * 77).capacity == 77


def test_other_architectures_are_left_alone() -> None:
    """Oracle: a model type whose code is not known to take masks of ours."""
    from transformers import GPT2Config, GPT2LMHeadModel

    assert not can_continue(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=18)))


lines = st.lists(st.sampled_from(["47+8=55", "55-2=53", "1=1", "9*9=81", "0"]), max_size=4)


@pytest.mark.parametrize("likelihood", [False, True])
@given(
    calls=st.lists(
        st.lists(st.tuples(st.sampled_from(["47+8-2:", "1:", "99*9:"]), lines), min_size=1), max_size=3
    )
)
@quick
def test_a_remembering_value_model_says_the_same(likelihood: bool, calls: list) -> None:
    """Oracle: the plain value model on the same prefixes; it charges no more tokens, and as many at first."""
    model = ValueModel.from_policy(policy(), likelihood=likelihood)
    with torch.no_grad():
        model.net.head.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    remembering = model.remembering()
    for place, prefixes in enumerate(calls):
        distinct = list(dict.fromkeys((prompt, tuple(steps)) for prompt, steps in prefixes))
        plain_meter, meter = Meter(), Meter()
        expected = model.values(distinct, plain_meter)
        np.testing.assert_allclose(remembering.values(distinct, meter), expected, atol=1e-5)
        charged, most = meter.snapshot()["scored_tokens"], plain_meter.snapshot()["scored_tokens"]
        assert charged <= most
        if place == 0:
            assert charged == most
    assert model._memory is None, "the memory is the copy's own"


def test_a_second_look_costs_nothing() -> None:
    """Oracle: by hand: 7 characters of prompt and 8 of a line; then nothing for what is known."""
    model = ValueModel.from_policy(policy()).remembering()
    meter = Meter()
    for prefix, tokens in (
        (("47+8-2:", ()), 7),
        (("47+8-2:", ("47+8=55",)), 8),
        (("47+8-2:", ("47+8=55",)), 0),
    ):
        before = meter.snapshot()["scored_tokens"]
        model.values([prefix], meter)
        assert meter.snapshot()["scored_tokens"] - before == tokens


def test_a_remembering_sampler_draws_the_same() -> None:
    """Oracle: the plain sampler, over rounds in which every text goes on from the last; fewer FLOPs."""
    plain_meter, meter = Meter(), Meter()
    samplers = TorchSampler(policy(), plain_meter), TorchSampler(policy(), meter, remember=True)
    prompts = ["47+8-2:", "1", "99*9:", "47+8:"]
    for turn in range(4):
        requests = [
            Request(prompt=prompt, key=31 * turn + i, max_tokens=6, temperature=float(i % 2), stop=("\n",))
            for i, prompt in enumerate(prompts)
        ]
        first, second = (sampler.sample(requests) for sampler in samplers)
        assert [(c.text, c.tokens, c.finish) for c in first] == [(c.text, c.tokens, c.finish) for c in second]
        for a, b in zip(first, second, strict=True):
            np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-5)
        prompts = [prompt + c.text + "\n" for prompt, c in zip(prompts, first, strict=True)]
    a, b = plain_meter.snapshot(), meter.snapshot()
    assert a["generated_tokens"] == b["generated_tokens"] and b["flops"] < a["flops"]
