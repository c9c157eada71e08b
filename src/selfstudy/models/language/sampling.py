"""Sampling from a causal language model, many sequences at once, each as if it were alone.

What a request draws depends on its key, its prompt and the weights, not on what else is in the batch: every
draw inverts the distribution function at a random number that belongs to the request and the place of the
token. (Batches of different shapes round differently; that changes a token in about one of a million.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, MachineError, UsageError
from selfstudy.core.random import uniforms
from selfstudy.models.language.choosing import choose
from selfstudy.models.language.decoder import Decoder, can_decode
from selfstudy.models.language.flight import Flight
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.memory import memory_of
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.module_flight import ModuleFlight
from selfstudy.models.language.prefixes import PrefixCache
from selfstudy.models.language.prompts import Prompts
from selfstudy.models.language.stopping import END, GO_ON, LOOK, STOP, Stopping


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

    Half of the memory that the model's engine allows is for sequences on their way, half for prefixes.

    Args:
        model: any causal LM with attention layers.
        meter: charged before each step, generated tokens and FLOPs; None counts nothing.
        remember: keep prompts and what was drawn between calls, so that longer ones with the same beginning
            go on from there; for searches.
    """

    def __init__(self, model: LanguageModel, meter: Meter | None = None, *, remember: bool = False) -> None:
        self.model = model
        self.meter = meter or Meter()
        self._remember = remember
        self._stopping = Stopping(model)
        self._inference = Inference(model.module)
        self._allocate()

    def _allocate(self) -> None:
        self._cache: PrefixCache | None = None
        if can_decode(self.model.module):
            self._cache = PrefixCache(Decoder(self.model.module), self.model.engine.cache_mib * 2**19)
            self._prompts = Prompts(self._cache, memory_of(self.model.module))

    def _begin_anew(self) -> None:
        """Let go of all memory: there may be numbers in it that are not finite."""
        memory_of(self.model.module).discard()
        self._allocate()

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion for each request, in their order.

        Raises:
            UsageError: a negative temperature or number of tokens, an empty stop string, or a request that
                does not fit into the memory.
            DataError: a prompt without a token, or with characters the tokenizer does not know.
            MachineError: the model gives logits that are not finite.
            BudgetSpent: the meter does not cover the next step; what was drawn in this call is lost.
        """
        for request in requests:
            validate(request)
        distinct = list(dict.fromkeys(request.prompt for request in requests))
        prompts = dict(zip(distinct, self.model.encode_all(distinct), strict=True))
        for text, tokens in prompts.items():
            if not tokens:
                raise DataError(f"The prompt {text!r} has no tokens; a model needs one to go on from.")
        done: dict[int, _Drawn] = {}
        groups: dict[str, _Group] = {}
        for i, request in enumerate(requests):
            tokens = prompts[request.prompt]
            limit = min(request.max_tokens, self.model.context - len(tokens))
            row = _Row(i, request, tokens, limit)
            if limit > 0:
                group = groups.setdefault(request.prompt, _Group(np.array(tokens, dtype=np.int32), deque()))
                group.waiting.append(row)
            else:
                done[i] = _Drawn(row, [], [], "length" if request.max_tokens == 0 else "context")
        if groups:
            with self._inference:
                self._draw(list(groups.values()), done)
        return self._completions([done[i] for i in range(len(requests))])

    def _completions(self, drawn: Sequence[_Drawn]) -> list[Completion]:
        out = []
        texts = self.model.decode_all([one.tokens for one in drawn])
        for one, text in zip(drawn, texts, strict=True):
            if one.finish == "stop":
                text = self._stopping.cut(text, one.row.request.stop)
            out.append(Completion(text, tuple(one.tokens), tuple(one.logprobs), one.finish))
        return out

    def _draw(self, groups: list[_Group], done: dict[int, _Drawn]) -> None:
        if self._cache is not None:
            self._cache.follow_weights()
            if not self._remember:
                self._cache.forget()
        groups.sort(key=lambda group: (len(group.prompt), group.prompt.tobytes()))
        _Drawing(self, groups, done).run()

    def _flight(self, groups: Sequence[_Group]) -> Flight | ModuleFlight:
        """Return seats for these groups: as many as there are rows, the engine allows, and memory holds."""
        rows = sum(len(group.waiting) for group in groups)
        columns = max(len(group.prompt) for group in groups)
        steps = max(row.limit for group in groups for row in group.waiting)
        beside = 1 if self._cache is None else -(-rows // len(groups))
        tokens = self._flight_tokens()
        beside = min(beside, self.model.engine.rows, max(1, (tokens - columns) // (steps + 1)))
        places = min(
            -(-rows // beside),
            max(1, self.model.engine.rows // beside),
            tokens // (columns + beside * (steps + 1)),
        )
        if places < 1:
            raise UsageError(
                f"A prompt of {columns} tokens and {steps} new ones do not fit into the memory for "
                f"sequences, {tokens} tokens. Give the model more of it: cache_mib in its specification, "
                "as in NAME?cache_mib=2048."
            )
        if self._cache is None:
            return ModuleFlight(self.model, places=places, steps=steps)
        shape = {"places": places, "beside": beside, "columns": columns, "steps": steps}
        return Flight(self._cache, self._prompts, memory_of(self.model.module), **shape)

    def _flight_tokens(self) -> int:
        """Return how many tokens' keys and values the sequences on their way may hold."""
        if self._cache is not None:
            return self._cache.capacity
        config = self.model.module.config.get_text_config()
        size = torch.finfo(self.model.module.dtype).bits // 8
        # At most: heads may share keys, and layers may have none.
        token = 2 * config.num_hidden_layers * config.hidden_size * size
        return self.model.engine.cache_mib * 2**20 // token


