# SPDX-License-Identifier: Apache-2.0
"""What a hostile client of HTTP/2 can try, in raw frames against a real server: whatever it is, the connection ends within a bound (or the
stream is refused), the server's memory stays where it was, and another client is served all the while."""
import http.client
import json
import os
import pathlib
import select
import socket
import struct
import threading
import time

import pytest

from lib import echo as echo_lib

hpack = pytest.importorskip("hpack")
h2_settings = pytest.importorskip("h2.settings")
frames = pytest.importorskip("hyperframe.frame")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SERVICE = "/davit.test.v1.EchoService/"
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, CALM = 1, 3, 11
# What the server may have grown by after an attack. Under the address sanitizer freed memory stays in quarantine: no measure there.
GROWTH = 4 << 20


class Server:
    def __init__(self, process, host, port):
        self.process, self.host, self.port = process, host, port

    def rss(self):
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def sanitized(self):
        return "libasan" in pathlib.Path(f"/proc/{self.process.pid}/maps").read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="module")
def server():
    with echo_lib.server() as (process, address):
        host, port = address.split(":")
        yield Server(process, host, int(port))


def echo(server):
    c = http.client.HTTPConnection(server.host, server.port, timeout=10)
    c.request("POST", SERVICE + "Echo", json.dumps({"text": "hi"}), {"content-type": "application/json"})
    r = c.getresponse()
    assert r.status == 200 and json.loads(r.read()) == {"text": "hi"}
    c.close()


@pytest.fixture(autouse=True)
def unharmed(server):
    """Another client is served during the test, and the server is as small afterwards as it was before."""
    for _ in range(3):
        echo(server)
    before, stop, waits, failures = server.rss(), threading.Event(), [], []

    def client():
        while not stop.is_set():
            began = time.monotonic()
            try:
                echo(server)
            except (OSError, AssertionError, http.client.HTTPException) as e:
                failures.append(e)
            waits.append(time.monotonic() - began)
            stop.wait(0.05)

    other = threading.Thread(target=client)
    other.start()
    yield
    stop.set()
    other.join()
    assert waits and not failures and max(waits) < 5
    if not server.sanitized():
        assert server.rss() - before < GROWTH


