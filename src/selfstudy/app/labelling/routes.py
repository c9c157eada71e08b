"""The addresses of the labelling page. Every one answers with HTML; a little htmx swaps parts of the page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote

from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from selfstudy.app.labelling.access import Guard, cookie_name
from selfstudy.app.labelling.choices import LONGEST_NAME, meant
from selfstudy.app.labelling.exchange import to_csv, to_label_studio
from selfstudy.app.labelling.pages import Pages
from selfstudy.app.labelling.showing import png
from selfstudy.core.errors import UsageError
from selfstudy.data import label_answers
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.label_database import LabelDatabase

STATIC = Path(__file__).parent / "static"
Number = Annotated[int, Form(ge=1, le=2**53)]
Identity = Annotated[str, Form(alias="request", min_length=8, max_length=64)]


def make_app(pages: Pages, token: str) -> FastAPI:
    """Return the application behind the guard that asks for `token`."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(pages.trainer.watch())
        yield
        await pages.trainer.stop()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await pages.writer.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, token=token)
    app.mount("/static", StaticFiles(directory=STATIC))
    _add_views(app, pages)
    _add_changes(app, pages)
    return app


def _add_views(app: FastAPI, pages: Pages) -> None:
    """Add the addresses that show something."""

    @app.get("/", response_class=HTMLResponse)
    async def whole(request: Request) -> str:
        return pages.whole(_who(request))

    @app.get("/work", response_class=HTMLResponse)
    async def work(request: Request) -> str:
        return pages.work(_who(request))

    @app.get("/status", response_class=HTMLResponse)
    async def status() -> str:
        return pages.status()

    @app.get("/names", response_class=HTMLResponse)
    async def names(begun: str = "") -> str:
        return pages.names(begun)

    @app.get("/image/{place}")
    async def image(place: int) -> Response:
        pool = pages.task.pool
        if not isinstance(pool, ImageSet) or not 0 <= place < len(pool):
            raise HTTPException(404)
        image = png(pool, place, pages.file(place))
        return Response(image, media_type="image/png", headers={"cache-control": "max-age=3600"})

    @app.get("/labels.json")
    async def label_studio() -> Response:
        return _download(to_label_studio(pages.store, pages.task), "application/json", "labels.json")

    @app.get("/labels.csv")
    async def csv() -> Response:
        return _download(to_csv(pages.store, pages.task), "text/csv", "labels.csv")

    @app.get("/report")
    async def report() -> Response:
        path = pages.directory / "report.html"
        if not path.is_file():
            raise HTTPException(404)
        # The report has scripts of its own: the sandbox keeps them away from this page and its cookies.
        return HTMLResponse(
            path.read_text(encoding="utf-8"), headers={"content-security-policy": "sandbox allow-scripts"}
        )


def _add_changes(app: FastAPI, pages: Pages) -> None:
    """Add the addresses that change something."""

    def answered(request: Request, said: str = "") -> Response:
        pages.trainer.look()
        if "hx-request" not in request.headers:  # a browser without scripts
            return RedirectResponse("/", 303)
        return HTMLResponse(pages.work(_who(request), said))

    @app.post("/name")
    async def name(request: Request, who: Annotated[str, Form()]) -> Response:
        answer = RedirectResponse("/", 303)
        plain = " ".join("".join(letter if letter.isprintable() else " " for letter in who).split())
        answer.set_cookie(
            cookie_name("name", request.scope), quote(plain[:LONGEST_NAME]), httponly=True, samesite="strict"
        )
        return answer

    @app.post("/answer")
    async def answer(
        request: Request,
        identity: Identity,
        item: Number,
        choice: Annotated[str, Form()] = "",
        new: Annotated[str, Form()] = "",
    ) -> Response:
        who = _named(request)

        def write(store: LabelDatabase) -> None:
            if not label_answers.seen(store, identity):
                said = meant(*label_answers.question(store, item), choice, new)
                label_answers.answer(store, identity, who, item, said)

        try:
            await pages.writer.change(write)
        except UsageError as error:
            return answered(request, str(error))
        pages.desk.give_back(who)
        return answered(request)

    @app.post("/skip")
    async def skip(request: Request, identity: Identity, item: Number) -> Response:
        who = _named(request)
        try:
            await pages.writer.change(lambda store: label_answers.skip(store, identity, who, item))
        except UsageError as error:
            return answered(request, str(error))
        pages.desk.give_back(who)
        return answered(request)

    @app.post("/undo")
    async def undo(request: Request, identity: Identity) -> Response:
        who = _named(request)
        item = await pages.writer.change(lambda store: label_answers.undo(store, identity, who))
        if item is None:
            return answered(request, "There is nothing to undo: earlier answers have gone into training.")
        pages.desk.lend(who, item)
        return answered(request)

    @app.post("/train")
    async def train(request: Request) -> Response:
        pages.trainer.again()
        return answered(request)


def _who(request: Request) -> str:
    return unquote(request.cookies.get(cookie_name("name", request.scope), ""))


def _named(request: Request) -> str:
    who = _who(request)
    if not who:
        raise HTTPException(403, "Say your name first.")
    return who


def _download(text: str, kind: str, name: str) -> Response:
    return Response(text, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
