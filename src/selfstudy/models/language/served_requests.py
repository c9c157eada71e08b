"""One request to a server with OpenAI's interface: sent, sent again where that may help, and read."""

from __future__ import annotations

import email.utils
import math
import threading
import time
from typing import Any

import httpx2

from selfstudy.core.errors import MachineError, SelfstudyError, UsageError
from selfstudy.core.random import uniforms
from selfstudy.models.language.reply_store import Reply
from selfstudy.models.language.sampling import Completion, Request
from selfstudy.models.language.served import UNREADABLE, ServedModel

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds before a request is sent again
UNTOLD = -1  # stands for the number of a token that the server does not tell
RATE, SERVER, TIMEOUT, DROPPED, GARBAGE, EMPTY = (
    "429 too many requests",
    "errors of the server",
    "timeouts",
    "dropped connections",
    "unreadable replies",
    "empty replies",
)


class GivenUp(Exception):
    """Another request has failed for good; this one was not finished."""


class _Passing(Exception):
    """A failure that may pass; `wait` is the least time that the server asks for, seconds."""

    def __init__(self, kind: str, told: str, wait: float = 0.0) -> None:
        super().__init__(told)
        self.kind, self.wait = kind, wait


class Caller:
    """Sends requests; used by many threads at once.

    Args:
        model: whom to ask.
    """

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._path = "chat/completions" if model.server.chat else "completions"
        self._given_up = threading.Event()
        self._counting = threading.Lock()

    def give_up(self) -> None:
        """Send nothing again; requests that are on their way come back."""
        self._given_up.set()

    def ask(self, request: Request, most: int) -> Reply:
        """Return the reply to `request`, with at most `most` tokens.

        Raises:
            UsageError: the server refuses the request, the model or the key.
            MachineError: it failed too often.
            GivenUp: `give_up` was called meanwhile.
        """
        body = self._body(request, most)
        retries = self.model.server.retries
        for attempt in range(retries + 1):
            if self._given_up.is_set():
                raise GivenUp
            try:
                self._count("requests")
                return self._once(body, request)
            except _Passing as failure:
                self._count(failure.kind)
                if attempt == retries:
                    raise MachineError(
                        f"The server at {self.model.server.url} failed {attempt + 1} times at one request; "
                        f"the last time: {failure}. See whether it is up; a busy one is helped by fewer "
                        "requests at a time (concurrency), a longer timeout or more retries. Then go on."
                    ) from None
                self._given_up.wait(_pause(request.key, attempt, failure.wait))
        raise AssertionError("unreachable")

    def _body(self, request: Request, most: int) -> dict[str, Any]:
        chat, wants = self.model.server.chat, self.model.server.logprobs
        body: dict[str, Any] = {
            "model": self.model.name,
            "max_tokens": most,
            "temperature": request.temperature,
            "top_p": request.top_p,  # 1 too: some servers would take the model's own
            "seed": request.key % 2**31,  # some servers read no larger ones
        }
        if chat:
            body["messages"] = [{"role": "user", "content": request.prompt}]
        else:
            body["prompt"] = request.prompt
        if request.stop:
            body["stop"] = list(request.stop)
        if wants:
            body["logprobs"] = True if chat else 1
        return body

    def _once(self, body: dict[str, Any], request: Request) -> Reply:
        try:
            response = self.model.client.post(self.model.address(self._path), json=body)
        except httpx2.TimeoutException as error:
            limit = f"no answer within {self.model.server.timeout:g} s"
            raise _Passing(TIMEOUT, f"{limit} ({type(error).__name__})") from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise _Passing(DROPPED, f"{type(error).__name__}: {error}") from None
        status = response.status_code
        if status == 429:
            raise _Passing(RATE, f"429 {_excerpt(response)}", _asked_wait(response))
        if status >= 500 or status == 408:
            raise _Passing(SERVER, f"{status} {_excerpt(response)}", _asked_wait(response))
        if status != 200:
            if _no_room(response):
                return Reply(Completion("", (), (), "context"), 0)
            raise self._refusal(response)
        return self._read(response, request)

    def _refusal(self, response: httpx2.Response) -> SelfstudyError:
        if response.status_code in (401, 403):
            return self.model.wrong_key()
        about_model = response.status_code == 404 or "model" in response.text.lower()
        hint = self.model.unknown() if about_model else ""
        if not hint and response.status_code == 404:
            other = "chat=false" if self.model.server.chat else "chat=true"
            hint = f"If it has no /{self._path}, try {other}."
        return UsageError(
            f"The server at {self.model.server.url} refused a request with {response.status_code}: "
            f"{_excerpt(response)}. {hint or 'Change the fields of the model as it says.'}"
        )

    def _read(self, response: httpx2.Response, request: Request) -> Reply:
        chat = self.model.server.chat
        if not response.content.strip():
            raise _Passing(EMPTY, "an empty reply")
        try:
            content = response.json()
            if content["choices"] == []:
                raise _Passing(EMPTY, "a reply without a choice")
            choice = content["choices"][0]
            text = choice["message"]["content"] if chat else choice["text"]
            usage = content.get("usage")
            reason = choice.get("finish_reason")
            logprobs = _logprobs(choice.get("logprobs"), chat)
        except (*UNREADABLE, KeyError, TypeError, AttributeError, IndexError):
            raise _Passing(GARBAGE, f"a reply that cannot be read: {_excerpt(response)}") from None
        if text is None:
            raise _Passing(EMPTY, "a reply without text")
        try:
            prompt_tokens, tokens = (_amount(usage[name]) for name in ("prompt_tokens", "completion_tokens"))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise MachineError(
                f"The server at {self.model.server.url} does not say how many tokens it read and drew "
                "(usage); without that nothing can be counted. Take one that does."
            ) from None
        text, stopped = _cut(str(text), request.stop)
        finish = "stop" if stopped else _finish(reason, choice, bool(request.stop))
        return Reply(Completion(text, (UNTOLD,) * tokens, logprobs, finish), prompt_tokens)

    def _count(self, what: str) -> None:
        with self._counting:
            self.model.sent[what] = self.model.sent.get(what, 0) + 1


