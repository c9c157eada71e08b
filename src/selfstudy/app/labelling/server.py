"""`selfstudy label`: the page of one run, served until it is stopped; and its labels as files."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import secrets
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfstudy.app.labelling.access import TOKEN
from selfstudy.app.labelling.bringing import bring_labels, read_labels
from selfstudy.app.labelling.exchange import to_csv, to_label_studio
from selfstudy.app.plans import read_config
from selfstudy.app.saving import finished
from selfstudy.core.errors import UsageError
from selfstudy.core.files import write_text
from selfstudy.data.label_answers import open_query
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.label_table import PERSON

if TYPE_CHECKING:
    from rich.console import Console

LOCK = ".label.lock"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
FORMATS = {".json": to_label_studio, ".csv": to_csv}
SHOWN = 5  # conflicts that are listed

_log = logging.getLogger(__name__)


def label(
    directory: Path,
    console: Console,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    annotators: int | None = None,
    export: Path | None = None,
    bring: Path | None = None,
) -> None:
    """Serve the labelling page of the run in `directory`; or write or read its labels, and end.

    Args:
        directory: of a run.
        console: where the address is said.
        host: to listen on; other machines reach it where that is not the loopback address.
        port: to listen on; 0 is any free one.
        annotators: how many people are to answer each item; None keeps what it was, 1 at first.
        export: a .json (Label Studio) or .csv file to write.
        bring: such a file to read.

    Raises:
        UsageError: there is no run, it asks no person, it is finished, or a page of it is open already.
        DataError: a file of labels that cannot be read.
    """
    for path in filter(None, (export, bring)):
        if path.suffix.lower() not in FORMATS:
            raise UsageError(f"{path} must end in .json, for Label Studio, or in .csv.")
    task = _task(directory)
    if export or bring:
        with LabelDatabase(directory) as store:
            if bring:
                _bring(store, task, bring, console)
            if export:
                write_text(export, FORMATS[export.suffix.lower()](store, task))
                console.print(f"Written: {export}", highlight=False, markup=False)
        return
    if finished(directory):
        raise UsageError(
            f"The run in {directory} is finished and asks for nothing. What came out: "
            f"{directory / 'report.html'}; its labels: selfstudy label {directory} --export labels.csv"
        )
    with _only_page(directory), LabelDatabase(directory) as store, listening_on(host, port) as listening:
        if annotators is not None:
            with store.change():
                store.ask_of(annotators)
        _serve(directory, store, task, listening, host, console)


def _task(directory: Path) -> Any:
    from selfstudy import task

    config = read_config(directory)
    if "method" not in config:
        raise UsageError(f"The run in {directory} was not started by `selfstudy fit`: it asks nobody.")
    # The whole pool, whatever part of it the run uses: queries name items by their place in it.
    found = task(config["task"])
    if getattr(found, "answered_by", "") != PERSON:
        raise UsageError(
            f"The run in {directory} asks nobody: the labels of its task {config['task']!r} are not a "
            "person's to give. A file with rows without a label asks people, as in "
            "csv:reviews.csv?text=body&label=stars."
        )
    return found


def _bring(store: LabelDatabase, task: Any, path: Path, console: Console) -> None:
    with store.change():
        taken = bring_labels(store, task, read_labels(path))
        asked = open_query(store)
    for (spelling, name), count in taken.merged.items():
        _log.warning("%d labels spelt %r were read as %r.", count, spelling, name)
    for conflict in taken.conflicts[:SHOWN]:
        _log.warning("Not taken from %s: %s.", path, conflict)
    if len(taken.conflicts) > SHOWN:
        _log.warning("And %d more were not taken.", len(taken.conflicts) - SHOWN)
    console.print(
        f"{taken.answers} labels answer the query, {taken.kept} are kept until they are asked for, "
        f"{taken.same} were there already, {len(taken.conflicts)} were not taken.",
        highlight=False,
        soft_wrap=True,
    )
    if asked is not None and asked.done == asked.items:
        console.print(
            "The query is complete. To go on: selfstudy resume, or selfstudy label", highlight=False
        )


@contextlib.contextmanager
def _only_page(directory: Path) -> Iterator[None]:
    with open(directory / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"A labelling page of {directory} is open already. Use its address, which several people may "
                "do at once, or stop it first."
            ) from None
        yield


@contextlib.contextmanager
def listening_on(host: str, port: int) -> Iterator[socket.socket]:
    """Return a socket that listens from here on, though a browser may be answered a little later.

    Raises:
        UsageError: that host or port cannot be had.
    """
    if not 0 <= port < 2**16:  # a larger one would be cut down to another
        raise UsageError(f"--port {port} must be from 0 to {2**16 - 1}; 0 is any free one.")
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address, family=kind)
    except OSError as error:
        raise UsageError(
            f"Nothing can listen on {host}, port {port} ({error}). Give another --host or --port."
        ) from None
    with listening:
        yield listening


def _serve(
    directory: Path, store: LabelDatabase, task: Any, listening: socket.socket, host: str, console: Console
) -> None:
    import uvicorn

    from selfstudy.app.labelling.pages import Pages
    from selfstudy.app.labelling.routes import make_app

    token = store.setting(TOKEN)
    if not token:  # kept, so that an open page goes on working when the server is started again on its port
        token = secrets.token_urlsafe(24)
        with store.change():
            store.set(TOKEN, token)
    app = make_app(Pages(directory, store, task), token)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=3
    )
    name, at = f"[{host}]" if ":" in host else host, listening.getsockname()[1]
    address = f"http://{name}:{at}/?{TOKEN}={token}"
    console.print(f"Label here: {address}", highlight=False, markup=False, soft_wrap=True)
    if host not in LOOPBACK:
        _log.warning(
            "Whoever reaches %s and has this address may label. What is sent is not encrypted.", host
        )
    # The server ends by itself at a signal, and raises it again when it is done.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    console.print(f"Stopped. The labels are in {store.path}.", highlight=False, markup=False)
