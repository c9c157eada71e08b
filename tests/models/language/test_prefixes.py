"""The memory of prefixes against plain forward passes over whole texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, PreTrainedModel

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.models.language.decoder import Decoder
from selfstudy.models.language.prefixes import STEM, PrefixCache, Reading
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.value import ValueModel

from .random_models import random_model, random_module

Text = tuple[int, ...]
KINDS = ("llama", "gemma3_text")
LARGE = 2**22  # bytes: thousands of tokens of the models here
quick = settings(max_examples=8, deadline=None, derandomize=True)

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
def module(kind: str) -> PreTrainedModel:
    return random_module(kind)


def texts_of(batches: list[list[tuple[int, int, list[int]]]]) -> list[list[Text]]:
    """Work the growths out to batches of distinct texts."""
    before: list[Text] = [()]
    out = []
    for batch in batches:
        rows: dict[Text, None] = {}
        for which, cut, more in batch:
            base = before[which % len(before)]
            rows[(*base[: len(base) - cut % (len(base) + 1)], *more)] = None
        out.append(list(rows))
        before += out[-1]
    return out


def opened(kind: str = "llama", most: int = LARGE, *, scores: bool = False) -> PrefixCache:
    decoder = Decoder(module(kind))

    def score(before: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return decoder.logits(before).log_softmax(-1).gather(-1, tokens[:, None])[:, 0]

    with torch.inference_mode():
        return PrefixCache(decoder, most, states=True, score=score if scores else None)


def small(tokens: int, kind: str = "llama") -> PrefixCache:
    """A cache with room for so many tokens."""
    return opened(kind, tokens * LARGE // opened(kind).capacity + 200)


def read(cache_: PrefixCache, texts: Sequence[Text]) -> tuple[Reading, int]:
    """Read texts that fit together; also return how many tokens were charged."""
    charged: list[int] = []
    with torch.inference_mode():
        reading = cache_.read([np.array(text, dtype=np.int32) for text in texts], charged.append)
    return reading, sum(charged)


def states(cache_: PrefixCache, reading: Reading, row: int) -> torch.Tensor:
    assert cache_.states is not None
    return cache_.states[reading.slots[row, : reading.lengths[row]]]


@cache
def plain(kind: str, text: Text) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """One text by itself: hidden states [N, H], log-probabilities [N], and by layer [2, N, heads, D].

    Of a sliding layer, transformers keeps the keys and values of its window only.
    """
    kept = DynamicCache()
    with torch.no_grad():
        ids = torch.tensor([text])
        hidden = module(kind).base_model(input_ids=ids, past_key_values=kept, use_cache=True)
        logits = module(kind).get_output_embeddings()(hidden.last_hidden_state)[0]
    logprobs = logits[:-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    both = [torch.stack([layer.keys[0], layer.values[0]]).transpose(1, 2) for layer in kept.layers]
    return hidden.last_hidden_state[0], torch.cat([torch.zeros(1), logprobs]), both


def once(texts: Sequence[Text]) -> set[Text]:
    """All beginnings of these texts: what has to be read, once each."""
    return {text[:end] for text in texts for end in range(1, len(text) + 1)}


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(batches=growths)
@quick
def test_reading_on_equals_reading_whole(kind: str, batches: list) -> None:
    """Oracle: a plain forward pass over each text by itself: states, log-probabilities, keys and values."""
    cache_, known = opened(kind, scores=True), set[Text]()
    for texts in texts_of(batches):
        reading, charged = read(cache_, texts)
        assert charged >= len(once(texts) - known), "every new token is charged"
        assert charged <= sum(
            len(text) - max((n for n in range(len(text)) if text[: n + 1] in known), default=-1) - 1
            for text in texts
        )
        known |= once(texts)
        assert reading.lengths.tolist() == [len(text) for text in texts]
        for row, text in enumerate(texts):
            hidden, logprobs, layers = plain(kind, text)
            close(states(cache_, reading, row), hidden)
            slots = torch.from_numpy(reading.slots[row, : len(text)])
            close(cache_.logprobs[slots], logprobs)
            for layer, both in enumerate(layers):
                close(cache_.keys_values(layer, slots)[:, -both.shape[1] :], both)


@pytest.mark.parametrize("kind", KINDS)
@given(batches=growths, room=st.integers(24, 60))
@quick
def test_making_room_changes_no_number(kind: str, batches: list, room: int) -> None:
    """Oracle: plain passes, while the cache holds little more than the texts of one reading."""
    cache_ = small(room, kind)
    assert cache_.capacity < 64
    for texts in texts_of(batches):
        arrays = [np.array(text, dtype=np.int32) for text in texts if len(text) <= cache_.capacity]
        for part in cache_.parts(arrays):
            chosen = [tuple(array.tolist()) for array in arrays[part]]
            reading, _ = read(cache_, chosen)
            for row, text in enumerate(chosen):
                close(states(cache_, reading, row), plain(kind, text)[0])


def test_what_is_known_is_not_read_again() -> None:
    """Oracle: counts by hand."""
    cache_ = opened()
    counts = [
        read(cache_, texts)[1]
        for texts in (
            [(1, 2, 3, 4)],
            [(1, 2, 3, 4, 5), (1, 2, 9)],
            [(1, 2, 3), (1, 2, 9), (1, 2, 3, 4, 5)],
            [(2, 3)],
        )
    ]
    assert counts == [4, 2, 0, 2]


def test_shared_beginnings_are_read_once() -> None:
    """Oracle: 3 stems' tokens and what comes after each; a beginning too short for a stem is read thrice."""
    stem = tuple(i % 16 for i in range(2 * STEM))
    other = tuple((7 * i + 9) % 15 for i in range(STEM))
    texts = [(*stem, 1), (*stem, 2, 3), (*stem[:STEM], *other, 4), (*stem[:STEM], *other, 5), (*other, 6)]
    cache_ = opened()
    reading, charged = read(cache_, texts)
    assert charged == 2 * STEM + 3 + STEM + 2 + STEM + 1
    for row, text in enumerate(texts):
        close(states(cache_, reading, row), plain("llama", text)[0])
    short = [(3, *stem[: STEM - 2], token) for token in (1, 2, 3)]
    assert read(cache_, short)[1] == 3 * STEM
    assert read(cache_, short)[1] == 0


