"""What a server has answered, kept in files, so that an interruption does not make it answer twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from selfstudy.core.files import Log
from selfstudy.models.language.sampling import Completion, Request


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion, and the tokens of its prompt as the server counts them."""

    completion: Completion
    prompt_tokens: int


class ReplyStore:
    """Replies by request.

    Args:
        folder: each process appends to a file of its own there, and reads those of all when it starts. A line
            names its request by a hash; prompts are not written.
        source: tells models apart that share a folder.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self._log = Log(folder / f"{os.getpid()}.jsonl")
        self._source = source
        self._known: dict[str, Reply] = {}
        for file in sorted(folder.glob("*.jsonl")):
            data = file.read_bytes()
            for line in data[: data.rfind(b"\n") + 1].splitlines():
                self._known.update([_reply(json.loads(line))])

    def get(self, request: Request) -> Reply | None:
        """Return the reply that was kept for this very request, if there is one."""
        return self._known.get(self._name(request))

    def add(self, request: Request, reply: Reply) -> None:
        """Keep one more; a killed process loses none."""
        name = self._name(request)
        completion = reply.completion
        self._log.append(
            {
                "request": name,
                "text": completion.text,
                "tokens": completion.tokens,
                "logprobs": completion.logprobs,
                "finish": completion.finish,
                "prompt_tokens": reply.prompt_tokens,
            },
            forced=False,
        )
        self._known[name] = reply

    def _name(self, request: Request) -> str:
        text = json.dumps([self._source, dataclasses.astuple(request)])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _reply(line: dict) -> tuple[str, Reply]:
    completion = Completion(line["text"], tuple(line["tokens"]), tuple(line["logprobs"]), line["finish"])
    return line["request"], Reply(completion, line["prompt_tokens"])
