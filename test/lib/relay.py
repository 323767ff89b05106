# SPDX-License-Identifier: Apache-2.0
"""relay: a TCP relay to a port of loopback that gives its callers another source address: what davitd limits per source is not the subject."""
import contextlib
import itertools
import socket
import threading

_next = itertools.count(2)


class Relay:
    def __init__(self, port):
        n = next(_next)
        self.port, self.source = port, f"127.1.{n // 250}.{1 + n % 250}"
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addr = "127.0.0.1:%d" % self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.close()

    def accept(self):
        while True:
            try:
                caller, _ = self.server.accept()
                upstream = socket.create_connection(("127.0.0.1", self.port), source_address=(self.source, 0))
            except OSError:
                return
            for a, b in ((caller, upstream), (upstream, caller)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        with contextlib.suppress(OSError):
            b.shutdown(socket.SHUT_WR)
