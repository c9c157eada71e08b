"""Sampling from a causal language model, many sequences at once, each as if it were alone.

What a request draws depends on its key, its prompt and the weights, not on what else is in the batch: every
draw inverts the distribution function at a random number that belongs to the request and the place of the
token. (Batches of different shapes round differently; that changes a token in about one of a million.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.problem_images import ProblemImage
from selfstudy.models.language.decoder import Decoder, can_decode
from selfstudy.models.language.drawing import Drawing, Drawn, Group, Row
from selfstudy.models.language.flight import Flight
from selfstudy.models.language.following import follow
from selfstudy.models.language.gpu_steps import RecordedSteps, can_record
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.memory import memory_of
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.module_flight import ModuleFlight
from selfstudy.models.language.prefixes import PrefixCache
from selfstudy.models.language.prompts import Prompts, allocated
from selfstudy.models.language.slot_flight import CompiledSteps, SlotFlight, Steps
from selfstudy.models.language.stopping import Stopping

AnyFlight = Flight | SlotFlight | ModuleFlight
TEXTS = 2**14  # whose tokens are remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to continue, and how."""

    prompt: str
    """Text as the model sees it; wrap it by `LanguageModel.prompt` before."""
    key: int
    """Names the stream of random numbers (64 bits): the same key draws the same."""
    max_tokens: int
    """Most tokens to draw."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    top_p: float = 1.0
    """Draw among the likeliest tokens alone that have this share together, at the temperature."""
    stop: tuple[str, ...] = ()
    """Strings that end the sequence as soon as one is complete."""
    images: tuple[ProblemImage, ...] = ()
    """What the prompt shows, for vision-language models alone."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What was drawn."""

    text: str
    """Without the stop string and what its last token holds beyond, and without special tokens."""
    tokens: tuple[int, ...]
    """All tokens drawn and charged, those of the stop string and the end token included."""
    logprobs: tuple[float, ...]
    """Log-probability of each token under the model itself, at temperature 1."""
    finish: str
    """Why it ended: "stop" (a stop string), "end" (an end token), "length" or "context" (no room left)."""