def _pause(key: int, attempt: int, asked: float) -> float:
    """Return the seconds to wait: twice as long each time, spread by half, and as long as the server asks."""
    spread = 0.5 + float(uniforms(key % 2**64, attempt))
    return min(LONGEST_WAIT, max(asked, FIRST_WAIT * 2**attempt * spread))


def _asked_wait(response: httpx2.Response) -> float:
    """Return the seconds of the header Retry-After: a number, or a date."""
    text = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _no_room(response: httpx2.Response) -> bool:
    """Tell whether the prompt is too long: OpenAI's code, llama.cpp's type, vLLM's sentence."""
    words = ("context_length_exceeded", "exceed_context_size", "maximum context length")
    return response.status_code in (400, 413, 422) and any(word in response.text for word in words)


def _cut(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """Return the text before the first stop string, and whether there is one: some servers leave it in."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _finish(reason: Any, choice: dict[str, Any], stops: bool) -> str:
    """Return the reason in our words."""
    if reason not in ("stop", None):
        return "length"  # also what a content filter has cut off
    # vLLM and SGLang say which stop string it was. With others it was one where one was asked for.
    for field in ("stop_reason", "matched_stop"):
        if field in choice:
            return "stop" if isinstance(choice[field], str) else "end"
    return "stop" if stops else "end"


def _amount(told: Any) -> int:
    """Return a number of tokens; a `ValueError` for less than none, which would give budget back."""
    amount = int(told)
    if amount < 0:
        raise ValueError(amount)
    return amount


def _logprobs(given: Any, chat: bool) -> tuple[float, ...]:
    if not given:
        return ()
    values = [entry["logprob"] for entry in given["content"]] if chat else given["token_logprobs"]
    logprobs = tuple(float(value) for value in values)
    if not all(map(math.isfinite, logprobs)):
        raise ValueError("JSON has no such numbers, but Python reads them")
    return logprobs


def _excerpt(response: httpx2.Response) -> str:
    """Return what a server says, short."""
    try:
        content = response.json()
        told = content.get("error", content.get("detail", content))
        text = str(told["message"] if isinstance(told, dict) and "message" in told else told)
    except (*UNREADABLE, AttributeError):
        text = response.text
    text = " ".join(text.split()).rstrip(".")
    return repr(text[:200])