class Peer:
    """A client of raw frames. What the server says is kept: frames as (type, flags, stream, payload)."""

    def __init__(self, server, settings=b"", ack=True, preface=True):
        self.s = socket.create_connection((server.host, server.port), timeout=20)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.setblocking(False)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.bytes, self.frames, self.closed, self.next_stream = b"", [], False, 1
        if preface:
            self.send(PREFACE + frame(4, 0, 0, settings))
            self.wait(lambda: self.of(4))
        if preface and ack:
            self.send(frame(4, 1, 0))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.s.close()

    def of(self, kind):
        return [f for f in self.frames if f[0] == kind]

    def goaway(self):
        """(code, debug text) of the last GOAWAY, or None."""
        all_of = self.of(7)
        return (struct.unpack(">I", all_of[-1][3][4:8])[0], all_of[-1][3][8:].decode()) if all_of else None

    def resets(self):
        return [struct.unpack(">I", f[3])[0] for f in self.of(3)]

    def heads(self):
        return [dict(self.decoder.decode(f[3])) for f in self.of(1)]

    def step(self, timeout, out=b""):
        """Reads what is there, writes some of @out; returns what is left of it."""
        try:
            r, w, _ = select.select([self.s], [self.s] if out else [], [], timeout)
            if r:
                got = self.s.recv(1 << 16)
                self.closed = self.closed or not got
                self.bytes += got
            if w and not self.closed:
                out = out[self.s.send(out):]
        except (ConnectionResetError, BrokenPipeError):
            self.closed = True
        while len(self.bytes) >= 9 and len(self.bytes) >= 9 + int.from_bytes(self.bytes[:3], "big"):
            n = 9 + int.from_bytes(self.bytes[:3], "big")
            f, self.bytes = self.bytes[:n], self.bytes[n:]
            self.frames.append((f[3], f[4], int.from_bytes(f[5:9], "big") & 0x7fffffff, f[9:]))
        return out

    def send(self, data, limit=20):
        """Until all is written or the connection is closed."""
        end = time.monotonic() + limit
        while data and not self.closed and time.monotonic() < end:
            data = self.step(0.5, data)

    def wait(self, condition, limit=20):
        end = time.monotonic() + limit
        while not condition() and not self.closed and time.monotonic() < end:
            self.step(0.2)
        return condition()

    def flood(self, make, count):
        """Sends make(i) for i below @count, in pieces, until the server has had enough. Returns how many were sent."""
        sent = 0
        while sent < count and not self.closed:
            n = min(50, count - sent)
            self.send(b"".join(make(i) for i in range(sent, sent + n)))
            sent += n
        self.wait(lambda: self.closed)
        return sent

    def request(self, method="Echo", extra=(), body=b"\0\0\0\0\0", end=True, finish_head=True, replace=()):
        """The frames of a gRPC call on a new stream."""
        fields = dict([(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", SERVICE + method),
                       ("content-type", "application/grpc"), ("te", "trailers"), *replace])
        block = self.encoder.encode([*fields.items(), *extra])
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        out = frame(1, 4 if finish_head else 0, stream, block)
        if body is not None:
            out += frame(0, 1 if end else 0, stream, body)
        return out

    def ended_by(self, *codes):
        assert self.closed, "the connection is still open"
        assert self.goaway() is None or self.goaway()[0] in codes, self.goaway()
        return True


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings_of(**values):
    f = frames.SettingsFrame(0, settings={h2_settings.SettingCodes[k]: v for k, v in values.items()})
    return f.serialize()[9:]


pytestmark = pytest.mark.req("MA-3")
smoke = pytest.mark.smoke  # all but what takes its time


@smoke
def test_a_decent_call(server):
    with Peer(server) as p:
        p.send(p.request())
        assert p.wait(lambda: len(p.of(1)) == 2)
        assert p.heads()[-1]["grpc-status"] == "0" and not p.closed


# --- Floods: ended after a number that no decent client reaches ------------------------------------------------------------------
@smoke
@pytest.mark.parametrize("what,text", [
    ("rapid reset", "too many resets"),
    ("ping", "too_many_pings"),
    ("ping beside calls", "too_many_pings"),
    ("settings", "too many settings"),
    ("priority", "too many frames for nothing"),
    ("priority update", "too many frames for nothing"),
    ("unknown frame", "too many frames for nothing"),
    ("window update", "too many window updates"),
    ("empty data", "too many empty frames"),
    ("padding only", "too many empty frames"),
    ("goaway", "too many frames for nothing"),
])
def test_floods(server, what, text):
    with Peer(server) as p:
        p.send(p.request("Converse", end=False))
        make = {
            "rapid reset": lambda i: p.request("Wait", body=b"\0\0\0\0\x03\x08\xf4\x03") + frame(3, 0, p.next_stream - 2, struct.pack(">I", 8)),
            "ping": lambda i: frame(6, 0, 0, struct.pack(">Q", i)),
            "ping beside calls": lambda i: frame(6, 0, 0, struct.pack(">Q", i)) + (p.request() if i % 3 == 0 else b""),
            "settings": lambda i: frame(4, 0, 0, settings_of(MAX_FRAME_SIZE=16384 + i)),
            "priority": lambda i: frame(2, 0, 2 * i + 1, struct.pack(">IB", 0 if i < 1 else 2 * i - 1, 16)),
            "priority update": lambda i: frame(16, 0, 0, struct.pack(">I", 1) + b"u=1"),
            "unknown frame": lambda i: frame(0xee, 0, 0, b"x" * 100),
            "window update": lambda i: frame(8, 0, i % 2, struct.pack(">I", 1)),
            "empty data": lambda i: frame(0, 0, 1),
            "padding only": lambda i: frame(0, 8, 1, b"\x02\0\0"),
            "goaway": lambda i: frame(7, 0, 0, struct.pack(">II", 0, 0)),
        }[what]
        sent = p.flood(make, 20000)
        p.ended_by(CALM)
        assert sent < 20000
        if p.goaway():  # it may be lost when the server closes with our bytes unread
            assert p.goaway()[1] == text


@smoke
def test_continuation_flood(server):
    with Peer(server) as p:
        p.send(p.request(body=None, finish_head=False))
        p.flood(lambda i: frame(9, 0, 1, p.encoder.encode([(f"x-{i}", "v" * 50)])), 20000)
        assert p.closed


@smoke
def test_continuations_of_nothing(server):
    with Peer(server) as p:
        p.send(p.request(body=None, finish_head=False))
        p.flood(lambda i: frame(9, 0, 1), 20000)
        assert p.closed


@smoke
def test_settings_acks_nobody_reads(server):
    """Answers queue up for a peer that does not read."""
    with Peer(server) as p:
        p.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        data, end = frame(6, 0, 0, b"pingpong") * 200000, time.monotonic() + 10
        while time.monotonic() < end:
            try:
                _, w, _ = select.select([], [p.s], [], 0.2)
                if w:
                    data = data[p.s.send(data):]
            except (ConnectionResetError, BrokenPipeError):
                break
        p.wait(lambda: p.closed)
        p.ended_by(CALM)


# --- The server is made to reset streams (MadeYouReset) -------------------------------------------------------------------------
@smoke
@pytest.mark.parametrize("what", ["content-length mismatch", "window overflow", "window update of 0", "data on half-closed", "upper case",
                                  "connection header", "bad value", "no path", "wrong size of priority"])
def test_made_you_reset(server, what):
    with Peer(server) as p:
        def make(_):
            if what == "content-length mismatch":
                return p.request("Wait", [("content-length", "3")], b"\0\0\0\0\x03\x08\xf4\x03")
            if what == "upper case":
                return p.request(extra=[("X-Upper", "1")])
            if what == "connection header":
                return p.request(extra=[("connection", "close")])
            if what == "bad value":
                return p.request(extra=[("x-bad", "a\x01b")])
            if what == "no path":
                return p.request(replace=[(":path", "")])
            ask = p.request("Wait", body=b"\0\0\0\0\x03\x08\xf4\x03")
            stream = p.next_stream - 2
            return ask + {"window overflow": frame(8, 0, stream, struct.pack(">I", 0x7fffffff)),
                          "window update of 0": frame(8, 0, stream, struct.pack(">I", 0)),
                          "data on half-closed": frame(0, 0, stream, b"x"),
                          "wrong size of priority": frame(2, 0, stream, b"x")}[what]

        sent = p.flood(make, 20000)  # more than the buffers between us hold while the server is busy
        p.ended_by(PROTOCOL_ERROR, FLOW_CONTROL_ERROR, CALM, 5, 6)
        assert sent < 20000


# --- Heads ---------------------------------------------------------------------------------------------------------------------
@smoke
def test_hpack_bomb(server):
    with Peer(server) as p:
        first = p.encoder.encode([("x", "v" * 3900)])
        again = b"\xbe"  # the newest entry of the table
        block = p.request(body=None)[9:] + first
        block += again * (16300 - len(block))
        for i in range(20):
            p.send(frame(1, 5, 2 * i + 1, block))
        p.wait(lambda: p.closed)
        p.ended_by(CALM)


@smoke
def test_head_over_the_limit_is_refused_and_costs_no_connection(server):
    with Peer(server) as p:
        p.send(p.request(extra=[("x", "v" * 9000)]))
        assert p.wait(lambda: p.of(1))
        p.send(p.request())
        assert p.wait(lambda: len(p.of(1)) >= 3)
        assert not p.closed and p.heads()[-1]["grpc-status"] == "0"


@smoke
def test_head_without_end(server):
    """128 KB in one head, as it is."""
    with Peer(server) as p:
        block = p.request(body=None)[9:] + b"".join(b"\0" + bytes([3]) + b"%03d" % (i % 1000) + b"\x7f\x81\x07" + b"v" * 1024 for i in range(120))
        parts = [block[i:i + 16384] for i in range(0, len(block), 16384)]
        p.send(frame(1, 1, 1, parts[0]) + b"".join(frame(9, 0, 1, x) for x in parts[1:-1]) + frame(9, 4, 1, parts[-1]))
        p.wait(lambda: p.closed)
        p.ended_by(CALM)


# --- Slowness ------------------------------------------------------------------------------------------------------------------
def test_what_never_comes(server):
    """Half a preface, a preface without settings, half a head: each has its time. (Exact times, and settings that are never acknowledged, are
    in the unit test h2.)"""
    half, bare, head = Peer(server, preface=False), Peer(server, preface=False), Peer(server)
    try:
        half.send(PREFACE[:10])
        bare.send(PREFACE)
        head.send(head.request(body=None, finish_head=False))
        end = time.monotonic() + 15
        peers = [half, bare, head]
        while time.monotonic() < end and not all(p.closed for p in peers):
            for p in peers:
                if not p.closed:
                    p.step(0.05)
        assert [p.closed for p in peers] == [True] * 3
        assert bare.goaway()[0] == PROTOCOL_ERROR and head.goaway()[0] == PROTOCOL_ERROR
    finally:
        for p in (half, bare, head):
            p.s.close()


@smoke
def test_answers_nobody_lets_go(server):
    """No window: answers wait, but no more than the streams of a connection may hold, and they go with the connection."""
    with Peer(server, settings=settings_of(INITIAL_WINDOW_SIZE=0)) as p:
        p.wait(lambda: False, 0.3)
        for _ in range(100):
            p.send(p.request("Produce", body=b"\0\0\0\0\x05\x08\x01\x10\x80\x40"))
        assert p.wait(lambda: len(p.of(1)) >= 100)
        assert not p.closed
        p.send(p.request())
        p.wait(lambda: p.closed or p.resets(), 5)
        assert p.closed or 7 in p.resets()  # no 101st stream


@smoke
def test_more_streams_than_allowed(server):
    with Peer(server) as p:
        p.wait(lambda: False, 0.3)
        p.flood(lambda i: p.request("Wait", body=b"\0\0\0\0\x03\x08\xa0\x1f"), 3000)
        p.ended_by(PROTOCOL_ERROR, CALM)


@smoke
def test_more_streams_before_the_limit_is_acknowledged(server):
    with Peer(server, ack=False) as p:
        p.flood(lambda i: p.request("Wait", body=b"\0\0\0\0\x03\x08\xa0\x1f"), 3000)
        p.ended_by(PROTOCOL_ERROR, CALM)
