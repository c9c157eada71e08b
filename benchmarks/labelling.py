"""The labelling page under people who label at full speed: how long an answer takes, and whether it is kept.

Method: `selfstudy label` serves a query of 100,000 texts, each to be answered by two people, from a process
of its own. Annotators answer from another process, each over a connection of their own: the next answer is
sent as soon as the page has come back, without a pause. Every twentieth answer is sent twice, as a browser
does that got no reply, and every two seconds each of them asks for the learning curve beside the item, as
the page does. Timed is an answer, from the request to the last byte of the next item; it is on disk by then.
In the end every answer that was acknowledged is looked up in the file of labels: lost are those that are not
there, doubled those that count more than once. The bar is a 99th percentile of 100 ms and no label lost or
doubled; the benchmark fails above it.

    python benchmarks/labelling.py [--annotators 20] [--seconds 120] [--json PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

from selfstudy.core.machine import hardware, versions
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import Query

ITEMS, CLASSES, PEOPLE = 100_000, ("bug", "praise", "question", "spam"), 2
MOST_MILLISECONDS = 100.0
AGAIN, LOOKS = 20, 2.0  # every so many answers are sent twice; seconds between two looks at the curve
ITEM = re.compile(rb'data-item="(\d+)"')


@dataclass
class Annotator:
    """Somebody who labels: what was acknowledged, and how long each answer took."""

    name: str
    seconds: list[float] = field(default_factory=list)
    acknowledged: dict[str, tuple[int, str]] = field(default_factory=dict)


def write_run(directory: Path, items: int) -> None:
    """Write a run that asks for the labels of `items` texts."""
    directory.mkdir()
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(500)]
    with (directory / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number in range(items + 40):
            text = f"{number} " + " ".join(rng.choice(words, 40))
            writer.writerow((text, CLASSES[number % 4] if number < 40 else ""))
    task = f"csv:{directory}/texts.csv?text=text&label=label"
    (directory / "run.json").write_text(json.dumps({"method": "hast", "task": task, "seed": 0}))
    guesses = rng.dirichlet(np.ones(len(CLASSES)), items)
    query = Query(name="round-0", places=np.arange(items), classes=CLASSES, guesses=guesses)
    with LabelDatabase(directory) as store, store.change():
        store.pose(query)


class Connection:
    """One connection that is kept; with little work, so that the server's time is what is measured."""

    def __init__(self, port: int, cookies: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1:{port}\r\nCookie: {cookies}\r\nHX-Request: true\r\n"

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def send(self, method: str, path: str, **fields: object) -> bytes:
        """Send a request and return the page that it is answered by."""
        body = urlencode(fields).encode()
        kind = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{self._head}{kind}\r\n".encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head.lower()).group(1))
        page = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"{method} {path}: {head.decode().splitlines()[0]}")
        return page


async def label(annotator: Annotator, port: int, token: str, until: float) -> None:
    """Answer items until the time is over."""
    cookies = f"selfstudy-token-{port}={token}; selfstudy-name-{port}={quote(annotator.name)}"
    connection = Connection(port, cookies)
    await connection.open()
    page, looked = await connection.send("GET", "/work"), time.perf_counter()
    count = 0
    while (start := time.perf_counter()) < until:
        found = ITEM.search(page)
        if found is None:
            sys.exit("the items have run out: give fewer --seconds")
        count, item = count + 1, int(found.group(1))
        choice = (item + count) % len(CLASSES)
        request = f"{annotator.name}-{count:06d}"
        fields = {"request": request, "item": item, "choice": f"c{choice}"}
        page = await connection.send("POST", "/answer", **fields)
        annotator.seconds.append(time.perf_counter() - start)
        annotator.acknowledged[request] = (item, CLASSES[choice])
        if count % AGAIN == 0:
            start = time.perf_counter()
            page = await connection.send("POST", "/answer", **fields)
            annotator.seconds.append(time.perf_counter() - start)
        if time.perf_counter() - looked > LOOKS:
            looked = time.perf_counter()
            await connection.send("GET", "/status")


def kept(directory: Path, annotators: list[Annotator]) -> dict[str, int]:
    """Return how many acknowledged answers there are, are lost, and are doubled."""
    given = {request: (one.name, *said) for one in annotators for request, said in one.acknowledged.items()}
    with LabelDatabase(directory) as store:
        rows = store.run(
            "SELECT request, annotator, item, answer FROM events WHERE kind = 'answer'"
        ).fetchall()
        counted = store.count("SELECT COUNT(*) FROM answers")
    there = {row["request"]: (row["annotator"], row["item"], row["answer"]) for row in rows}
    lost = sum(there.get(request) != said for request, said in given.items())
    items = len({(who, item) for who, item, _ in there.values()})
    return {"labels": len(given), "lost": lost, "doubled": len(rows) - len(given) + abs(counted - items)}


def measure(directory: Path, people: int, seconds: float) -> tuple[list[Annotator], float]:
    """Serve the run and let people label it; return them, and how long they did."""
    command = [sys.executable, "-m", "selfstudy", "label", str(directory), "--annotators", str(PEOPLE)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = urlsplit(server.stdout.readline().removeprefix("Label here: ").strip())
    if address.port is None:
        sys.exit("the page did not start")
    annotators = [Annotator(f"person {number}") for number in range(people)]

    async def all_of_them() -> None:
        until = time.perf_counter() + seconds
        token = address.query.removeprefix("token=")
        await asyncio.gather(*(label(one, int(address.port or 0), token, until) for one in annotators))

    start = time.perf_counter()
    try:
        asyncio.run(all_of_them())
    finally:
        took = time.perf_counter() - start
        server.terminate()
        server.communicate()
    return annotators, took


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--annotators", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # Beside the code and not in /tmp, which may be memory: an answer has to reach a disk.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        directory = Path(name) / "run"
        write_run(directory, options.items)
        annotators, took = measure(directory, options.annotators, options.seconds)
        checked = kept(directory, annotators)
    milliseconds = 1000 * np.array([second for one in annotators for second in one.seconds])
    result = {
        "annotators": options.annotators,
        "seconds": took,
        "items": options.items,
        **checked,
        "answers_per_second": len(milliseconds) / took,
        "p50_milliseconds": float(np.percentile(milliseconds, 50)),
        "p99_milliseconds": float(np.percentile(milliseconds, 99)),
        "most_milliseconds": float(milliseconds.max()),
        "bar_milliseconds": MOST_MILLISECONDS,
    }
    text = json.dumps({**result, "versions": versions(), "hardware": hardware()}, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")
    if checked["lost"] or checked["doubled"] or result["p99_milliseconds"] > MOST_MILLISECONDS:
        sys.exit("labels were lost or doubled, or the 99th percentile is above the bar")


if __name__ == "__main__":
    main()