def test_least_recently_used_make_room() -> None:
    """Oracle: by hand: three texts fit; the one not looked at since goes when a fourth comes."""
    cache_ = small(40)
    first, second, third, fourth = ((token, *range(11)) for token in (12, 13, 14, 15))
    for text in (first, second, third):
        assert read(cache_, [text])[1] == 12
    assert read(cache_, [first])[1] == 0
    assert read(cache_, [fourth])[1] == 12
    assert [read(cache_, [text])[1] for text in (first, third, fourth)] == [0, 0, 0]
    assert read(cache_, [second])[1] == 12


def test_a_text_longer_than_the_cache() -> None:
    """Limit: named error with what to change; a text as long as the cache is read."""
    cache_ = small(30)
    fits, too_long = (np.arange(cache_.capacity + more, dtype=np.int32) % 16 for more in (0, 1))
    with pytest.raises(UsageError, match=r"cache_mib.*cache_mib=2048"):
        list(cache_.parts([fits, too_long]))
    assert list(cache_.parts([fits, fits[:3], fits[:4]])) == [slice(0, 1), slice(1, 3)]
    assert list(cache_.parts([])) == []
    text = tuple(fits.tolist())
    close(states(cache_, read(cache_, [text])[0], 0), plain("llama", text)[0])


def test_the_size_in_bytes() -> None:
    """Oracle: 3 layers * 2 (keys, values) * 2 heads * 8 numbers * 4 bytes = 384 a token, 128 for a state."""
    decoder = Decoder(module("llama"))
    assert PrefixCache(decoder, 384 * 77 + 383).capacity == 77
    assert PrefixCache(decoder, 512 * 77, states=True).capacity == 77


def doubled(changed: PreTrainedModel) -> None:
    with torch.no_grad():
        changed.base_model.layers[0].mlp.up_proj.weight.mul_(2)


def replaced(changed: PreTrainedModel) -> None:
    weight = changed.base_model.layers[0].self_attn.v_proj.weight
    changed.base_model.layers[0].self_attn.v_proj.weight = torch.nn.Parameter(-weight.detach())


@pytest.mark.parametrize("change", [doubled, replaced])
def test_changed_weights_make_it_forget(change: Callable[[PreTrainedModel], None]) -> None:
    """Oracle: a fresh cache of the changed weights; `dropped` counts the times."""
    changed = random_module()
    with torch.inference_mode():
        cache_ = PrefixCache(Decoder(changed), LARGE, states=True)
    texts = [(1, 2, 3, 4), (1, 2, 9)]
    before = states(cache_, read(cache_, texts)[0], 0)
    cache_.follow_weights()
    assert cache_.dropped == 0 and read(cache_, texts)[1] == 0
    change(changed)
    cache_.follow_weights()
    cache_.follow_weights()
    assert cache_.dropped == 1
    with torch.inference_mode():
        fresh = PrefixCache(Decoder(changed), LARGE, states=True)
    assert read(cache_, texts)[1] == read(fresh, texts)[1] == 7
    for row in range(2):
        got, expected = (states(each, read(each, texts)[0], row) for each in (cache_, fresh))
        close(got, expected)
    assert (states(cache_, read(cache_, texts)[0], 0) - before).abs().max() > 1e-2


class Broken(Exception):
    pass


def test_a_reading_that_is_interrupted_leaves_nothing_behind() -> None:
    """Limit: all memory is there afterwards, however often it happens; numbers as of a fresh cache."""
    cache_ = small(40)
    text = tuple(range(12))

    def broken(layer: object, given: object) -> None:
        raise Broken

    hook = module("llama").base_model.embed_tokens.register_forward_pre_hook(broken)
    try:
        for token in range(10):
            with pytest.raises(Broken):
                read(cache_, [(token, *text)])
    finally:
        hook.remove()

    def refuse(tokens: int) -> None:
        raise Broken

    with pytest.raises(Broken), torch.inference_mode():
        cache_.read([np.array(text, dtype=np.int32)], refuse)
    whole = tuple(i % 16 for i in range(cache_.capacity))
    close(states(cache_, read(cache_, [whole])[0], 0), plain("llama", whole)[0])


