"""Language models behind a server with OpenAI's interface: vLLM, llama.cpp, SGLang, or a paid one."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
from transformers import AutoTokenizer

from selfstudy.core.errors import MachineError, UsageError, nearest
from selfstudy.models.language.model import encode_all, in_template, pretrained
from selfstudy.models.language.reply_store import ReplyStore

EXAMPLE = "openai:http://127.0.0.1:8000/v1?model=NAME"
TEMPLATE_TOKENS = 32  # that a server may put around a prompt
SHOWN = 20  # models of a server that a message lists
UNREADABLE = (ValueError, RecursionError)  # what JSON that is none, or nested without end, ends in


@dataclass(frozen=True)
class Server:
    """Where a model is and how it is asked; the fields of `openai:URL?field=value`."""

    url: str
    """Up to the version, such as http://127.0.0.1:8000/v1."""
    _: KW_ONLY
    model: str = ""
    """Its name there; not needed where the server lists one model only."""
    chat: bool = False
    """Ask for whole answers at /chat/completions, in the server's own template; searches are not possible."""
    tokenizer: str = ""
    """A local folder with the model's tokenizer, for its chat template at /completions."""
    context: int = 0
    """Positions of the model, tokens; 0 is what the server says, if it does."""
    concurrency: int = 16
    """Requests that are on their way at the same time."""
    timeout: float = 60.0
    """Seconds to wait for the server before a request counts as failed."""
    retries: int = 4
    """Times that one request is sent again after a failure that may pass."""
    logprobs: bool = False
    """Ask for the log-probabilities of the tokens; some servers refuse that."""
    input_price: float = 0.0
    """Of a million tokens of prompts, in any currency."""
    output_price: float = 0.0
    """Of a million generated tokens."""
    key_variable: str = ""
    """The environment variable that holds the key; the key itself is written nowhere."""

    def __post_init__(self) -> None:
        """Raise a `UsageError` for a setting that cannot be."""
        parts = httpx2.URL(self.url)
        if parts.scheme not in ("http", "https") or not parts.host:
            raise UsageError(f"The address {self.url!r} of a server is none. Give one such as {EXAMPLE!r}.")
        if parts.userinfo:
            raise UsageError(
                f"The address of the server {parts.host!r} holds a password. Put it into an environment "
                "variable and name that one: key_variable=NAME."
            )
        for name in ("concurrency", "timeout"):
            if not getattr(self, name) > 0:
                raise UsageError(f"The server's {name} is {getattr(self, name)}; it must be above 0.")
        for name in ("retries", "context", "input_price", "output_price"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"The server's {name} is {getattr(self, name)}; it must not be negative.")
        if self.chat and self.tokenizer:
            raise UsageError(
                "With chat=true the server's own template is used, with tokenizer= the one of that folder. "
                "Give one of the two."
            )

    def price(self, prompt_tokens: float, tokens: float) -> float:
        """Return what so many tokens cost."""
        return (prompt_tokens * self.input_price + tokens * self.output_price) / 1e6

    def connect(self) -> ServedModel:
        """Return the model, after a look whether the server is there.

        Raises:
            UsageError: no key in the environment, a wrong one, or no name where the server has many models.
            MachineError: nothing answers.
        """
        return ServedModel(self)


