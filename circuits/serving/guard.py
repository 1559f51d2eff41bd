"""Who may ask, and how much: every request passes here first.

A browser lets any page on the web send requests to this machine. So a request must name this server as its host (a page
elsewhere that had its own name point here would name itself), one that changes something must come from this server's
own pages, and bodies are small. Where others than this machine can connect, a token is wanted besides.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 100_000  # bytes of a request's body
COOKIE = "circuits-token"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets through what comes from this server's own pages.

    hosts: what the Host header may say, without the port; empty where the token alone decides. token: wanted in the
    address once (`?token=…`), which sets a cookie; "" where only this machine can connect.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str) -> None:
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        refusal = self._refuse(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MOST:
                raise TooLarge
            return message

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        try:
            await self.app(scope, bounded, labelled)
        except TooLarge:
            await _no(413, f"a request has at most {MOST:,} bytes")(scope, receive, send)

    def _refuse(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts and _name_of(host) not in self.hosts:
            return _no(421, f"this server is {' or '.join(sorted(self.hosts))}, and was called {host!r:.80}")
        if self.token:
            given = QueryParams(scope["query_string"]).get("token")
            if given is not None and hmac.compare_digest(given.encode(), self.token.encode()):
                moved = RedirectResponse(scope["path"], status_code=303)
                moved.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
                return moved
            held = _cookie(headers.get("cookie", ""))
            if not hmac.compare_digest(held.encode(), self.token.encode()):
                return _no(401, "a token is wanted: open the address that `circuits serve` printed")
        site = headers.get("sec-fetch-site", "same-origin")
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD"):
            if origin is None or origin.split("://", 1)[-1] != host or site not in ("same-origin", "none"):
                return _no(403, "only this server's own pages may change anything")
            if headers.get("content-type", "").split(";")[0].strip() != "application/json":
                return _no(415, "JSON is wanted")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > MOST:
            return _no(413, f"a request has at most {MOST:,} bytes")
        return None


class TooLarge(Exception):
    """More was sent than is read."""


def _no(status: int, why: str) -> ASGIApp:
    return PlainTextResponse(f"{why}.\n", status_code=status, headers=HEADERS)


def _name_of(host: str) -> str:
    """A host without its port: `[::1]:8000` -> `[::1]`."""
    return host.rsplit(":", 1)[0] if not host.endswith("]") and ":" in host else host


def _cookie(header: str) -> str:
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return next((value for name, _, value in pairs if name == COOKIE), "")
