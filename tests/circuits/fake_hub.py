"""A Hugging Face Hub of a few files on this machine: what huggingface_hub asks for, and what a bad day answers."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories as folders of files: ORG/NAME -> {path: bytes}.

    gated: repositories whose files are refused. cut: files whose first answer stops half-way. broken: files that end in
    a server's error, once those in `first` have been asked for. asked: every request, method and path; ranges: the byte
    ranges that were asked for.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.cut: set[str] = set()
        self.broken: set[str] = set()
        self.first: set[str] = set()
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.address = ""

    def hold(self, repository: str, folder: Path) -> None:
        """Take the files of a folder for a repository's."""
        files = (path for path in folder.rglob("*") if path.is_file())
        self.repositories[repository] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    @property
    def fetched(self) -> list[str]:
        """The files whose content was asked for."""
        return [
            line.partition(f"/resolve/{COMMIT}/")[2]
            for line in self.asked
            if line.startswith("GET") and "/resolve/" in line
        ]


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A Hub that listens on a port of its own."""
    hub = FakeHub()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            if path.startswith("/api/models/"):
                self.tell_of("/".join(path.split("/")[3:5]), path.split("/")[5:])
            else:
                repository, _, rest = path[1:].partition("/resolve/")
                self.give(repository, rest.partition("/")[2])

        def tell_of(self, repository: str, rest: list[str]) -> None:
            files = hub.repositories.get(repository)
            if files is None:
                return self.answer(401, b"", {"X-Error-Message": "Repository not found"})
            if len(rest) > 1 and rest[1] not in ("main", COMMIT):
                return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            if rest[:1] == ["tree"]:
                listed = [entry(path, content) for path, content in files.items()]
                return self.answer(200, json.dumps(listed).encode(), {"Content-Type": "application/json"})
            about = {"id": repository, "sha": COMMIT, "siblings": [], "private": False, "tags": [], "downloads": 0}
            self.answer(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

        def give(self, repository: str, path: str) -> None:
            content = hub.repositories.get(repository, {}).get(path)
            if repository in hub.gated:
                return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
            if content is None:
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            if path in hub.broken and self.command == "GET":
                tick, until = threading.Event(), time.monotonic() + 20
                while not hub.first <= set(hub.fetched) and time.monotonic() < until:
                    tick.wait(0.01)
                return self.answer(500, b"")
            etag = hashlib.sha256(content).hexdigest()
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            asked = self.headers.get("Range")
            if asked is None:
                return self.answer(200, content, headers, stop=path in hub.cut)
            hub.ranges.append(asked)
            first = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[first:], headers)

        def answer(
            self, code: int, content: bytes, headers: dict[str, str] | None = None, *, stop: bool = False
        ) -> None:
            self.send_response(code)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(content[: len(content) // 2] if stop else content)
            if stop:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def entry(path: str, content: bytes) -> dict:
    """A file as the Hub lists it."""
    digest = hashlib.sha256(content).hexdigest()
    told = {"type": "file", "path": path, "size": len(content), "oid": digest[:40]}
    return {**told, "lfs": {"oid": digest, "size": len(content), "pointerSize": 130}}


def switch_on(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Let huggingface_hub ask there, and keep what it gets in a cache of this test's own."""
    at = "huggingface_hub.constants"
    monkeypatch.setattr(f"{at}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{at}.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(f"{at}.ENDPOINT", address)
    monkeypatch.setattr(f"{at}.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(f"{at}.{name}", 60)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)  # between two tries
    monkeypatch.setenv("no_proxy", "*")  # it is on this machine
    close_session()  # whose proxies were those of its first request