class ServedModel:
    """A language model that draws elsewhere; it has no weights here.

    Args:
        server: where it is.
        replies: a folder where what the server has answered is kept, so that work that is done again after an
            interruption asks for nothing twice; None keeps nothing.

    Attributes:
        server: as given.
        name: the model's name on the server.
        context: its positions, tokens; None where nobody says.
        sent: how many requests were sent, and how many failed in which way; grows.
    """

    def __init__(self, server: Server, replies: Path | None = None) -> None:
        self.server, self.replies = server, replies
        self.sent: dict[str, int] = {"requests": 0}
        listed = self._listed()
        self.name = server.model or self._only(listed)
        told = listed.get(self.name, {}).get("max_model_len")
        self.context = server.context or (int(told) if told else None)
        self._tokenizer = None
        if server.tokenizer:
            self._tokenizer = pretrained(AutoTokenizer, server.tokenizer, local_files_only=True)

    def __repr__(self) -> str:
        return f"ServedModel({self.name!r} at {self.server.url})"

    def __reduce__(self) -> Any:
        return ServedModel, (self.server, self.replies)

    def keeping(self, folder: Path | str) -> ServedModel:
        """Return the same model, keeping what the server answers in `folder`."""
        return ServedModel(self.server, Path(folder))

    @property
    def chat(self) -> bool:
        """Whether it is asked by messages rather than by the beginning of a text."""
        return self.server.chat or bool(getattr(self._tokenizer, "chat_template", None))

    def prompt(self, text: str, *, images: int = 0) -> str:
        """Wrap `text` as a user's message in the local chat template, if there is one.

        Raises:
            UsageError: the question shows images, which are not sent to servers.
        """
        if images:
            raise UsageError(
                f"The problems have images, which are not sent to {self!r}. Load the model here."
            )
        if self._tokenizer is None or not self.chat:
            return text
        wrapped = in_template(self._tokenizer, text)
        # The server's tokenizer puts the BOS before what it is sent, as this one does.
        added = self._tokenizer("")["input_ids"][:1] == [self._tokenizer.bos_token_id]
        return wrapped.removeprefix(self._tokenizer.bos_token) if added else wrapped

    def encode_all(self, texts: Sequence[str], *, begins: bool = True) -> list[list[int]]:
        """Return the tokens of many texts by the local tokenizer; see `LanguageModel.encode_all`.

        Raises:
            UsageError: no tokenizer was named.
        """
        if self._tokenizer is None:
            raise UsageError(
                f"The tokens of {self!r} are known to its server only. Name a folder with its tokenizer: "
                "tokenizer=FOLDER."
            )
        return encode_all(self._tokenizer, texts, begins=begins)

    def room(self, prompt: str, wanted: int) -> int:
        """Return how many of `wanted` tokens fit behind `prompt`; all where only the server can tell."""
        if self._tokenizer is None or self.context is None:
            return wanted
        return max(0, min(wanted, self.context - len(self.encode_all([prompt])[0])))

    def most_prompt_tokens(self, prompt: str) -> int:
        """Return the tokens of `prompt`, or more than it can have: a token is at least one byte."""
        if self._tokenizer is None:
            return len(prompt.encode()) + TEMPLATE_TOKENS
        return len(self.encode_all([prompt])[0])

    @cached_property
    def store(self) -> ReplyStore | None:
        """What the server has answered, where that is kept."""
        return ReplyStore(self.replies, f"{self.server.url} {self.name}") if self.replies else None

    @cached_property
    def client(self) -> httpx2.Client:
        """The connections to the server."""
        variable = self.server.key_variable
        key = os.environ.get(variable, "") if variable else ""
        if variable and not key:
            raise UsageError(
                f"The environment variable {variable!r} that should hold the server's key is not set. "
                f"Set it: export {variable}=..., or leave key_variable out for a server without keys."
            )
        client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.server.timeout,
            limits=httpx2.Limits(max_connections=self.server.concurrency),
        )
        weakref.finalize(self, client.close)
        return client

    def address(self, path: str) -> str:
        """Return the URL of one endpoint."""
        return f"{self.server.url.rstrip('/')}/{path}"

    def unknown(self) -> str:
        """Return what to say when the model is not among those that the server lists, else nothing."""
        listed = self._listed()
        if not listed or self.name in listed:
            return ""
        return f"The server has no model {self.name!r}. {nearest(self.name, list(listed)[:SHOWN])}"

    def wrong_key(self) -> UsageError:
        """Return the error of a key that is missing or wrong."""
        variable = self.server.key_variable
        told = f"the key in {variable}" if variable else "a request without a key"
        return UsageError(
            f"The server at {self.server.url} does not accept {told}. Put a valid one into an environment "
            "variable, and name that: key_variable=NAME."
        )

    def _listed(self) -> dict[str, dict[str, Any]]:
        """Return what the server tells of its models, by name; nothing where it has no such list."""
        try:
            response = self.client.get(self.address("models"))
        except httpx2.TransportError as error:
            raise MachineError(
                f"No server answers at {self.server.url} ({type(error).__name__}: {error}). Start it, or "
                f"give its address, such as {EXAMPLE!r}."
            ) from None
        if response.status_code in (401, 403):
            raise self.wrong_key()
        if response.has_redirect_location:
            raise UsageError(
                f"The server at {self.server.url} sends requests on to {response.headers['location']!r}. "
                "Give the address that it has there."
            )
        try:
            return {entry["id"]: entry for entry in response.json()["data"]}
        except (*UNREADABLE, KeyError, TypeError):
            return {}

    def _only(self, listed: dict[str, Any]) -> str:
        if len(listed) != 1:
            known = f" It lists {', '.join(sorted(listed)[:SHOWN])}." * bool(listed)
            raise UsageError(f"The server at {self.server.url} needs the name of a model: model=NAME.{known}")
        return next(iter(listed))
