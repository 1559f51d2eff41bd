"""The server: a store's graphs as pages, and questions to the real model."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from circuits.errors import CircuitError, NoRoom
from circuits.serving.guard import HEADERS, Guard
from circuits.serving.lab import TRIALS, TRIALS_ONCE, Lab, Load
from circuits.serving.pages import Pages, comparable, listing
from graphs.addresses import Place
from graphs.errors import CannotWrite, GraphError, UnknownGraph
from graphs.heads import HEADS
from graphs.shelves import FILES, names_in
from graphs.store import Entry, Store

LOCAL = ("127.0.0.1", "localhost", "[::1]")


def make_app(store: Store, load: Load, *, hosts: Collection[str] = LOCAL, token: str = "") -> Starlette:
    """The application. hosts, token: see `Guard`. load: see `Lab`.

    GET  /                       the graphs of the store; ?find=words
    GET  /graphs/ID              a graph's page; ?around=ROW for one node with what is next to it
    GET  /graphs/ID/nodes        nodes of the whole graph; ?find=words
    GET  /graphs/ID/others       graphs to compare it with; ?find=words
    GET  /graphs/ID/heads        through which heads the inputs of ?node=ROW came
    GET  /graphs/ID/trials       what was asked of the model so far
    POST /graphs/ID/trials       ask: see `Lab.ask`
    """
    pages, lab = Pages(store), Lab(store, load)
    turn = asyncio.Semaphore()  # the lab answers one by one: who waits keeps no thread from the others

    def own_entries() -> list[Entry]:
        return [entry for entry in store.list() if not leads_out(store, entry.folder)]

    def over_all(request: Request) -> Response:
        return HTMLResponse(listing(own_entries(), request.query_params.get("find", "")[:200]))

    def of_graph(request: Request) -> Response:
        around = request.query_params.get("around")
        if around is not None and not (around.isascii() and around.isdigit() and len(around) < 10):
            return _said(400, "around is a node's row")
        id = _id(request, store)
        try:
            page = pages.page(id, None if around is None else int(around))
        except IndexError as reason:
            return _said(404, str(reason))
        packed = "gzip" in request.headers.get("accept-encoding", "")
        looked_at = request.headers.get("sec-fetch-mode", "navigate") == "navigate"  # not fetched to be compared with
        return HTMLResponse(
            page if packed else gzip.decompress(page),
            headers={"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if packed else {}),
            # Its model is loaded meanwhile.
            background=BackgroundTask(lab.prepare, id) if looked_at else None,
        )

    def nodes(request: Request) -> Response:
        return JSONResponse(pages.find(_id(request, store), request.query_params.get("find", "")[:200]))

    def others(request: Request) -> Response:
        id, words = _id(request, store), request.query_params.get("find", "")[:200]
        return JSONResponse(comparable(own_entries(), id, words))

    async def heads(request: Request) -> Response:
        row = request.query_params.get("node", "")
        if not (row.isascii() and row.isdigit() and len(row) < 10):
            return _said(400, "node is a node's row")
        try:
            async with turn:
                return JSONResponse(await run_in_threadpool(lambda: lab.heads(_id(request, store), int(row))))
        except IndexError as reason:
            return _said(404, str(reason))

    def trials(request: Request) -> Response:
        return JSONResponse(lab.trials(_id(request, store)))

    async def ask(request: Request) -> Response:
        id = await run_in_threadpool(_id, request, store)
        try:
            asked = json.loads(await request.body(), parse_constant=_no_number)
        except (ValueError, RecursionError):
            return _said(400, "the question is no JSON")
        async with turn:
            return JSONResponse(await run_in_threadpool(lab.ask, id, asked))

    return Starlette(
        routes=[
            Route("/", over_all),
            Route("/graphs/{id}", of_graph),
            Route("/graphs/{id}/nodes", nodes),
            Route("/graphs/{id}/others", others),
            Route("/graphs/{id}/heads", heads),
            Route("/graphs/{id}/trials", trials, methods=["GET"]),
            Route("/graphs/{id}/trials", ask, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={kind: _tell for kind in (CircuitError, GraphError, OSError, ClientDisconnect)}
        | {Exception: _admit},
    )


def leads_out(store: Store, folder: Place, *more: str) -> bool:
    """Whether a graph's folder, or what is read of it, is a link to somewhere outside of the store.

    more: names in the folder that are read besides those which every graph may have.
    """
    if not isinstance(folder, Path):
        return False
    read = [str(folder), *(f"{folder}/{name}" for name in (*FILES, HEADS, TRIALS, TRIALS_ONCE, *more))]
    links = [os.path.realpath(path) for path in read if os.path.islink(path)]
    return bool(links) and not all(Path(path).is_relative_to(os.path.realpath(str(store.folder))) for path in links)


def _id(request: Request, store: Store) -> str:
    """The graph's id in the store, whole.

    Raises:
        UnknownGraph: there is none of that name; what is elsewhere is not served.
    """
    folder = store.find(str(request.path_params["id"]))
    trials = names_in(folder / TRIALS) if os.path.isdir(str(folder / TRIALS)) else []
    if leads_out(store, folder, *(f"{TRIALS}/{name}" for name in trials)):
        raise UnknownGraph(f"{folder} leads out of the store.")
    return folder.name


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


async def _tell(request: Request, reason: Exception) -> Response:
    """What was wrong, as the terminal would say it."""
    if isinstance(reason, ClientDisconnect):
        return _said(400, "the question was broken off")  # to nobody, and without a traceback in the terminal
    if isinstance(reason, UnknownGraph):
        return _said(404, "there is no such graph in this store")
    if isinstance(reason, CannotWrite):
        return _said(507, str(reason))
    if isinstance(reason, NoRoom):
        return _said(503, str(reason))
    if isinstance(reason, CircuitError | GraphError):
        return _said(422, str(reason))
    return _said(500, f"a file could not be read: {getattr(reason, 'strerror', None) or reason}")


async def _admit(request: Request, reason: Exception) -> Response:
    """What nobody foresaw. The terminal has its traceback; this one answer does not pass the guard on its way out."""
    words = f"a fault of this server, not of what was asked: {type(reason).__name__}: {reason}"
    return _said(500, f"{words}. Its terminal says more; please report that", HEADERS)


def _said(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{words}\n", status_code=status, headers=headers)
