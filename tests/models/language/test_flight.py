"""Rows on their way against plain forward passes over each row's whole text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from selfstudy.models.language.decoder import Decoder
from selfstudy.models.language.flight import Flight
from selfstudy.models.language.memory import Memory, memory_of
from selfstudy.models.language.prefixes import PrefixCache
from selfstudy.models.language.prompts import Prompts
from selfstudy.models.language.slot_flight import CompiledSteps, SlotFlight
from selfstudy.models.language.small_layers import SmallLayers

from .random_models import random_module

KINDS = ["llama", "llama-biased", "mistral-window", "gemma3_text"]
Text = tuple[int, ...]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def used_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """All memory that is lent was used before: it holds large numbers, which must not show."""
    lend = Memory.lend

    def dirty(memory: Memory, borrower: object, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        return lend(memory, borrower, shape, like).fill_(1e4)

    monkeypatch.setattr(Memory, "lend", dirty)


@pytest.fixture(params=[Flight, SlotFlight])
def rows_of(request: pytest.FixtureRequest) -> Callable[..., Rows]:
    """Opens rows over either flight that a decoder may have."""
    return partial(Rows, request.param)


class Rows:
    """A flight, and the text of each of its rows, by which every step is checked."""

    def __init__(
        self,
        kind: type[Flight | SlotFlight],
        module: PreTrainedModel,
        *,
        places: int,
        most: int,
        columns: int = 40,
        steps: int = 12,
        memory: int = 2**21,
    ) -> None:
        self.kind, self.module = kind, module
        self.flight: Flight | SlotFlight | None = None
        self.read = 0  # tokens of prompts that were charged
        with torch.inference_mode():
            self.cache = PrefixCache(Decoder(module), memory, states=True, aside=kind is SlotFlight)
            self.prompts = Prompts(self.cache, memory_of(module))
        self.open(places=places, most=most, columns=columns, steps=steps)

    def open(self, *, places: int, most: int, columns: int = 40, steps: int = 12) -> None:
        """Begin another flight over the same cache and prompts, as the next call of a sampler does."""
        self.close()
        shape = {"places": places, "most": most, "columns": columns, "steps": steps}
        with torch.inference_mode():
            if self.kind is SlotFlight:
                self.flight = SlotFlight(self.cache, CompiledSteps(self.cache), **shape)
            else:
                self.flight = Flight(self.cache, self.prompts, memory_of(self.module), **shape)
        self.texts: list[list[int]] = []
        self.place: list[int] = []
        self.at: dict[int, Text] = {}

    def close(self) -> None:
        """End the flight: all of the cache is free or known then, and nothing is pinned."""
        if self.flight is not None:
            self.flight.close()
        nodes, known = [self.cache.tree._root], 0
        for node in nodes:
            nodes.extend(node.children.values())
            known += len(node.slots)
            assert not node.pins
        assert self.cache.tree.used == known

    @torch.inference_mode()
    def put(self, prompts: Sequence[Text], free: Sequence[int]) -> list[int]:
        """Put prompts at free places; return where."""
        arrays = [np.array(prompt, dtype=np.int32) for prompt in prompts]
        places = self.flight.choose(arrays, free)
        assert len(set(places)) == len(places) == len(prompts) and set(places) <= set(free)

        def charge(tokens: int) -> None:
            self.read += tokens

        self.flight.put(places, arrays, charge)
        self.at.update(zip(places, prompts, strict=True))
        return places

    @torch.inference_mode()
    def begin(self, places: Sequence[int]) -> None:
        self.flight.begin(places)
        self.texts += [list(self.at[place]) for place in places]
        self.place += places
        assert self.flight.rows == len(self.texts)

    @torch.inference_mode()
    def step(self, rng: np.random.Generator, most: int = 16) -> None:
        """Feed a token below `most` a row; each row's logits are those of its whole text by itself."""
        tokens = rng.integers(0, most, len(self.texts)).tolist()
        for text, token in zip(self.texts, tokens, strict=True):
            text.append(token)
        logits = self.flight.step(np.array(tokens))
        assert len(logits) == len(self.texts)
        for row, text in enumerate(self.texts):
            expected = self.module(torch.tensor([text]), use_cache=False).logits[0, -1]
            torch.testing.assert_close(logits[row], expected, rtol=0, atol=5e-4, msg=f"{row}: {text}")

    @torch.inference_mode()
    def fork(self, sources: Sequence[int]) -> None:
        self.flight.fork(np.array(sources, dtype=np.int64))
        self.texts += [list(self.texts[source]) for source in sources]
        self.place += [self.place[source] for source in sources]
        assert self.flight.rows == len(self.texts)

    @torch.inference_mode()
    def leave(self, over: Sequence[int]) -> None:
        alive = [row for row in range(len(self.texts)) if row not in set(over)]
        mask = np.zeros(len(self.texts), dtype=bool)
        mask[alive] = True
        now = self.flight.leave(mask)[alive].tolist()
        assert sorted(now) == list(range(len(alive))) and self.flight.rows == len(alive)
        order = [row for _, row in sorted(zip(now, alive, strict=True))]
        self.texts, self.place = [self.texts[i] for i in order], [self.place[i] for i in order]

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        texts = [np.array(self.texts[row], dtype=np.int32) for row in rows]
        self.flight.keep(np.array(rows, dtype=np.int64), texts)

    @torch.inference_mode()
    def shrink(self) -> bool:
        """Leave places without rows out; tell whether something moved."""
        now = self.flight.shrink()
        if now is not None:
            self.place = [int(now[place]) for place in self.place]
            self.at = {}
        return now is not None


