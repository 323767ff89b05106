# SPDX-License-Identifier: Apache-2.0
"""Our client of calls over WebSockets (src/rpc/ws_client.c, src/net/ws_client.c) against python3-websockets, and against answers that no server should give."""
import asyncio
import base64
import hashlib
import os
import pathlib
import socket
import struct
import subprocess
import threading

import pytest

PROTOCOL = "davit.connect.v1"
TALK = pathlib.Path(os.environ.get("DAVIT_BUILD", "build")) / "test/unit/rpc/rpc-ws-talk"

websockets = pytest.importorskip("websockets")


def envelope(payload, flags=0):
    return struct.pack(">BI", flags, len(payload)) + payload


async def talk(address, count, size):
    p = await asyncio.create_subprocess_exec(TALK, address, str(count), str(size), stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(p.communicate(), 60)
    return out.decode().strip()


def against(handler, count=1, size=10, **options):
    """What rpc-ws-talk prints of a server with this handler."""
    async def both():
        options.setdefault("subprotocols", [PROTOCOL])
        async with websockets.serve(handler, "127.0.0.1", 0, max_size=None, **options) as s:
            host, port = s.sockets[0].getsockname()
            return await talk(f"{host}:{port}", count, size)
    return asyncio.run(both())


async def echo(ws):
    assert ws.path == "/davit.test.v1.EchoService/Chat?encoding=proto"
    assert ws.request_headers["Connect-Protocol-Version"] == "1"
    async for m in ws:
        if m[0] == 2:
            await ws.send(envelope(b"{}", 2))
            return
        await ws.send(m)


@pytest.mark.parametrize("count,size", [(20, 0), (5, 130), (5, 70_000), (1, 4 * 1024 * 1024 - 20)])
def test_both_ways(count, size):
    assert against(echo, count, size) == "ok"


def test_pings_and_fragments():
    async def handler(ws):
        async for m in ws:
            await (await ws.ping(b"still there?"))  # answered
            if m[0] == 2:
                await ws.send(envelope(b'{"metadata":{"a":["b"]}}', 2))
                return
            await ws.send([m[:1], m[1:3], m[3:]])  # one message in three frames
    assert against(handler, 5, 1000) == "ok"


@pytest.mark.parametrize("end,says", [
    (b'{"error":{"code":"unauthenticated","message":"no"}}', "unauthenticated no"),
    (b'{"error":{"code":"resource_exhausted","message":"a\\nb"}}', "resource_exhausted a?b"),
    (b'{"error":{"code":"never heard of","message":""}}', "unknown"),
    (b'{"error":{}}', "internal the end of the call is malformed"), (b'{"error":', "internal the end of the call is malformed"),
    (b"", "internal the end of the call is malformed"), (b"{}{}", "internal the end of the call is malformed"),
    (b'{"error":{"code":"not_found","message":"x","details":[{"type":"google.rpc.ErrorInfo","value":"!!"}, 5]}}',
     "internal the end of the call is malformed")])
def test_how_it_ends(end, says):
    async def handler(ws):
        await ws.recv()
        await ws.send(envelope(end, 2))
    assert against(handler) == says


@pytest.mark.parametrize("send,says", [
    (b"", "internal a message that is not one envelope"), (envelope(b"abc")[:-1], "internal a message that is not one envelope"),
    (envelope(b"") + b"x", "internal a message that is not one envelope"), ("text", "internal a message that is not one envelope"),
    (envelope(b"", 1), "internal a compressed message, but the head names no encoding"),
    (envelope(b"", 0x40), "internal a message with unknown flags 0x40")])
def test_messages_that_are_none(send, says):
    async def handler(ws):
        await ws.recv()
        await ws.send(send)
        await ws.wait_closed()
    assert against(handler) == says


def test_message_over_the_limit():
    async def handler(ws):
        await ws.recv()
        await ws.send(b"\0" * (4 * 1024 * 1024 + 6))
        await ws.wait_closed()
        assert ws.close_code == 1009
    assert against(handler) == "unavailable the connection was lost"


def test_server_goes():
    async def handler(ws):
        await ws.recv()
        await ws.close(1013, "later")
    assert against(handler) == "unavailable the peer closed the connection (WebSocket code 1013)"


def test_other_protocol():
    assert against(echo, subprotocols=["other"]) == "unimplemented the answer does not choose the sub-protocol davit.connect.v1"


# --- the handshake, byte by byte ------------------------------------------------------------------------------------------------
def raw(answer):
    """What rpc-ws-talk prints when @answer(key) is what its handshake gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        c, _ = listener.accept()
        data = b""
        while b"\r\n\r\n" not in data:
            data += c.recv(4096)
        key = next(line.split(b": ")[1] for line in data.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        try:
            c.sendall(answer(key))
            c.settimeout(10)
            while c.recv(4096):
                pass
        except OSError:
            pass
        c.close()
    t = threading.Thread(target=serve)
    t.start()
    host, port = listener.getsockname()
    out = subprocess.run([TALK, f"{host}:{port}", "1", "1"], stdout=subprocess.PIPE, timeout=60, check=False).stdout.decode().strip()
    t.join(20)
    listener.close()
    return out


def accept(key):
    proof = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (b"HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: " + proof
            + b"\r\nsec-websocket-protocol: davit.connect.v1\r\n")


ANSWERS = [
    (lambda key: accept(b"x" + key[1:]) + b"\r\n", "unimplemented the answer does not prove that the handshake was read"),
    (lambda key: accept(key) + b"sec-websocket-extensions: permessage-deflate\r\n\r\n", "unimplemented the answer chooses an extension that was not offered"),
    (lambda key: accept(key) + b"\r\n\x82\x83\1\2\3\4abc", "unavailable the connection was lost"),
    (lambda key: accept(key) + b"a: " + b"b" * 20000, "resource_exhausted"),
    (lambda key: b"220 x ESMTP\r\n\r\n", "invalid_argument"),
    (lambda key: b"HTTP/1.1 401 x\r\ncontent-type: application/json\r\ncontent-length: 45\r\n\r\n"
                 b'{"code":"unauthenticated","message":"expired"', "unauthenticated HTTP status 401 in place of a WebSocket"),
    (lambda key: b"HTTP/1.1 401 x\r\ncontent-type: application/json\r\ncontent-length: 46\r\n\r\n"
                 b'{"code":"unauthenticated","message":"expired"}', "unauthenticated expired"),
    (lambda key: b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nno", "unavailable HTTP status 502 in place of a WebSocket"),
    (lambda key: b"HTTP/1.1 404 x\r\ncontent-length: 100000\r\n\r\n" + b"n" * 100000, "unimplemented HTTP status 404 in place of a WebSocket"),
    (lambda key: b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "unknown HTTP status 200 in place of a WebSocket"),
]


@pytest.mark.parametrize("answer,says", ANSWERS)
def test_answers_to_the_handshake(answer, says):
    assert raw(answer).startswith(says)