class Sampler(Protocol):
    """Whatever continues prompts."""

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion for each request, in their order."""
        ...


class TorchSampler:
    """Samples from a LanguageModel on its device.

    Half of the memory that the model's engine allows is for sequences on their way, half for prefixes.

    Args:
        model: any causal LM with attention layers.
        meter: charged before each step, generated tokens and FLOPs; None counts nothing.
        remember: keep prompts and what was drawn between calls, so that longer ones with the same beginning
            go on from there, and others after the same text draw from what is known; for searches.
    """

    def __init__(self, model: LanguageModel, meter: Meter | None = None, *, remember: bool = False) -> None:
        self.model = model
        self.meter = meter or Meter()
        self.remember = remember
        self.stopping = Stopping(model)
        self._inference = Inference(model.module)
        self._tokens: dict[str, np.ndarray] = {}
        self._allocate()

    def _allocate(self) -> None:
        self._cache: PrefixCache | None = None
        if can_decode(self.model.module):
            decoder, most = Decoder(self.model.module), self.model.engine.cache_mib * 2**19
            recorded = can_record(decoder)
            at_slots = decoder.compiled or recorded
            self._cache = PrefixCache(decoder, most, states=self.remember, aside=at_slots)
            self._steps: Steps | None = None
            if at_slots:
                self._steps = RecordedSteps(self._cache) if recorded else CompiledSteps(self._cache)
            else:
                self._prompts = Prompts(self._cache, memory_of(self.model.module))

    def begin_anew(self) -> None:
        """Let go of all memory: there may be numbers in it that are not finite."""
        memory_of(self.model.module).discard()
        self._allocate()

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion for each request, in their order.

        Raises:
            UsageError: a negative temperature or number of tokens, a top-p out of range, an empty stop
                string, or a request that does not fit into the memory.
            DataError: a prompt without a token, or with characters the tokenizer does not know.
            MachineError: the model gives logits that are not finite.
            BudgetSpent: the meter does not cover the next step; what was drawn in this call is lost.
        """
        for request in requests:
            validate(request)
        prompts = self._encoded(dict.fromkeys(request.prompt for request in requests))
        for text, tokens in prompts.items():
            if not len(tokens):
                raise DataError(f"The prompt {text!r} has no tokens; a model needs one to go on from.")
        done: dict[int, Drawn] = {}
        rows = []
        for i, request in enumerate(requests):
            tokens = prompts[request.prompt]
            row = Row(i, request, tokens, min(request.max_tokens, self.model.context - len(tokens)))
            if row.limit > 0:
                rows.append(row)
            else:
                done[i] = Drawn(row, [], [], "length" if request.max_tokens == 0 else "context")
        if rows:
            with self._inference:
                self._draw(rows, done)
        return self._completions([done[i] for i in range(len(requests))])

    def _encoded(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the tokens of each text, int32; those of texts that were asked lately are remembered."""
        known = self._tokens if self.remember else {}
        new = [text for text in texts if text not in known]
        if len(known) > TEXTS:
            known.clear()
            new = list(texts)
        rows = zip(new, self.model.encode_all(new), strict=True)
        known.update((text, np.array(tokens, dtype=np.int32)) for text, tokens in rows)
        return {text: known[text] for text in texts}

    def _completions(self, drawn: Sequence[Drawn]) -> list[Completion]:
        out = []
        rows = [tuple(one.tokens) for one in drawn]
        distinct = dict.fromkeys(rows)
        texts = dict(zip(distinct, self.model.decode_all([list(row) for row in distinct]), strict=True))
        for one, row in zip(drawn, rows, strict=True):
            text = texts[row]
            if one.finish == "stop":
                text = self.stopping.cut(text, one.row.request.stop)
            out.append(Completion(text, row, tuple(one.logprobs), one.finish))
        return out

    def _draw(self, rows: list[Row], done: dict[int, Drawn]) -> None:
        if self._cache is not None:
            self._cache.follow_weights()
            if self.remember:
                follow(self, self._cache, rows, done)
                rows = [row for row in rows if row.place not in done]
            else:
                self._cache.forget()
        groups: dict[tuple[int, bytes], Group] = {}
        for row in rows:
            text = np.array([*row.prompt, *row.tokens], dtype=np.int32) if row.tokens else row.prompt
            group = groups.setdefault((len(text), text.tobytes()), Group(text, deque()))
            group.waiting.append(row)
        if groups:
            Drawing(self, [groups[key] for key in sorted(groups)], done).run()

    def flight(self, groups: Sequence[Group]) -> tuple[AnyFlight, int]:
        """Return a flight for these groups and how many requests stand beside each of its places.

        As many as there are, as the engine allows, and as memory holds.
        """
        waiting = [len(group.waiting) for group in groups]
        columns = max(len(group.prompt) for group in groups)
        steps = max(row.steps for group in groups for row in group.waiting)
        beside = 1 if self._cache is None else -(-sum(waiting) // len(groups))
        tokens, rows, room = self._flight_tokens(), self.model.engine.rows, allocated(columns)
        if self._cache is not None and max(waiting) * len(groups) <= rows:
            beside = max(waiting)  # so that all are on their way at once
        beside = min(beside, rows, max(1, (tokens - room) // steps))
        places = sum(-(-count // beside) for count in waiting)
        places = min(places, max(1, rows // beside), tokens // (room + beside * steps))
        if places < 1:
            raise UsageError(
                f"A prompt of {columns} tokens and {steps} new ones do not fit into the memory for "
                f"sequences, {tokens} tokens. Give the model more of it: cache_mib in its specification, "
                "as in NAME?cache_mib=2048."
            )
        if self._cache is None:
            return ModuleFlight(self.model, places=places, steps=steps), beside
        shape = {"places": places, "most": places * beside, "columns": columns, "steps": steps}
        if self._steps is not None:
            return SlotFlight(self._cache, self._steps, **shape), beside
        return Flight(self._cache, self._prompts, memory_of(self.model.module), **shape), beside

    def _flight_tokens(self) -> int:
        """Return how many tokens' keys and values the sequences on their way may hold."""
        if self._cache is not None:
            return self._cache.capacity
        config = self.model.module.config.get_text_config()
        size = torch.finfo(self.model.module.dtype).bits // 8
        # At most: heads may share keys, and layers may have none.
        token = 2 * config.num_hidden_layers * config.hidden_size * size
        return self.model.engine.cache_mib * 2**20 // token


def validate(request: Request) -> None:
    """Raise a `UsageError` for a request that cannot be."""
    if not request.temperature >= 0:
        raise UsageError(f"The temperature {request.temperature} must be 0 (greedy) or above.")
    check_top_p(request.top_p)
    if request.max_tokens < 0:
        raise UsageError(f"max_tokens is {request.max_tokens}; it must not be negative.")
    if "" in request.stop:
        raise UsageError("An empty stop string would end every sequence. Leave it out.")


def check_top_p(top_p: float) -> None:
    """Raise a `UsageError` where this is no share of a distribution to draw from."""
    if not 0 < top_p <= 1:
        raise UsageError(f"top-p is {top_p}; it must be above 0, and 1 draws from all tokens.")
