"""Sampling from language models in batches, fast and independent of the batch.

The forward pass is the transformers module's own. Around it: each distinct prompt is read once, keys and
values live in buffers that are allocated once, finished sequences leave the batch at the step that ends
them, and every request draws from its own counter-based stream, so that it gets the same tokens alone and
among hundreds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from transformers.cache_utils import Cache

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import uniforms
from selfstudy.models.language.cache import RowCache, Store, reading_cache
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.prefixes import PrefixStore, can_continue, takes_ready_masks
from selfstudy.models.language.scoring import pad_right
from selfstudy.models.language.shared_cache import SharedCache, attend_shared
from selfstudy.models.language.stopping import END, GO_ON, LOOK, STOP, Stopping

READ_TOKENS = 4096  # tokens of prompts in one forward pass, padding included: larger only takes memory
CACHE_TOKENS = 32768  # more gains nothing on a processor, and leaves its cache


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
    stop: tuple[str, ...] = ()
    """Strings that end the sequence as soon as one is complete."""


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

    Args:
        model: any causal LM with attention layers; sliding windows are handled by the model's own masks.
        meter: charged before each step, generated tokens and FLOPs; None counts nothing.
        cache_tokens: tokens the key/value cache may hold; more requests are done in several batches.
        remember: keep what prompts were read, so that longer ones with the same beginning go on from there;
            for searches. The weights must not change while the sampler is in use.
    """

    def __init__(
        self,
        model: LanguageModel,
        meter: Meter | None = None,
        *,
        cache_tokens: int = CACHE_TOKENS,
        remember: bool = False,
    ) -> None:
        if cache_tokens < 1:
            raise UsageError(f"cache_tokens must be at least 1, not {cache_tokens}.")
        self.model = model
        self.meter = meter or Meter()
        self.cache_tokens = cache_tokens
        self._stopping = Stopping(model)
        self._store = Store()
        self._inference = Inference(model.module)
        self._prefixes = (
            PrefixStore(model.module.base_model) if remember and can_continue(model.module) else None
        )
        # Models whose code passes a ready mask on also take an attention function of ours.
        self._shares = takes_ready_masks(model.module) and model.device.type == "cpu"

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion for each request, in their order.

        Raises:
            UsageError: a negative temperature or number of tokens, or an empty stop string.
            DataError: a prompt without a token, or with characters the tokenizer does not know.
            BudgetSpent: the meter does not cover the next step; what was drawn in this call is lost.
        """
        for request in requests:
            _validate(request)
        distinct = list(dict.fromkeys(request.prompt for request in requests))
        prompts = dict(zip(distinct, self.model.encode_all(distinct), strict=True))
        for text, tokens in prompts.items():
            if not tokens:
                raise DataError(f"The prompt {text!r} has no tokens; a model needs one to go on from.")
        done: list[Completion | None] = [None] * len(requests)
        rows = []
        for i, request in enumerate(requests):
            tokens = prompts[request.prompt]
            limit = min(request.max_tokens, self.model.context - len(tokens))
            if limit > 0:
                rows.append(_Row(i, request, tokens, limit))
            else:
                done[i] = Completion("", (), (), "length" if request.max_tokens == 0 else "context")
        rows.sort(key=lambda row: (len(row.prompt), row.request.prompt))
        with self._inference:
            for batch in self._batches(rows):
                for row, completion in zip(batch, _Batch(self, batch).finish(), strict=True):
                    done[row.place] = completion
        return [completion for completion in done if completion is not None]

    def _batches(self, rows: list[_Row]) -> Iterator[list[_Row]]:
        """Cut rows sorted by length into batches that fit into the cache, about equally large."""
        needs = np.array([len(row.prompt) + row.limit for row in rows])
        parts = max(1, math.ceil(needs.sum() / self.cache_tokens))
        share = math.ceil(len(rows) / parts)
        batch: list[_Row] = []
        most = 0
        for row in rows:
            longer = max(most, row.limit)
            full = (len(batch) + 1) * (len(row.prompt) + longer) > self.cache_tokens
            if batch and (full or len(batch) == share):
                yield batch
                batch, longer = [], row.limit
            batch.append(row)
            most = longer
        if batch:
            yield batch


@dataclass(frozen=True, slots=True)
class _Row:
    place: int
    request: Request
    prompt: list[int]
    limit: int


class _Batch:
    """One batch from its prompts to its completions. Row i of every tensor is sequence `self.slot[i]`."""

    def __init__(self, sampler: TorchSampler, rows: list[_Row]) -> None:
        self.sampler, self.model, self.rows = sampler, sampler.model, rows
        self.device = self.model.device
        count, steps = len(rows), max(row.limit for row in rows)
        # The last token of a prompt is fed by the first step, together with all rows that share the prompt.
        shared = [(tokens, len(list(same))) for tokens, same in groupby(row.prompt[:-1] for row in rows)]
        self.prompts = [tokens for tokens, _ in shared]
        self.cache = (SharedCache if sampler._shares else RowCache)(
            sampler._store,
            torch.tensor([repeats for _, repeats in shared], device=self.device),
            torch.tensor([len(tokens) for tokens in self.prompts], device=self.device),
            steps,
        )
        self.position = torch.tensor([len(row.prompt) - 1 for row in rows], device=self.device)
        self.last = torch.tensor([row.prompt[-1] for row in rows], device=self.device)
        self.limit = torch.tensor([row.limit for row in rows], device=self.device)
        self.slot = torch.arange(count, device=self.device)
        self.tokens = torch.zeros((count, steps), dtype=torch.long, device=self.device)
        self.logprobs = torch.zeros((count, steps), dtype=torch.float64, device=self.device)
        self.counts = [0] * count
        self.endings = [""] * count
        self._draws(steps)
        self._tables()

    def _draws(self, steps: int) -> None:
        keys = np.array([row.request.key & (2**64 - 1) for row in self.rows], dtype=np.uint64)
        temperature = np.array([row.request.temperature for row in self.rows])
        self.greedy = torch.tensor(temperature == 0, device=self.device)
        self.all_greedy, self.any_greedy = bool((temperature == 0).all()), bool((temperature == 0).any())
        self.temperature = torch.tensor(np.where(temperature == 0, 1, temperature), device=self.device)
        self.plain = bool((temperature == 1).all())
        if not self.all_greedy:
            drawn = uniforms(keys[:, None], np.arange(steps, dtype=np.uint64)[None])
            self.uniform = torch.from_numpy(drawn).to(self.device)  # [B, steps] by sequence, not by row

    def _tables(self) -> None:
        sets = {stops: i for i, stops in enumerate(dict.fromkeys(row.request.stop for row in self.rows))}
        tables = np.stack([self.sampler._stopping.table(stops) for stops in sets])
        self.codes = torch.from_numpy(tables).to(self.device)  # [sets of stop strings, V]
        self.stops = torch.tensor([sets[row.request.stop] for row in self.rows], device=self.device)

    def finish(self) -> list[Completion]:
        """Draw until every sequence has ended."""
        self._read()
        step = 0
        with attend_shared(self.model.module) if self.sampler._shares else contextlib.nullcontext():
            while self.cache.rows:
                self._step(step)
                step += 1
        return [self._completion(i) for i in range(len(self.rows))]

    def _read(self) -> None:
        """Read each distinct prompt but its last token, shorter ones first, into the cache."""
        prompts, first = self.prompts, 0
        while first < len(prompts):
            last = first + 1
            # A prompt of one token has nothing to read, but its row must be filled: it joins the next ones.
            while last < len(prompts) and (
                not prompts[last - 1] or (last + 1 - first) * len(prompts[last]) <= READ_TOKENS
            ):
                last += 1
            if prompts[last - 1]:
                self.cache.place(first, self._read_part(prompts[first:last]))
            first = last

    def _read_part(self, prompts: list[list[int]]) -> Cache:
        store = self.sampler._prefixes
        if store is not None:
            self.sampler.meter.charge(flops=self.model.flops(store.missing(prompts)))
            return store.read(prompts).cache
        self.sampler.meter.charge(flops=self.model.flops(sum(map(len, prompts))))
        read = reading_cache()
        # Padded on the right, a causal model needs no mask: no real token looks at the padding.
        self.model.module.base_model(
            input_ids=pad_right(prompts, self.device), past_key_values=read, use_cache=True
        )
        return read

    def _step(self, step: int) -> None:
        rows = self.cache.rows
        self.sampler.meter.charge(generated_tokens=rows, flops=self.model.flops(rows))
        logits = self.model.module(
            input_ids=self.last[:rows, None],
            attention_mask=self.cache.mask(),
            position_ids=self.position[:rows, None],
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]  # [rows, V]
        self.cache.step()
        token = self._choose(logits, step)
        slot = self.slot[:rows]
        self.tokens[slot, step] = token
        self.logprobs[slot, step] = _logprob(logits, token)
        code = self.codes[self.stops[:rows], token]
        self._look_back(code, step)
        over = (code != GO_ON) | (self.limit[:rows] <= step + 1)
        self.last[:rows] = token
        self.position[:rows] += 1
        if bool(over.any()):
            self._leave(over, code, step)

    def _choose(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Return one token a row: the inverse of the distribution function in float64 at the row's number."""
        if self.all_greedy:
            return logits.argmax(-1)
        rows = logits.shape[0]
        scaled = logits.double()
        if not self.plain:
            scaled = scaled / self.temperature[:rows, None]
        cumulative = scaled.softmax(-1).cumsum(-1)
        target = self.uniform[self.slot[:rows], step] * cumulative[:, -1]
        token = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
        token.clamp_(max=logits.shape[1] - 1)
        return torch.where(self.greedy[:rows], logits.argmax(-1), token) if self.any_greedy else token

    def _look_back(self, code: torch.Tensor, step: int) -> None:
        """Decide the rows whose token may complete a stop string that earlier tokens began."""
        for row in (code == LOOK).nonzero()[:, 0].tolist():
            slot = int(self.slot[row])
            stops = self.rows[slot].request.stop
            found = self.sampler._stopping.in_tail(self.tokens[slot, : step + 1].tolist(), stops)
            code[row] = STOP if found else GO_ON

    def _leave(self, over: torch.Tensor, code: torch.Tensor, step: int) -> None:
        """Note the endings, and fill the places of ended rows with the last active ones."""
        rows = len(over)
        ended = over.nonzero()[:, 0]
        slots = self.slot[ended].tolist()
        for slot, value in zip(slots, code[ended].tolist(), strict=True):
            self.counts[slot] = step + 1
            row = self.rows[slot]
            no_room = "length" if row.limit == row.request.max_tokens else "context"
            self.endings[slot] = {STOP: "stop", END: "end"}.get(value, no_room)
        left = rows - len(ended)
        target = ended[ended < left]
        source = (~over[left:]).nonzero()[:, 0] + left
        if len(source):
            states = [self.last, self.position, self.limit, self.slot, self.stops]
            states += [self.temperature, self.greedy]
            for state in states:
                state[target] = state[source]
        self.cache.keep(source, target, left)

    def _completion(self, slot: int) -> Completion:
        count, finish = self.counts[slot], self.endings[slot]
        tokens = self.tokens[slot, :count].tolist()
        text = self.model.decode(tokens)
        if finish == "stop":
            text = self.sampler._stopping.cut(text, self.rows[slot].request.stop)
        return Completion(text, tuple(tokens), tuple(self.logprobs[slot, :count].tolist()), finish)


def _logprob(logits: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    chosen = logits.gather(-1, token[:, None])[:, 0]
    return (chosen - logits.float().logsumexp(-1)).double()


def _validate(request: Request) -> None:
    if not request.temperature >= 0:
        raise UsageError(f"The temperature {request.temperature} must be 0 (greedy) or above.")
    if request.max_tokens < 0:
        raise UsageError(f"max_tokens is {request.max_tokens}; it must not be negative.")
    if "" in request.stop:
        raise UsageError("An empty stop string would end every sequence. Leave it out.")
