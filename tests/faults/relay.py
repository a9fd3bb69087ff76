"""A way to a server that can be cut: connections break off, and for a while nobody answers."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from servers import free_ports


class Relay:
    """Passes bytes on between a port of its own and one of this machine. cuts: connections that were broken off."""

    def __init__(self, upstream: int) -> None:
        (self.port,) = free_ports(1)
        self.upstream, self.cuts = upstream, 0
        self._open: list[socket.socket] = []
        self.mend()

    def cut(self) -> None:
        """Break off what is open, and answer nobody until `mend`."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cuts += len(self._open) // 2
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def mend(self) -> None:
        """Answer, for the first time or again."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._server,), name="relay", daemon=True).start()

    def _serve(self, server: socket.socket) -> None:
        with suppress(OSError):  # it was cut
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", self.upstream))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, sink), name="relay", daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
