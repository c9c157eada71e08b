"""The addresses of the page as a program sees them: who gets in, and what odd or repeated requests do."""

from __future__ import annotations

import contextlib
import http.client
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from selfstudy.app.labelling import training
from selfstudy.app.labelling.access import POLICY
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import LONGEST, Texts
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import Query

from .serving import FORM, TOKEN, Served

Serve = Callable[..., Served]
TEXTS = Texts("t", ("first", "second", "third \ud800", "x" * (LONGEST + 7)), np.full(4, -1))
QUERY = Query(name="q", places=np.arange(4), classes=("ham", "spam"))


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COMMAND", ("false",))


def raw(page: Served, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", page.port, timeout=30)) as connection:
        connection.request(method, path, "who=Eve" if method == "POST" else None, {**FORM, **headers})
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        return answer


def test_only_the_token_opens_the_page(serve: Serve) -> None:
    """Oracle: 403 without it, whatever is asked; the cookie's attributes; headers on every answer."""
    page = serve(TEXTS, QUERY)
    cookie = f"selfstudy-token-{page.port}"
    wrong = [("/", {}), ("/static/page.js", {}), ("/?token=", {}), ("/?token=%ff", {}), ("/image/0", {})]
    wrong += [(f"/?token={TOKEN}x", {}), ("/", {"cookie": f"{cookie}={TOKEN[:-1]}"}), ("/labels.csv", {})]
    wrong += [("/?token=wrong", {"cookie": f"{cookie}={TOKEN}"})]
    for path, headers in wrong:
        answer = raw(page, "GET", path, **headers)
        assert (answer.status, b"first" in answer.body) == (403, False), path
        assert answer.getheader("content-security-policy") == POLICY
    assert raw(page, "POST", "/answer").status == 403
    answer = raw(page, "GET", f"/?token={TOKEN}")
    assert (answer.status, answer.getheader("location")) == (303, "/")
    assert answer.getheader("set-cookie") == f"{cookie}={TOKEN}; HttpOnly; Path=/; SameSite=strict"
    answer = raw(page, "GET", "/", cookie=f"{cookie}={TOKEN}")
    assert answer.status == 200 and answer.getheader("x-content-type-options") == "nosniff"


def test_other_pages_of_this_machine_change_nothing(serve: Serve) -> None:
    """Oracle: 403 for another origin, although the browser sends the cookie along."""
    page = serve(TEXTS, QUERY)
    cookie = f"selfstudy-token-{page.port}={TOKEN}; selfstudy-name-{page.port}=Ann"
    here = f"127.0.0.1:{page.port}"
    for origin, status in (("http://127.0.0.1:1", 403), ("null", 403), (f"http://{here}", 303)):
        assert raw(page, "POST", "/name", cookie=cookie, origin=origin, host=here).status == status


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/static/../server.py",
        "/static/..%2f..%2fserver.py",
        "/static/%2e%2e/routes.py",
        "/static//etc/passwd",
        "/image/../labels.sqlite",
        "/image/..%2flabels.sqlite",
        "/image/-1",
        "/image/4",
        "/image/99999999999999999999999999",
        "/labels.sqlite",
        "/run.json",
        "/report",
        "/docs",
        "/openapi.json",
    ],
)
def test_paths_lead_nowhere_else(path: str, serve: Serve) -> None:
    """Oracle: no file but those that are meant to be there."""
    status, body = serve(TEXTS, QUERY).send("GET", path)
    assert status in (404, 422)
    assert not any(word in body for word in ("root:", "import", "SQLite", "the-token"))


def test_a_request_counts_once(serve: Serve) -> None:
    """Oracle: the answers and the history; the same request three times, then another one."""
    page = serve(TEXTS, QUERY)
    for request, choice in (
        ("request-1", "c0"),
        ("request-1", "c0"),
        ("request-1", "c1"),
        ("request-2", "c1"),
    ):
        status, body = page.send("POST", "/answer", request=request, item=1, choice=choice)
        assert status == 200 and "second" in body
    assert page.answers() == [("Ann", 1, "spam")]
    assert page.send("POST", "/undo", request="request-3")[0] == 200
    assert page.answers() == [("Ann", 1, "ham")], "what was said before counts again"
    with LabelDatabase(page.directory) as store:
        assert [row["kind"] for row in store.run("SELECT kind FROM events")] == ["answer", "answer", "undo"]


def test_what_has_gone_into_training_stays(serve: Serve) -> None:
    """Oracle: a sentence in the page, and the answers as they were; a repeated request is no error."""
    page = serve(TEXTS, QUERY)
    for item in range(1, 5):
        page.send("POST", "/answer", request=f"request-{item}", item=item, choice="c0")
    with LabelDatabase(page.directory) as store, store.change():
        assert store.take(1) == ["ham"] * 4
    assert "gone into training" in page.send("POST", "/answer", request="request-9", item=1, choice="c1")[1]
    assert "gone into training" in page.send("POST", "/undo", request="request-10")[1]
    assert (
        "gone into training" not in page.send("POST", "/answer", request="request-1", item=1, choice="c0")[1]
    )
    assert {answer for _, _, answer in page.answers()} == {"ham"}


@pytest.mark.parametrize(
    "fields",
    [
        {"item": 1, "choice": "c0"},
        {"request": "short", "item": 1, "choice": "c0"},
        {"request": "request-1", "choice": "c0"},
        {"request": "request-1", "item": 2**70, "choice": "c0"},
        {"request": "request-1", "item": "one", "choice": "c0"},
        {"request": "request-1", "item": 77, "choice": "c0"},
        {"request": "request-1", "item": 1, "choice": "c7"},
        {"request": "request-1", "item": 1},
    ],
)
def test_odd_fields_answer_nothing(fields: dict[str, object], serve: Serve) -> None:
    """Oracle: no answer, and no failure of the server."""
    page = serve(TEXTS, QUERY)
    assert page.send("POST", "/answer", **fields)[0] in (200, 422)
    assert page.answers() == []


def test_texts_are_shown_whole_or_say_so(serve: Serve) -> None:
    """Oracle: half a pair of surrogates, which cannot be sent; the count of characters left out."""
    page = serve(TEXTS, QUERY)
    for item in (1, 2):
        page.send("POST", "/answer", request=f"request-{item}", item=item, choice="c0")
    assert "third ?" in page.send("GET", "/work")[1]
    body = page.send("POST", "/answer", request="request-3", item=3, choice="c0")[1]
    assert "x" * LONGEST in body and "7 more characters are not shown" in body


def test_images_come_by_their_place(serve: Serve) -> None:
    """Oracle: the pixels, decoded again."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 6, 5), dtype=np.uint8)
    page = serve(ImageSet("i", pixels, np.full(4, -1)), QUERY)
    assert '<img src="/image/0" alt="i 0" class="small">' in page.send("GET", "/")[1]
    answer = raw(page, "GET", "/image/3", cookie=f"selfstudy-token-{page.port}={TOKEN}")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.body))), pixels[3, 0])
