"""Who may ask, and how much: every request passes here first.

A browser lets any page on the web send requests to this machine. So a request must name this server as its host (a page
elsewhere that had its own name point here would name itself), one that changes something must come from this server's
own pages, other pages may link here but embed nothing, and bodies are small and do not trickle. Where others than this
machine can connect, a token is wanted besides.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 100_000  # bytes of a request's body
TOO_MUCH = f"a request has at most {MOST:,} bytes"
PATIENCE = 30.0  # seconds for all of it
COOKIE = "circuits-token"  # and the port: a browser shows cookies to every port of a host
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
        received, whole = 0, False
        until = asyncio.get_running_loop().time() + PATIENCE

        async def bounded() -> Message:
            nonlocal received, whole
            if whole:
                return await receive()  # that the client has gone
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, f"a request takes at most {PATIENCE:.0f} seconds") from None
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > MOST:
                raise Refused(413, TOO_MUCH)
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
        except Refused as refused:
            await _no(*refused.args)(scope, receive, send)

    def _refuse(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts and _name_of(host) not in self.hosts:
            return _no(421, f"this server is {' or '.join(sorted(self.hosts))}, and was called {host!r:.80}")
        if self.token:
            cookie = f"{COOKIE}-{scope['server'][1]}" if scope.get("server") else COOKIE
            asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            if any(name == "token" and self._is_token(value) for name, value in asked):
                rest = urlencode([(name, value) for name, value in asked if name != "token"])
                path = "/" + scope["path"].lstrip("/")  # two in a row would be another server's name
                moved = RedirectResponse(f"{path}?{rest}" if rest else path, status_code=303, headers=HEADERS)
                moved.set_cookie(cookie, self.token, httponly=True, samesite="lax")
                return moved
            if not self._is_token(_cookie(headers.get("cookie", ""), cookie)):
                return _no(401, "a token is wanted: open the address that `circuits serve` printed")
        site = headers.get("sec-fetch-site", "same-origin")
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD"):
            if origin is None or origin.split("://", 1)[-1] != host or site not in ("same-origin", "none"):
                return _no(403, "only this server's own pages may change anything")
            if headers.get("content-type", "").split(";")[0].strip() != "application/json":
                return _no(415, "JSON is wanted")
        elif site not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate":
            return _no(403, "other pages may link here, and nothing more")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > 9 or int(length) > MOST:
            return _no(413, TOO_MUCH)
        return None

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


class Refused(Exception):
    """While a body is read: the status, and why."""


def _no(status: int, why: str) -> ASGIApp:
    return PlainTextResponse(f"{why}.\n", status_code=status, headers=HEADERS)


def _name_of(host: str) -> str:
    """A host without its port: `[::1]:8000` -> `[::1]`."""
    return host.rsplit(":", 1)[0] if not host.endswith("]") and ":" in host else host


def _cookie(header: str, wanted: str) -> str:
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return next((value for name, _, value in pairs if name == wanted), "")