@pytest.mark.parametrize("width", [32, 24])  # compiled layers know whole panels of a state alone
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_length_beside_shared_prompts(
    rows_of: Callable[..., Rows], kind: str, width: int
) -> None:
    """Oracle: plain passes; every place has the same number of rows, which all take the same steps."""
    rng = np.random.default_rng(0)
    rows = rows_of(random_module(kind, hidden_size=width, intermediate_size=44), places=3, most=6)
    assert SmallLayers.fits(rows.cache.decoder) == (width == 32)
    places = rows.put([(1, 2, 3), (4,) * 17, (5, 6)], [0, 1, 2])
    rows.begin([place for place in places for _ in range(2)])
    for _ in range(12):
        rows.step(rng)
    assert rows.read == 3 + 17 + 2


@pytest.mark.parametrize("kind", KINDS)
def test_uneven_rows_refills_and_empty_prompts(rows_of: Callable[..., Rows], kind: str) -> None:
    """Oracle: plain passes; the same prompt at two places, none at all, rows that begin and end at will."""
    rng = np.random.default_rng(1)
    rows = rows_of(random_module(kind), places=4, most=9)
    shared = tuple(range(12))
    first = rows.put([shared, (), shared, (*shared, 3, 3)], [0, 1, 2, 3])
    rows.begin([first[0], first[1], first[1], first[3]])
    for _ in range(3):
        rows.step(rng)
    rows.begin([first[2], first[0], first[1], first[3], first[0]])
    rows.step(rng)
    rows.leave([row for row, place in enumerate(rows.place) if place in (first[1], first[3])])
    rows.step(rng)
    again = rows.put([(*shared, 3, 3, 5, 7), (2,)], [first[1], first[3]])
    rows.begin([again[0], again[1], again[0]])
    rows.step(rng)
    rows.leave([0])
    rows.step(rng)
    rows.leave(range(len(rows.texts)))
    rows.begin([again[1]])
    rows.step(rng)


def test_only_what_is_new_is_read(rows_of: Callable[..., Rows]) -> None:
    """Oracle: by hand: drawn tokens that were kept and prompts that are known cost nothing."""
    rng = np.random.default_rng(2)
    rows = rows_of(random_module(), places=2, most=4)
    places = rows.put([(1, 2, 3, 4), (9, 9)], [0, 1])
    rows.begin([places[0], places[1], places[0]])
    for _ in range(3):
        rows.step(rng)
    assert rows.read == 6
    rows.keep([0, 1, 2])
    longer = [tuple(rows.texts[0]), (*rows.texts[2], 5), tuple(rows.texts[1])]
    for part, most in ((longer[:2], 1), (longer[2:], 0)):
        before = rows.read
        rows.open(places=2, most=4)
        places = rows.put(part, [0, 1])
        rows.begin(places)
        rows.step(rng)
        rows.step(rng)
        assert rows.read - before == most


