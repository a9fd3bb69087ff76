"""A proxy between a run and its S3 server that misbehaves when told to: the faults are simulated, the server is real.

Whoever tells it sees every request before it is forwarded and before it is answered, so that something can be killed
between the moment storage has changed and the moment anybody hears of it.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote

from servers import free_ports


class Fault(StrEnum):
    """What the proxy does to one request."""

    SLOW_DOWN = "503 SlowDown"  # not forwarded
    ERROR = "500 InternalError"  # not forwarded
    RESET = "reset"  # the connection is reset, not forwarded
    LATENCY = "latency"  # forwarded late
    TRUNCATED = "truncated GET"  # half of the body arrives, then the connection is reset
    LOST_ACK = "lost acknowledgement"  # forwarded and carried out; the connection is reset instead of an answer


@dataclass(frozen=True)
class Request:
    """A request as the client made it. number: from 1, in order of arrival. path: without the query, decoded.
    conditional: created only if absent. status: the server's, None before it answered. port: the client's."""

    number: int
    method: str
    path: str
    query: str
    conditional: bool
    status: int | None = None
    port: int = 0


Phase = Literal["before", "after"]
Watcher = Callable[[Request, Phase], Fault | None]
"""Asked before a request is forwarded, and before its answer is sent back; what it returns the first time happens."""


@dataclass(frozen=True)
class Entry:
    """What became of a request. fault: what was done to it, None when nothing was."""

    request: Request
    fault: Fault | None


class Proxy:
    """Listens on a port of its own. watcher: may be exchanged at any time; journal: every request since `clear`."""

    def __init__(self, upstream: int) -> None:
        """upstream: the port of the server on this machine."""
        self.upstream = upstream
        self.watcher: Watcher = lambda request, phase: None
        self.journal: list[Entry] = []
        self._lock = threading.Lock()
        self._count = 0
        (port,) = free_ports(1)
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.endpoint = f"http://127.0.0.1:{port}"
        threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True).start()

    def clear(self) -> None:
        """Forget the journal and the watcher."""
        with self._lock:
            self.journal, self.watcher, self._count = [], lambda request, phase: None, 0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def number(self) -> int:
        with self._lock:
            self._count += 1
            return self._count

    def note(self, request: Request, fault: Fault | None) -> None:
        with self._lock:
            self.journal.append(Entry(request, fault))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed in the middle of a request; that is the point."""


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            conditional = self.headers.get("If-None-Match") == "*"
            request = Request(
                proxy.number(), self.command, unquote(path), query, conditional, port=self.client_address[1]
            )
            fault = proxy.watcher(request, "before")
            if fault in (Fault.SLOW_DOWN, Fault.ERROR, Fault.RESET):
                proxy.note(request, fault)
                self._refuse(fault)
                return
            if fault is Fault.LATENCY:
                time.sleep(1.0)
            try:
                status, headers, answer = self._forward(body)
            except OSError:  # the server is down; its clients see what they would see without us
                proxy.note(request, None)
                self._reset()
                return
            answered = replace(request, status=status)
            proxy.note(answered, fault)
            proxy.watcher(answered, "after")
            if fault is Fault.LOST_ACK:
                self._reset()
                return
            self._answer(status, headers, answer, cut=fault is Fault.TRUNCATED)

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=60)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    # The host is signed, and stays. Bodies are sent at once.
                    if name.lower() not in {"connection", "expect", "keep-alive"}:
                        connection.putheader(name, value)
                connection.endheaders(body or None)
                response = connection.getresponse()
                return response.status, response.getheaders(), response.read()
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error
            finally:
                connection.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], answer: bytes, cut: bool) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in {"connection", "transfer-encoding", "content-length", "keep-alive"}:
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length")
            if self.command == "HEAD" and length is not None:
                self.send_header("Content-Length", length)
            elif status not in (204, 304):
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer[: len(answer) // 2] if cut else answer)
            if cut:
                self.wfile.flush()
                time.sleep(0.05)  # what was sent arrives before the reset does
                self._reset()

        def _refuse(self, fault: Fault) -> None:
            if fault is Fault.RESET:
                self._reset()
                return
            code, status = ("SlowDown", 503) if fault is Fault.SLOW_DOWN else ("InternalError", 500)
            text = f"<Error><Code>{code}</Code><Message>Please reduce your request rate.</Message></Error>".encode()
            self._answer(status, [("Content-Type", "application/xml")], text, cut=False)

        def _reset(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def log_message(self, format: str, *args: object) -> None:
            """The journal is the log."""

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    return Handler
