"""A web server on the loopback interface that misbehaves on request, and folders that are nobody's home."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Page:
    body: bytes
    status: int = 200
    missing: int = 0  # bytes of the body that are announced and never sent
    wait: float = 0.0  # seconds before the answer
    pause: float = 0.0  # seconds between every 256 bytes


@dataclass
class Site:
    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def serve(self, path: str, body: bytes, **faults: Any) -> str:
        """Serve ``body`` at ``path`` with the `Page` faults given, and return its URL."""
        self.pages[f"/{path}"] = Page(body, **faults)
        return self.url + path


@pytest.fixture
def site() -> Iterator[Site]:
    """Serves ``site.pages`` by path and notes in ``site.asked`` what was asked for."""
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.asked.append(self.path)
            page = here.pages.get(self.path, Page(b"no such page", status=404))
            closing.wait(page.wait)
            try:
                self.send_response(page.status)
                self.send_header("Content-Length", str(len(page.body)))
                self.end_headers()
                body = page.body[: len(page.body) - page.missing]
                for start in range(0, len(body), 256):
                    self.wfile.write(body[start : start + 256])
                    closing.wait(page.pause)
            except OSError:
                pass  # the client hung up, as it should

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Site(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield here
    closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def refused() -> str:
    """A URL on the loopback interface where nothing listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's folders nor the machine's settings take part; an empty MXNET_HOME of its own for each test."""
    for name in ("GLUON_RNN_DATA", "MXNET_GLUON_REPO"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))


@pytest.fixture
def no_network(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends every request to a proxy that is not there: the real sources fail at once and are never asked."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, refused)


@pytest.fixture
def notices() -> list[str]:
    return []