def test_copies_go_their_own_ways(rows_of: Callable[..., Rows]) -> None:
    """Oracle: plain passes; a fork has its source's text, and neither sees what the other draws after."""
    rng = np.random.default_rng(3)
    rows = rows_of(random_module("gemma3_text"), places=2, most=8)
    rows.begin(rows.put([(1, 2, 3, 4, 5, 6, 7), (3,)], [0, 1]))
    rows.step(rng)
    rows.fork([0, 0, 1])
    rows.step(rng)
    rows.fork([3, 4])
    rows.step(rng)
    rows.leave([0, 5])
    rows.fork([2])
    for _ in range(3):
        rows.step(rng)


def test_rows_that_have_drawn_the_same_go_on_after_both_are_kept(rows_of: Callable[..., Rows]) -> None:
    """Oracle: plain passes; what was kept twice lies once, and a row that begins then takes what is left."""
    rng = np.random.default_rng(5)
    rows = rows_of(random_module(), places=2, most=4)
    places = rows.put([(1, 2, 3), (4, 5)], [0, 1])
    rows.begin([places[0], places[0]])
    for _ in range(3):
        rows.step(rng, most=1)
    rows.keep([0, 1])
    rows.begin([places[1], places[1]])
    for _ in range(4):
        rows.step(rng)
    rows.close()


def test_places_without_rows_are_left_out() -> None:
    """Oracle: plain passes before and after; nothing moves while most places have rows."""
    rng = np.random.default_rng(4)
    rows = Rows(Flight, random_module("gemma3_text"), places=8, most=16)
    prompts = [tuple(rng.integers(0, 16, length).tolist()) for length in (1, 2, 3, 5, 8, 13, 21, 34)]
    places = rows.put(prompts, range(8))
    rows.begin(places + places[::3])
    rows.step(rng)
    assert not rows.shrink()
    rows.leave([row for row, place in enumerate(rows.place) if place in places[2:]])
    assert rows.shrink()
    for _ in range(3):
        rows.step(rng)
    rows.leave([0])
    rows.shrink()
    rows.step(rng)


@pytest.mark.parametrize("memory", [2**17, 2**21])
@pytest.mark.parametrize("seed", range(6))
def test_a_random_course(rows_of: Callable[..., Rows], seed: int, memory: int) -> None:
    """Oracle: plain passes at every step, while prompts are put, and rows begin, fork and leave at random.

    As a sampler does, texts go on from earlier ones, over several flights with one cache; the smaller one
    holds little more than a flight needs.
    """
    rng = np.random.default_rng(seed)
    rows = rows_of(random_module(KINDS[seed % len(KINDS)]), places=1, most=1, memory=memory)
    past: list[Text] = [()]
    for places, most in ((3, 7), (5, 5), (2, 9)):
        rows.open(places=places, most=most)
        for _ in range(8):
            free = sorted(set(range(places)) - set(rows.place))
            if free and rng.random() < 0.7:
                count = int(rng.integers(1, len(free) + 1))
                bases = [past[int(rng.integers(len(past)))][:30] for _ in range(count)]
                more = [tuple(rng.integers(0, 16, rng.integers(0, 6)).tolist()) for _ in bases]
                prompts = [(*base, *new) for base, new in zip(bases, more, strict=True)]
                put = rows.put(prompts, free)
                room = min(count, most - len(rows.texts))
                if room:
                    rows.begin([put[i] for i in rng.integers(0, count, room)])
            if not rows.texts:
                continue
            rows.step(rng)
            if len(rows.texts) < most and rng.random() < 0.5:
                rows.fork([int(rng.integers(len(rows.texts)))])
            if rng.random() < 0.5:
                over = sorted({int(row) for row in rng.integers(0, len(rows.texts), 2)})
                rows.keep(over)
                past += [tuple(rows.texts[row]) for row in over]
                rows.leave(over)
    rows.close()