@dataclass(frozen=True, slots=True)
class _Row:
    place: int
    request: Request
    prompt: list[int]
    limit: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Requests with the same prompt, int32 [n], that are not seated yet."""

    prompt: np.ndarray
    waiting: deque[_Row]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What a request has got."""

    row: _Row
    tokens: list[int]
    logprobs: list[float]
    finish: str


class _Seats:
    """What is being drawn at each of S seats; the first index of every tensor."""

    def __init__(self, count: int, steps: int, device: torch.device) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.long) -> torch.Tensor:
            return torch.zeros((count, *shape), dtype=dtype, device=device)

        self.taken = zeros(dtype=torch.bool)
        self.last, self.drawn, self.limit, self.stops = zeros(), zeros(), zeros(), zeros()
        self.temperature = zeros(dtype=torch.float64)
        self.uniform, self.logprobs = (zeros(steps, dtype=torch.float64) for _ in range(2))
        self.tokens = zeros(steps)

    def select(self, seats: torch.Tensor) -> None:
        """Keep these seats, in this order."""
        for name, state in vars(self).items():
            setattr(self, name, state[seats])


class _Drawing:
    """One call: groups that wait, sequences on their way, and what is done."""

    def __init__(self, sampler: TorchSampler, groups: list[_Group], done: dict[int, _Drawn]) -> None:
        self.sampler, self.model, self.done = sampler, sampler.model, done
        self.device = self.model.device
        self.queue = deque(groups)
        self.flight = sampler._flight(groups)
        rows = [row for group in groups for row in group.waiting]
        self.seats = _Seats(
            self.flight.places * self.flight.beside, max(row.limit for row in rows), self.device
        )
        self.rows: list[_Row | None] = [None] * len(self.seats.taken)
        self.groups: list[_Group | None] = [None] * self.flight.places  # whose prompt is at each place
        self.taken = 0
        sets = {stops: i for i, stops in enumerate(dict.fromkeys(row.request.stop for row in rows))}
        self.stop_sets = sets
        tables = np.stack([sampler._stopping.table(stops) for stops in sets])
        self.codes = torch.from_numpy(tables).to(self.device)  # [sets of stop strings, V]

    def run(self) -> None:
        """Draw until every sequence has ended."""
        while self._admit():
            self.sampler.meter.charge(generated_tokens=self.taken, flops=self.model.flops(self.taken))
            self._advance(self.flight.step(self.seats.last))

    def _admit(self) -> bool:
        """Give places where nothing is left to groups that wait; return whether anything is on its way."""
        while self.queue and not self.queue[0].waiting:
            self.queue.popleft()
        if not self.queue:
            self._draw_together()
            return self.taken > 0
        grid = self.seats.taken.view(self.flight.places, self.flight.beside)
        free = (~grid.any(1)).nonzero()[:, 0].tolist()
        # Prompts are read together; without refills, together with all others.
        few = 4 * len(free) < self.flight.places if self.flight.refills else self.taken > 0
        if self.taken and few:
            return True
        groups = self._next_groups(len(free))
        prompts = [group.prompt[:-1] for group in groups]
        places = self.flight.choose(prompts, free)
        self.flight.place(places, prompts, self._charge_read)
        seated = []
        for place, group in zip(places, groups, strict=True):
            self.groups[place] = group
            for seat in range(place * self.flight.beside, (place + 1) * self.flight.beside):
                if group.waiting:
                    seated.append((seat, group.waiting.popleft()))
        self._seat(seated)
        return True

    def _next_groups(self, most: int) -> list[_Group]:
        """Take groups from the queue; one with more requests than seats beside a place comes again later."""
        groups: list[_Group] = []
        while self.queue and len(groups) < most:
            group = self.queue.popleft()
            ahead = self.flight.beside * sum(other is group for other in groups)
            if len(group.waiting) > ahead:
                groups.append(group)
            if len(group.waiting) > ahead + self.flight.beside:
                self.queue.append(group)
        return groups

    def _charge_read(self, tokens: int) -> None:
        self.sampler.meter.charge(flops=self.model.flops(tokens))

    def _seat(self, seated: Sequence[tuple[int, _Row]]) -> None:
        """Let requests begin at seats: the last token of its prompt is what each feeds first."""
        seats, device = self.seats, self.device
        for seat, row in seated:
            self.rows[seat] = row
        self.taken += len(seated)
        at = torch.tensor([seat for seat, _ in seated], device=device)
        rows = [row for _, row in seated]
        seats.taken[at] = True
        seats.drawn[at] = 0
        seats.last[at] = torch.tensor([row.prompt[-1] for row in rows], device=device)
        seats.limit[at] = torch.tensor([row.limit for row in rows], device=device)
        seats.stops[at] = torch.tensor([self.stop_sets[row.request.stop] for row in rows], device=device)
        temperature = [row.request.temperature for row in rows]
        seats.temperature[at] = torch.tensor(temperature, dtype=torch.float64, device=device)
        if any(temperature):
            keys = np.array([row.request.key & (2**64 - 1) for row in rows], dtype=np.uint64)
            drawn = uniforms(keys[:, None], np.arange(seats.uniform.shape[1], dtype=np.uint64))
            seats.uniform[at] = torch.from_numpy(drawn).to(device)
        self.flight.begin(at)

    def _advance(self, logits: torch.Tensor) -> None:
        """Choose a token at every seat, note it, and let go of the sequences that it ends."""
        seats = self.seats
        place = seats.drawn[:, None]
        token, logprob = choose(logits, seats.temperature, seats.uniform.gather(1, place)[:, 0])
        if not bool(torch.isfinite(logprob[seats.taken]).all()):
            self._refuse(logprob)
        seats.tokens.scatter_(1, place, token[:, None])
        seats.logprobs.scatter_(1, place, logprob[:, None])
        code = self.codes[seats.stops, token]
        self._look_back(code)
        seats.drawn += 1
        over = seats.taken & ((code != GO_ON) | (seats.drawn >= seats.limit))
        seats.last = token
        if bool(over.any()):
            self._leave(over, code)
        seats.drawn.clamp_(max=seats.tokens.shape[1] - 1)  # free seats go on without meaning

    def _look_back(self, code: torch.Tensor) -> None:
        """Decide the sequences whose token may complete a stop string that earlier tokens began."""
        for seat in ((code == LOOK) & self.seats.taken).nonzero()[:, 0].tolist():
            row = self.rows[seat]
            assert row is not None
            drawn = self.seats.tokens[seat, : int(self.seats.drawn[seat]) + 1].tolist()
            code[seat] = STOP if self.sampler._stopping.in_tail(drawn, row.request.stop) else GO_ON

    def _leave(self, over: torch.Tensor, code: torch.Tensor) -> None:
        """Note what ended, and seat the next requests of the same prompts there."""
        seats, at = self.seats, over.nonzero()[:, 0]
        ended = at.tolist()
        texts = []
        for seat, tokens, logprobs, count, value in zip(
            ended,
            seats.tokens[at].tolist(),
            seats.logprobs[at].tolist(),
            seats.drawn[at].tolist(),
            code[at].tolist(),
            strict=True,
        ):
            row = self.rows[seat]
            assert row is not None
            no_room = "length" if row.limit == row.request.max_tokens else "context"
            finish = {STOP: "stop", END: "end"}.get(value, no_room)
            self.done[row.place] = _Drawn(row, tokens[:count], logprobs[:count], finish)
            texts.append(np.array([*row.prompt, *tokens[: count - 1]], dtype=np.int32))
        if self.sampler._remember:
            self.flight.keep(at, texts)
        seats.taken[at] = False
        self.taken -= len(ended)
        again = []
        for seat in ended:
            self.rows[seat] = None
            group = self.groups[seat // self.flight.beside]
            if self.flight.refills and group is not None and group.waiting:
                again.append((seat, group.waiting.popleft()))
        if again:
            self._seat(again)

    def _draw_together(self) -> None:
        """Leave out free seats where they have become many, for nothing waits to take them."""
        if not self.taken or self.taken == len(self.rows):
            return
        places = torch.arange(self.flight.places).repeat_interleave(self.flight.beside)
        kept = self.flight.shrink(self.seats.taken)
        if kept is not None:
            self.seats.select(kept)
            self.rows = [self.rows[seat] for seat in kept.tolist()]
            of_place = places[kept.cpu()][:: self.flight.beside].tolist()
            self.groups = [self.groups[place] for place in of_place]

    def _refuse(self, logprob: torch.Tensor) -> None:
        """Raise `MachineError` for logits that are not finite."""
        self.sampler._begin_anew()
        seat = int((~torch.isfinite(logprob) & self.seats.taken).nonzero()[0, 0])
        row = self.rows[seat]
        assert row is not None
        raise MachineError(
            f"The model {self.model.name!r} gives logits that are not finite at token "
            f"{int(self.seats.drawn[seat]) + 1} of request {row.place} (prompt {row.request.prompt[:60]!r}). "
            "Its weights are damaged, or its training diverged: look at the loss, lower the learning rate, "
            "or use dtype=float32."
        )


def validate(request: Request) -> None:
    """Raise a `UsageError` for a request that cannot be."""
    if not request.temperature >= 0:
        raise UsageError(f"The temperature {request.temperature} must be 0 (greedy) or above.")
    if request.max_tokens < 0:
        raise UsageError(f"max_tokens is {request.max_tokens}; it must not be negative.")
    if "" in request.stop:
        raise UsageError("An empty stop string would end every sequence. Leave it out.")
