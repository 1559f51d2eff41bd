"""A graph sent to a Neuronpedia server: signed upload, and the groups that are saved with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from circuits.errors import NotUploaded

SERVER = "https://www.neuronpedia.org"
LEAST, MOST = 1024, 100 * 2**20  # bytes that the server takes
ANSWER = 2**20  # bytes of an answer that are read
PATIENCE = 60  # seconds without a word
NAME = re.compile(r"[a-zA-Z0-9_.-]+")


def upload(
    graph: Mapping[str, Any], key: str, *, server: str = SERVER, subgraph: Mapping[str, Any] | None = None
) -> str:
    """Put a graph on a server; returns the address of its page.

    Three steps: a signed address is asked for, the file is put there, and the server is told that it is.

    graph: as `graphs.export.neuronpedia.to_neuronpedia` makes it. subgraph: as `subgraph_of` there, saved afterwards.
    key: the user's own; it goes to the server alone, over https, and not to where the file is put.

    Raises:
        NotUploaded: the graph is not one that is taken, or the server says no or cannot be reached.

    Source: FORMATS 5.3.
    """
    base = _checked(server).rstrip("/")
    if not re.fullmatch(r"[!-~]+", key):
        raise NotUploaded("the key should be letters and digits without spaces, found something else.")
    said = graph["metadata"]
    for name in ("slug", "scan"):
        if not NAME.fullmatch(said[name]):
            raise NotUploaded(f"a {name} may hold letters, digits, _ . and -, found {said[name]!r:.60}: name another.")
    content = json.dumps(graph, ensure_ascii=False, allow_nan=False).encode().ljust(LEAST)
    if len(content) > MOST:
        raise NotUploaded(
            f"the graph takes {len(content) / 2**20:.0f} MiB, the server {MOST / 2**20:.0f}: prune it first."
        )
    about = {"filename": f"{said['slug']}.json", "contentLength": len(content), "contentType": "application/json"}
    signed = _post(f"{base}/api/graph/signed-put", about, key, ("url", "putRequestId"))
    _send(Request(_checked(signed["url"]), content, {"Content-Type": "application/json"}, method="PUT"), key)
    saved = _post(f"{base}/api/graph/save-to-db", {"putRequestId": signed["putRequestId"]}, key, ("url",))
    if subgraph is not None:
        _post(f"{base}/api/graph/subgraph/save", subgraph, key, ())
    return str(saved["url"])


def _checked(address: Any) -> str:
    """An address that what is sent to reaches unread: https, or this machine."""
    try:
        parts = urlsplit(address if isinstance(address, str) else "")
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    except ValueError:
        parts, local = urlsplit(""), False
    if not parts.hostname or (parts.scheme != "https" and not (local and parts.scheme == "http")):
        raise NotUploaded(f"an address that begins with https:// is wanted, found {str(address)!r:.80}.")
    return str(address)


def _post(address: str, content: Mapping[str, Any], key: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "x-api-key": key}
    answer = _send(Request(address, json.dumps(content).encode(), headers, method="POST"), key)
    try:
        found = json.loads(answer) if wanted else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or any(not isinstance(found.get(name), str | int) for name in wanted):
        raise NotUploaded(f"{address} answered without {' and '.join(wanted)}: is it a Neuronpedia server?")
    return found


class _Stay(HTTPRedirectHandler):
    """A server that sends elsewhere is not followed: the key would go along."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _send(request: Request, key: str) -> bytes:
    where = request.full_url.split("?")[0]  # what follows is a signature
    try:
        with build_opener(_Stay).open(request, timeout=PATIENCE) as answer:
            return answer.read(ANSWER)
    except HTTPError as error:
        told = f"{where} says no: {error.code} {_said(error).replace(key, '…')}".rstrip(".")
        if error.code in (401, 403) and request.has_header("X-api-key"):
            told += ". Is the key the one of your account there?"
        elif error.code == 429 or error.code >= 500:
            told += ". Try again later: the graph stays in the store."
        raise NotUploaded(told) from None
    except (URLError, HTTPException, OSError) as error:
        reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        raise NotUploaded(
            f"{where} cannot be reached: {reason.replace(key, '…').rstrip('.')}. Is this machine online? A proxy is "
            "named in HTTPS_PROXY. The graph stays in the store: upload it again, or circuits draw -o x.json writes it."
        ) from None


def _said(error: HTTPError) -> str:
    """What a server says of a refusal, in one line."""
    try:
        text = error.read(2000).decode(errors="replace")
        found = json.loads(text)
        text = str(found.get("message") or found.get("error") or text)
    except (OSError, HTTPException, ValueError, AttributeError, RecursionError):
        text = str(error.reason)
    return " ".join(re.sub(r"[^ -~]", " ", text).split())[:300]
