"""Sampling from a server: many requests at once, none beyond the budget, nothing that is finished lost."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from selfstudy.core.budget import Meter
from selfstudy.core.errors import BudgetSpent
from selfstudy.models.language.reply_store import Reply
from selfstudy.models.language.sampling import Completion, Request, validate
from selfstudy.models.language.served import ServedModel
from selfstudy.models.language.served_requests import Caller


class ServedSampler:
    """Samples from a model behind a server.

    Each request names its seed; whether the same seed draws the same is up to the server. The numbers of the
    tokens are not told (`UNTOLD` stands for each), their log-probabilities only where the server gives them.

    Args:
        model: whom to ask. Where it keeps replies, a request that was answered before is not sent again.
        meter: charged generated tokens, tokens of prompts and the price, request by request in their order;
            None counts nothing.
    """

    def __init__(self, model: ServedModel, meter: Meter | None = None) -> None:
        self.model = model
        self.meter = meter or Meter()

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion for each request, in their order.

        Raises:
            UsageError: a request that cannot be, or that the server refuses.
            MachineError: the server failed too often; what it has answered is counted, and kept where the
                model keeps replies.
            BudgetSpent: the budget does not cover the next request, or ended one; what was drawn is counted.
        """
        for request in requests:
            validate(request)
        with ThreadPoolExecutor(self.model.server.concurrency) as threads:
            call = _Call(self, requests, threads)
            try:
                return call.finish()
            finally:
                call.leave()


class _Call:
    """One call of `sample`. Threads send and wait; all else is done by the one that called."""

    def __init__(
        self, sampler: ServedSampler, requests: Sequence[Request], threads: ThreadPoolExecutor
    ) -> None:
        self.model, self.meter = sampler.model, sampler.meter
        self.requests, self.threads = requests, threads
        self.caller = Caller(self.model)
        self.flying: dict[Future[Reply], int] = {}
        self.replies: dict[int, Reply] = {}
        self.claims: dict[int, dict[str, float]] = {}  # what those take, at most, that are not charged yet
        self.charged = 0  # requests before this one are

    def finish(self) -> list[Completion]:
        """Send all requests and return what comes."""
        for i, request in enumerate(self.requests):
            wanted = self.model.room(request.prompt, request.max_tokens)
            kept = self.model.store.get(request) if self.model.store else None
            if wanted == 0:
                self._take(i, Reply(Completion("", (), (), "context" if request.max_tokens else "length"), 0))
            elif kept is not None:
                self._take(i, kept)
            else:
                self._send(i, wanted)
        while self.flying:
            self._land()
        return [self.replies[i].completion for i in range(len(self.requests))]

    def leave(self) -> None:
        """Send nothing more; count and keep what still comes."""
        self.caller.give_up()
        for future in self.flying:
            future.cancel()
        wait(self.flying)
        for future, i in self.flying.items():
            if not future.cancelled() and future.exception() is None:
                self._store(i, future.result())
                self._note(i, future.result())
        with contextlib.suppress(BudgetSpent):
            for i in sorted(self.claims.keys() & self.replies.keys()):
                self.meter.charge(**self.claims[i])

    def _send(self, i: int, wanted: int) -> None:
        request = self.requests[i]
        while len(self.flying) >= self.model.server.concurrency:
            self._land()
        while (most := self._allowed(request, wanted)) is None:
            self._land()
        self.claims[i] = self._at_most(request, most)
        self.flying[self.threads.submit(self.caller.ask, request, most)] = i
        if most < wanted:
            self._land()
            if self.replies[i].completion.finish == "length":
                self.meter.charge(**self._at_most(request, wanted))  # raises: says which unit is spent

    def _allowed(self, request: Request, wanted: int) -> int | None:
        """Return how many tokens the budget covers, None where that depends on what is on its way.

        So a request that is not covered in full is sent alone, and gets what those before it have left.
        """
        if self._covers(self._at_most(request, wanted)):
            return wanted
        if self.flying:
            return None
        low, high = 0, wanted  # so many are covered, so many are not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._covers(self._at_most(request, middle)) else (low, middle)
        if low == 0:
            self.meter.charge(**self._at_most(request, 1))
        return low

    def _covers(self, amounts: dict[str, float]) -> bool:
        claims = [*self.claims.values(), amounts]
        return self.meter.affords(**{unit: sum(claim[unit] for claim in claims) for unit in amounts})

    def _land(self) -> None:
        """Wait for the next replies."""
        done, _ = wait(self.flying, return_when=FIRST_COMPLETED)
        failed = [future for future in done if future.exception() is not None]
        for future in done.difference(failed):
            i = self.flying.pop(future)
            self._store(i, future.result())
            self._take(i, future.result())
        for future in failed:
            future.result()

    def _take(self, i: int, reply: Reply) -> None:
        """Note a reply, and charge in the order of requests, so that sums do not depend on who came first."""
        self._note(i, reply)
        while self.charged in self.replies:
            self.meter.charge(**self.claims[self.charged])
            del self.claims[self.charged]
            self.charged += 1

    def _note(self, i: int, reply: Reply) -> None:
        self.replies[i] = reply
        self.claims[i] = self._amounts(reply.prompt_tokens, len(reply.completion.tokens))

    def _store(self, i: int, reply: Reply) -> None:
        completion, request = reply.completion, self.requests[i]
        # One that the budget has cut short is none to go on with.
        if self.model.store and (
            completion.finish != "length" or len(completion.tokens) >= request.max_tokens
        ):
            self.model.store.add(request, reply)

    def _at_most(self, request: Request, tokens: int) -> dict[str, float]:
        return self._amounts(self.model.most_prompt_tokens(request.prompt), tokens)

    def _amounts(self, prompt_tokens: int, tokens: int) -> dict[str, float]:
        cost = self.model.server.price(prompt_tokens, tokens)
        return {"generated_tokens": tokens, "prompt_tokens": prompt_tokens, "cost": cost}
