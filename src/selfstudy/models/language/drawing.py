"""One call of the sampler: requests that wait, those on their way, and what is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from selfstudy.core.errors import MachineError
from selfstudy.core.random import uniforms
from selfstudy.models.language.choosing import choose
from selfstudy.models.language.stopping import END, GO_ON, LOOK, STOP

if TYPE_CHECKING:
    from selfstudy.models.language.sampling import Request, TorchSampler


@dataclass(frozen=True, slots=True)
class Row:
    """A request in its place among those of the call, and what it has drawn before it got a seat."""

    place: int
    request: Request
    prompt: np.ndarray
    limit: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Most tokens that it may still draw."""
        return self.limit - len(self.tokens)


@dataclass(frozen=True, slots=True)
class Group:
    """Requests with the same text so far, int32 [n], that are not seated yet."""

    prompt: np.ndarray
    waiting: deque[Row]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a request has got."""

    row: Row
    tokens: list[int]
    logprobs: list[float]
    finish: str


def ended(row: Row, tokens: list[int], logprobs: list[float], code: int) -> Drawn:
    """Return what a row has got whose last token has this code."""
    no_room = "length" if row.limit == row.request.max_tokens else "context"
    return Drawn(row, tokens, logprobs, {STOP: "stop", END: "end"}.get(code, no_room))


def refuse(sampler: TorchSampler, row: Row, number: int) -> NoReturn:
    """Raise `MachineError` for logits that are not finite, of token `number` from 1."""
    sampler.begin_anew()
    raise MachineError(
        f"The model {sampler.model.name!r} gives logits that are not finite at token {number} of request "
        f"{row.place} (prompt {row.request.prompt[:60]!r}). Its weights are damaged, or its training "
        "diverged: look at the loss, lower the learning rate, or use dtype=float32."
    )


class _Seats:
    """What each of S requests on its way has drawn, and is to draw; the first index of every array.

    All that is decided about a request is decided on the host, where little operations cost least.
    """

    def __init__(self, count: int, steps: int) -> None:
        self.taken = np.zeros(count, dtype=bool)
        self.row, self.drawn, self.limit, self.stops = (np.zeros(count, dtype=np.int64) for _ in range(4))
        self.temperature, self.top_p = np.zeros(count), np.ones(count)
        self.uniform, self.logprobs = (np.zeros((count, steps)) for _ in range(2))
        self.tokens = np.zeros((count, steps), dtype=np.int32)


class Drawing:
    """One call: groups that wait, requests on their way, and what is done.

    Requests with the same prompt that have drawn the same tokens so far are one row of the flight.
    """

    def __init__(self, sampler: TorchSampler, groups: list[Group], done: dict[int, Drawn]) -> None:
        self.sampler, self.model, self.done = sampler, sampler.model, done
        self.queue = deque(groups)
        self.flight, self.beside = sampler.flight(groups)
        rows = [row for group in groups for row in group.waiting]
        seats = self.flight.places * self.beside
        self.seats = _Seats(seats, max(row.limit for row in rows))
        self.at_seat: list[tuple[Row, int] | None] = [None] * seats  # a request and its place
        self.free = list(range(seats))[::-1]
        self.groups: list[Group | None] = [None] * self.flight.places  # whose prompt is at each place
        self.at_place = [0] * self.flight.places  # how many requests stand beside it
        self.last = np.zeros(0, dtype=np.int64)  # the token that each row feeds next
        sets = {stops: i for i, stops in enumerate(dict.fromkeys(row.request.stop for row in rows))}
        self.stop_sets = sets
        self.codes = np.stack([sampler.stopping.table(stops) for stops in sets])  # [sets of stop strings, V]

    def run(self) -> None:
        """Draw until every request is done."""
        with closing(self.flight):
            while self._admit():
                drawn, rows = len(self.at_seat) - len(self.free), len(self.last)
                self.sampler.meter.charge(generated_tokens=drawn, flops=self.model.flops(rows))
                self._advance(self.flight.step(self.last))

    def _admit(self) -> bool:
        """Give places where nothing is left to groups that wait; return whether anything is on its way."""
        moving = len(self.free) < len(self.at_seat)
        free = [place for place, count in enumerate(self.at_place) if not count]
        if not any(group.waiting for group in self.queue):
            self._draw_together()
            return moving
        # Prompts are read together; without refills, together with all others.
        if moving and (not self.flight.refills or 4 * len(free) < self.flight.places):
            return True
        groups = self._next_groups(len(free))
        prompts = [group.prompt[:-1] for group in groups]
        places = self.flight.choose(prompts, free)
        self.flight.put(places, prompts, self._charge_read)
        for place, group in zip(places, groups, strict=True):
            self.groups[place] = group
        self._seat(places)
        return True

    def _next_groups(self, most: int) -> list[Group]:
        """Take groups from the queue; one with more requests than stand beside a place comes again later."""
        groups: list[Group] = []
        while self.queue and len(groups) < most:
            group = self.queue.popleft()
            ahead = self.beside * sum(other is group for other in groups)
            if len(group.waiting) > ahead:
                groups.append(group)
            if len(group.waiting) > ahead + self.beside:
                self.queue.append(group)
        return groups

    def _charge_read(self, tokens: int) -> None:
        self.sampler.meter.charge(flops=self.model.flops(tokens))

    def _seat(self, places: Iterable[int]) -> None:
        """Let requests that wait for the prompts at these places begin, by feeding its last token."""
        seats = self.seats
        at, rows, numbers, feeds = [], [], [], []
        begun: dict[tuple[int, object], int] = {}
        for place in places:
            group = self.groups[place]
            while group is not None and group.waiting and self.at_place[place] < self.beside:
                row, here = group.waiting.popleft(), self.free.pop()
                self.at_seat[here] = row, place
                self.at_place[place] += 1
                one = (row.request.temperature, row.request.top_p) if self.flight.shares else here
                if (place, one) not in begun:
                    begun[place, one] = len(begun)
                    feeds.append(group.prompt[-1])
                numbers.append(begun[place, one])
                at.append(here)
                rows.append(row)
        if not at:
            return
        self.flight.begin([place for place, _ in begun])
        before = self.flight.rows - len(begun)
        self.last = np.concatenate([self.last[:before], feeds])
        seat = np.array(at)
        seats.taken[seat] = True
        seats.drawn[seat] = [len(row.tokens) for row in rows]
        for here, row in zip(at, rows, strict=True):
            seats.tokens[here, : len(row.tokens)] = row.tokens
            seats.logprobs[here, : len(row.tokens)] = row.logprobs
        seats.row[seat] = np.array(numbers) + before
        seats.limit[seat] = [row.limit for row in rows]
        seats.stops[seat] = [self.stop_sets[row.request.stop] for row in rows]
        seats.temperature[seat] = temperature = [row.request.temperature for row in rows]
        seats.top_p[seat] = [row.request.top_p for row in rows]
        if any(temperature):
            keys = np.array([row.request.key & (2**64 - 1) for row in rows], dtype=np.uint64)
            seats.uniform[seat] = uniforms(keys[:, None], np.arange(seats.uniform.shape[1], dtype=np.uint64))

    def _advance(self, logits: torch.Tensor) -> None:
        """Choose a token for every request, note it, and let go of those that it ends."""
        seats = self.seats
        seat = np.flatnonzero(seats.taken)
        row, place = seats.row[seat], seats.drawn[seat]
        temperature, top_p = np.zeros(len(logits)), np.ones(len(logits))
        temperature[row], top_p[row] = seats.temperature[seat], seats.top_p[seat]
        chosen = choose(
            logits,
            torch.from_numpy(temperature),
            torch.from_numpy(row),
            torch.from_numpy(seats.uniform[seat, place]),
            torch.from_numpy(top_p) if top_p.min() < 1 else None,
        )
        token, logprob = (each.cpu().numpy() for each in chosen)
        if not np.isfinite(logprob).all():
            first = seat[~np.isfinite(logprob)][0]
            refuse(self.sampler, self._request(int(first))[0], int(seats.drawn[first]) + 1)
        seats.tokens[seat, place], seats.logprobs[seat, place] = token, logprob
        code = self.codes[seats.stops[seat], token]
        self._look_back(seat, code)
        seats.drawn[seat] = place + 1
        over = (code != GO_ON) | (place + 1 >= seats.limit[seat])
        places = self._leave(seat[over], code[over]) if over.any() else []
        if len(seat) == self.flight.rows and not over.any():  # each has a row of its own, and stays
            self.last[row] = token
        else:
            self._part(seat[~over], token[~over])
        if self.flight.refills:
            self._seat(places)

    def _look_back(self, seat: np.ndarray, code: np.ndarray) -> None:
        """Decide the requests whose token may complete a stop string that earlier tokens began."""
        for i in np.flatnonzero(code == LOOK).tolist():
            here = int(seat[i])
            row, _ = self._request(here)
            drawn = self.seats.tokens[here, : int(self.seats.drawn[here]) + 1].tolist()
            code[i] = self.sampler.stopping.looked(drawn, row.request.stop)

    def _request(self, seat: int) -> tuple[Row, int]:
        here = self.at_seat[seat]
        assert here is not None
        return here

    def _leave(self, seat: np.ndarray, code: np.ndarray) -> dict[int, None]:
        """Note what has ended; return the places where it stood."""
        seats = self.seats
        texts: dict[bytes, tuple[int, np.ndarray]] = {}
        places: dict[int, None] = {}
        for here, tokens, logprobs, count, value, number in zip(
            seat.tolist(),
            seats.tokens[seat].tolist(),
            seats.logprobs[seat].tolist(),
            seats.drawn[seat].tolist(),
            code.tolist(),
            seats.row[seat].tolist(),
            strict=True,
        ):
            row, place = self._request(here)
            self.done[row.place] = ended(row, tokens[:count], logprobs[:count], value)
            text = np.concatenate([row.prompt, seats.tokens[here, : count - 1]])
            texts[text.tobytes()] = number, text
            self.at_seat[here] = None
            self.free.append(here)
            self.at_place[place] -= 1
            places[place] = None
        if self.sampler.remember:
            rows = np.array([number for number, _ in texts.values()])
            self.flight.keep(rows, [text for _, text in texts.values()])
        seats.taken[seat] = False
        return places

    def _part(self, seat: np.ndarray, token: np.ndarray) -> None:
        """Fork rows whose requests have chosen different tokens, and let go of rows that nobody shares."""
        rows, size = self.flight.rows, self.codes.shape[1]
        chosen, which = np.unique(self.seats.row[seat] * size + token, return_inverse=True)
        source = chosen // size
        parts = np.zeros(len(source), dtype=bool)
        parts[1:] = source[1:] == source[:-1]  # the first goes on in its row, others in a copy
        number = source.copy()
        number[parts] = np.arange(rows, rows + parts.sum())
        if parts.any():
            self.flight.fork(source[parts])
        alive = np.zeros(self.flight.rows, dtype=bool)
        alive[number] = True
        if not alive.all():
            number = self.flight.leave(alive)[number]
        self.last = np.zeros(self.flight.rows, dtype=np.int64)
        self.last[number] = chosen % size
        self.seats.row[seat] = number[which]

    def _draw_together(self) -> None:
        """Leave out places without requests where they have become many, for nothing waits to take them."""
        if not self.flight.rows or all(self.at_place):
            return
        now = self.flight.shrink()
        if now is None:
            return
        left = [place for place, count in enumerate(self.at_place) if count]
        self.groups = [self.groups[place] for place in left]
        self.at_place = [self.at_place[place] for place in left]
        new = now.tolist()
        self.at_seat = [None if here is None else (here[0], new[here[1]]) for here in self.at_seat]
