"""Who may open the page: those with the token of its address, which then lives in a cookie."""

from __future__ import annotations

import hmac
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"
REFUSED = "This page needs the whole address that `selfstudy label` printed: it holds a token."
# Scripts and styles come from this server's files alone, so that nothing in an item can run.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # without any, browsers hide the origin of forms
    "cache-control": "no-store",
}


def cookie_name(kind: str, scope: MutableMapping[str, Any]) -> str:
    """Return the name of a cookie; browsers share cookies between the ports of a machine, hence the port."""
    server = scope.get("server") or ("", 0)
    return f"selfstudy-{kind}-{server[1]}"


class Guard:
    """Lets requests through that know the token, and adds the headers that keep a page from running items.

    Args:
        app: what is guarded.
        token: what the address has to hold.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in there)]
            await send(message)

        refused = self._refusal(Request(scope))
        await (refused or self._app)(scope, receive, sent)

    def _refusal(self, request: Request) -> Response | None:
        """Return what to answer a request that is not passed on."""
        name = cookie_name(TOKEN, request.scope)
        given = request.query_params.get(TOKEN)
        if not self._knows(request.cookies.get(name, "") if given is None else given):
            return PlainTextResponse(REFUSED, 403)
        # A page of another port of this machine counts as the same site: only the origin tells them apart.
        origin = request.headers.get("origin")
        if request.method != "GET" and origin and origin.partition("://")[2] != request.headers.get("host"):
            return PlainTextResponse("This request comes from another page.", 403)
        if given is None:
            return None
        answer = RedirectResponse("/", 303)  # the token does not stay in the address
        answer.set_cookie(name, given, httponly=True, samesite="strict")
        return answer

    def _knows(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)
