"""A file server on 127.0.0.1 that can misbehave, for the tests of downloads."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What is served at a path, and how."""

    content: bytes = b""
    etag: str = '"1"'
    modified: str = ""
    ranges: bool = True
    cut: list[int] = field(default_factory=list)  # bytes sent before the connection breaks, one a request
    stall: list[int] = field(default_factory=list)  # bytes sent before nothing comes any more, one a request
    status: list[int] = field(default_factory=list)  # statuses instead of the content, one a request
    headers: dict[str, str] = field(default_factory=dict)
    length: bool = True  # whether Content-Length is sent


class Server:
    """Pages by path, and the requests that came: (path, headers)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def put(self, path: str, page: Page) -> str:
        self.pages[path] = page
        return self.url + path

    def ranges(self) -> list[str]:
        return [headers.get("Range", "") for _, headers in self.requests]


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server in a thread."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.requests.append((self.path, dict(self.headers)))
            page = server.pages.get(self.path)
            if page is None or page.status:
                self.send_response(page.status.pop(0) if page else 404)
                for name, value in (page.headers if page else {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = self.first_byte(page)
            if start > 0 and start >= len(page.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(page.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = page.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(page.content) - 1}/{len(page.content)}")
            for name, value in {"ETag": page.etag, "Last-Modified": page.modified, **page.headers}.items():
                if value:
                    self.send_header(name, value)
            if page.length:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            try:
                if page.cut:
                    self.wfile.write(body[: page.cut.pop(0)])
                    self.close_connection = True
                elif page.stall:
                    self.wfile.write(body[: page.stall.pop(0)])
                    time.sleep(1)
                    self.close_connection = True
                else:
                    self.wfile.write(body)
                    self.close_connection = not page.length
            except OSError:  # the client has gone
                self.close_connection = True

        def first_byte(self, page: Page) -> int:
            """Where to start: the range asked for, unless the client holds another version."""
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            tie = self.headers.get("If-Range")
            same = tie is None or tie in (page.etag, page.modified)
            return int(asked[1]) if asked and page.ranges and same else 0

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        service.daemon_threads = True
        server = Server(f"http://127.0.0.1:{service.server_port}")
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        service.shutdown()
        thread.join()
