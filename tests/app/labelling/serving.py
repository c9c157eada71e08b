"""A page of made-up items, served in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import uvicorn

from selfstudy.app.labelling.pages import Pages
from selfstudy.app.labelling.routes import make_app
from selfstudy.app.labelling.server import listening_on
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import Query

TOKEN = "the-token-of-the-test"
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Served(NamedTuple):
    """A page that is being served."""

    directory: Path
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    def send(self, method: str, path: str, **fields: Any) -> tuple[int, str]:
        """Send a request as Ann, with the path as it is; return the status and the body."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            cookies = f"selfstudy-token-{self.port}={TOKEN}; selfstudy-name-{self.port}=Ann"
            headers = {"cookie": cookies, "hx-request": "true", **FORM}
            connection.request(method, path, urlencode(fields) if fields else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")

    def answers(self) -> list[tuple[str, int, str]]:
        """Return what counts: (annotator, item, answer), in the order in which it was said."""
        with LabelDatabase(self.directory) as store:
            rows = store.run("SELECT annotator, item, answer FROM answers ORDER BY event").fetchall()
        return [(row["annotator"], row["item"], row["answer"]) for row in rows]


@contextlib.contextmanager
def served(
    directory: Path, pool: Any, query: Query, *, annotators: int = 1, files: tuple[Path, ...] = ()
) -> Iterator[Served]:
    """Serve a query about a pool, whose images lie in `files`."""
    ids = tuple(f"row{n}" for n in range(len(pool)))
    task = SimpleNamespace(pool=pool, ids=ids, classes=query.classes, files=files)
    with LabelDatabase(directory) as store, store.change():
        store.pose(query)
        store.ask_of(annotators)
    ready, servers = threading.Event(), []

    def serve() -> None:
        with LabelDatabase(directory) as store, listening_on("127.0.0.1", 0) as listening:
            app = make_app(Pages(directory, store, task), TOKEN)
            servers.append(
                (uvicorn.Server(uvicorn.Config(app, log_level="critical")), listening.getsockname()[1])
            )
            ready.set()
            asyncio.run(servers[0][0].serve(sockets=[listening]))

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    try:
        yield Served(directory, servers[0][1])
    finally:
        servers[0][0].should_exit = True
        thread.join(30)
    assert not thread.is_alive()