def test_what_was_drawn_is_not_read_again() -> None:
    """Oracle: FLOPs by hand: a step feeds the prompt's last token, and texts go on from all but the last."""
    model, meter = random_model(), Meter()
    with torch.no_grad():
        model.module.get_output_embeddings().weight[16:] = 0  # tokens without a text
    sampler = TorchSampler(model, meter, remember=True)
    spent = [0.0]

    def sample(prompt: str, count: int) -> str:
        (done,) = sampler.sample([Request(prompt=prompt, key=0, max_tokens=count, temperature=0)])
        assert len(done.text) == count
        spent.append(meter.snapshot()["flops"])
        return done.text

    first = sample("47+8-2:", 5)
    second = sample(f"47+8-2:{first}", 4)
    sample(f"47+8-2:{first}{second}=", 1)
    assert np.diff(spent).tolist() == [model.flops(tokens) for tokens in (6 + 5, 4, 1 + 1)]


def test_a_remembering_sampler_draws_the_same() -> None:
    """Oracle: the plain sampler, over rounds in which every text goes on from the last; fewer FLOPs."""
    for kind in KINDS:
        plain_meter, meter = Meter(), Meter()
        model = random_model(kind)
        samplers = TorchSampler(model, plain_meter), TorchSampler(model, meter, remember=True)
        prompts = ["47+8-2:", "1", "99*9:", "47+8:"]
        for turn in range(5):
            requests = [
                Request(
                    prompt=prompt, key=31 * turn + i, max_tokens=6, temperature=float(i % 2), stop=("\n",)
                )
                for i, prompt in enumerate(prompts)
            ]
            first, second = (sampler.sample(requests) for sampler in samplers)
            for a, b in zip(first, second, strict=True):
                assert (a.text, a.tokens, a.finish) == (b.text, b.tokens, b.finish)
                np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
            prompts = [prompt + c.text + "\n" for prompt, c in zip(prompts, first, strict=True)]
        a, b = plain_meter.snapshot(), meter.snapshot()
        assert a["generated_tokens"] == b["generated_tokens"] and b["flops"] < a["flops"]


lines = st.lists(st.sampled_from(["47+8=55", "55-2=53", "1=1", "9*9=81", "0"]), max_size=4)


@cache
def value_model(kind: str, likelihood: bool) -> ValueModel:
    model = ValueModel.from_policy(random_model(kind), likelihood=likelihood)
    with torch.no_grad():
        model.net.head.weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood", [False, True])
@given(
    calls=st.lists(
        st.lists(st.tuples(st.sampled_from(["47+8-2:", "1:", "99*9:"]), lines), min_size=1), max_size=3
    )
)
@quick
def test_a_remembering_value_model_says_the_same(kind: str, likelihood: bool, calls: list) -> None:
    """Oracle: the plain value model on the same prefixes; it charges no more tokens."""
    model = value_model(kind, likelihood)
    remembering = model.remembering()
    for prefixes in calls:
        plain_meter, meter = Meter(), Meter()
        expected = model.values(prefixes, plain_meter)
        np.testing.assert_allclose(remembering.values(prefixes, meter), expected, atol=2e-5)
        assert meter.snapshot()["scored_tokens"] <= plain_meter.snapshot()["scored_tokens"]


def test_a_second_look_costs_nothing() -> None:
    """Oracle: by hand: 7 characters of prompt and 8 of a line; then nothing for what is known."""
    model, meter = value_model("llama", True).remembering(), Meter()
    prefixes = [("47+8-2:", ()), ("47+8-2:", ("47+8=55",)), ("47+8-2:", ("47+8=55",)), ("47+8-2:", ())]
    spent = [0]
    for prefix in prefixes:
        model.values([prefix], meter)
        spent.append(meter.snapshot()["scored_tokens"])
    assert [after - before for before, after in pairwise(spent)] == [7, 8, 0, 0]


@pytest.mark.parametrize("likelihood", [False, True])
def test_a_remembering_value_model_follows_its_weights(likelihood: bool) -> None:
    """Oracle: the plain model with the changed weights, reader and head; a step of a fused optimiser too."""
    model = ValueModel.from_policy(random_model(), likelihood=likelihood)
    remembering = model.remembering()
    prefixes = [("47+8-2:", ()), ("47+8-2:", ("47+8=55",))]
    before = remembering.values(prefixes)
    optimiser = torch.optim.AdamW(model.net.parameters(), lr=0.05, fused=True)
    for _ in range(2):
        ids, places = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 3]])
        model.net(ids, torch.tensor([1]), places).sub(0.3).square().sum().backward()
        optimiser.step()
        after = remembering.values(prefixes)
        np.testing.assert_allclose(after, model.values(prefixes), atol=2e-5)
    assert np.abs(after - before).max() > 1e-3
