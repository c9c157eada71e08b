"""A real HTTP server on loopback that answers as a script says; for what real servers do only on bad days."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DROP, SILENCE = "drop the connection", "say nothing"
# A script gets the body of a request and its number, and returns a reply, a status with headers and a body,
# bytes that are sent as they are, or one of the two words above.
Script = Callable[[dict[str, Any], int], Any]


def reply(text: str, *, prompt: int = 3, tokens: int = 2, finish: str | None = "stop", **choice: Any) -> dict:
    """Return a reply of /completions in OpenAI's form."""
    return {
        "choices": [{"index": 0, "text": text, "finish_reason": finish, "logprobs": None, **choice}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens},
    }


class ScriptedServer:
    """Answers /v1/models by a list, and completions by a script; a context manager.

    Attributes:
        url: up to the version.
        asked: paths, headers and bodies of the requests so far.
    """

    def __init__(
        self, script: Script, *, models: list[dict[str, Any]] | int | tuple[int, dict[str, str]] | None = None
    ) -> None:
        self.script = script
        self.models = [{"id": "small"}] if models is None else models
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served._models(self)

            def do_POST(self) -> None:
                served._post(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing on the screen."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _models(self, handler: BaseHTTPRequestHandler) -> None:
        if isinstance(self.models, int):
            _send(handler, self.models, {}, b"{}")
        elif isinstance(self.models, tuple):
            _send(handler, *self.models, b"{}")
        else:
            _send(handler, 200, {}, json.dumps({"object": "list", "data": self.models}).encode())

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            number = len(self.asked)
            self.asked.append((handler.path, dict(handler.headers), body))
        said = self.script(body, number)
        if said == SILENCE:
            self.over.wait()
        if said in (SILENCE, DROP):
            handler.close_connection = True
        elif isinstance(said, bytes):
            _send(handler, 200, {}, said)
        elif isinstance(said, tuple):
            status, headers, content = said
            _send(handler, status, headers, json.dumps(content).encode())
        else:
            _send(handler, 200, {}, json.dumps(said).encode())


def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
