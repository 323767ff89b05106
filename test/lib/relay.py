# SPDX-License-Identifier: Apache-2.0
"""relay: servers between a caller and a port of loopback. Relay gives its callers another source address: what davitd limits per source is not
the subject."""
import contextlib
import itertools
import socket
import threading

_next = itertools.count(2)


class Listener:
    """A port of loopback; took(caller) is called for each connection, on one thread, from __init__ to close() or its first OSError."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.addr = f"127.0.0.1:{self.port}"
        self.spawn(self.accept)

    @staticmethod
    def spawn(what, *args):
        threading.Thread(target=what, args=args, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                self.took(self.server.accept()[0])

    def close(self):
        self.server.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Relay(Listener):
    def __init__(self, port):
        n = next(_next)
        self.to, self.source = port, f"127.1.{n // 250}.{1 + n % 250}"
        super().__init__()

    def took(self, caller):
        upstream = socket.create_connection(("127.0.0.1", self.to), source_address=(self.source, 0))
        self.spawn(self.pump, caller, upstream)
        self.spawn(self.pump, upstream, caller)

    @staticmethod
    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        with contextlib.suppress(OSError):
            b.shutdown(socket.SHUT_WR)
