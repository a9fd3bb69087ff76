"""A web server of one file: with Range or without, cut after some bytes, or asking for a signature."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """body: what is served at every path. ranges: whether parts may be asked for. cut_after: bytes of an answer before
    the connection is closed, once per number. signature: what the query must hold, else 403. version: its ETag, "" for
    none. seen: the ranges that were asked for; sent: bytes in all."""

    body: bytes
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)
    signature: str = ""
    version: str = "1"
    url: str = ""
    seen: list[str] = field(default_factory=list)
    sent: int = 0


@contextmanager
def served(site: Site) -> Iterator[Site]:
    """The site at its `url` while inside."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            if site.signature not in self.path:
                self.send_error(403)
                return
            asked = self.headers.get("Range", "") if site.ranges else ""
            start, end = 0, len(site.body)
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last) + 1 if last else end, end)
            data = site.body[start:end]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(data)))
            if site.version:
                self.send_header("ETag", f'"{site.version}"')
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(site.body)}")
            if not site.ranges:
                self.send_header("Accept-Ranges", "none")
            self.end_headers()
            if not body:
                return
            site.seen.append(asked)
            if site.cut_after:
                data = data[: site.cut_after.pop(0)]
                self.close_connection = True
            self.wfile.write(data)
            site.sent += len(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/weights.pth"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
