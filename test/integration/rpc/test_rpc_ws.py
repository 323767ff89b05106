# SPDX-License-Identifier: Apache-2.0
"""Calls over WebSockets (src/rpc/ws_server.c, src/net/ws.c) against python3-websockets, and raw bytes for what that would not send."""
import asyncio
import base64
import hashlib
import json
import pathlib
import socket
import struct
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROTOCOL = "davit.connect.v1"
SERVICE = "/davit.test.v1.EchoService/"
MESSAGE_MAX = 4 * 1024 * 1024

websockets = pytest.importorskip("websockets")


def envelope(payload, flags=0):
    payload = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return struct.pack(">BI", flags, len(payload)) + payload


END = envelope({}, 2)


def opened(data):
    """(flags, payload) of a message from the server."""
    flags, n = struct.unpack(">BI", data[:5])
    assert len(data) == 5 + n
    return flags, data[5:]


def connect(server, method, **options):
    options = {"subprotocols": [PROTOCOL], "max_size": None, "open_timeout": 20, "close_timeout": 20, **options}
    return websockets.connect(f"ws://{server}{SERVICE}{method}", **options)


def run(body):
    async def limited():
        return await asyncio.wait_for(body, 60)
    return asyncio.run(limited())


async def take(ws):
    """All messages up to the end: (messages, end)."""
    messages = []
    while True:
        flags, payload = opened(await ws.recv())
        if flags == 2:
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert ws.close_code == 1000
            return messages, json.loads(payload)
        assert flags == 0
        messages.append(json.loads(payload))


# --- calls --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["Chat", "Converse"])
def test_both_ways(server, method):
    async def talk():
        async with connect(server, method) as ws:
            assert ws.subprotocol == PROTOCOL and not ws.extensions
            for i in range(100):
                await ws.send(json.dumps({"text": f"☠ {i}"}) if i % 2 else envelope({"text": f"☠ {i}"}))
                flags, payload = opened(await ws.recv())
                assert flags == 0 and json.loads(payload) == {"text": f"☠ {i}"}
            await ws.send(END)
            assert await take(ws) == ([], {})
    run(talk())


def test_server_ends(server):
    async def talk():
        async with connect(server, "Chat") as ws:
            await ws.send('{"text":"one"}')
            await ws.send('{"text":"bye"}')
            assert await take(ws) == ([{"text": "one"}], {})
    run(talk())


def test_failure(server):
    async def talk():
        async with connect(server, "Chat") as ws:
            await ws.send('{"text":"fail"}')
            messages, end = await take(ws)
            assert messages == [] and end["error"]["code"] == "failed_precondition" and end["error"]["message"] == "told to fail: ☠ 100%"
            assert end["metadata"]["davit-hint"] == ["say something else"]
    run(talk())


def test_server_streaming(server):
    """One message is the request: its end need not be told. Slowly read, the server waits."""
    async def talk():
        async with connect(server, "Produce", max_queue=1) as ws:
            await ws.send('{"count":200,"size":100000}')
            await asyncio.sleep(1)
            messages, end = await take(ws)
            assert len(messages) == 200 and end == {} and all(len(base64.b64decode(m["payload"])) == 100000 for m in messages)
    run(talk())


def test_client_streaming(server):
    async def talk():
        async with connect(server, "Collect") as ws:
            for i in range(50):
                await ws.send(json.dumps({"text": str(i)}))
            await ws.send(END)
            messages, end = await take(ws)
            assert len(messages) == 1 and end == {}
    run(talk())


def test_binary_messages(server):
    async def talk():
        async with connect(server, "Chat?x=1&encoding=proto") as ws:
            await ws.send(envelope(b"\x0a\x02hi"))
            assert opened(await ws.recv()) == (0, b"\x0a\x02hi")
            await ws.send('{"text":"hi"}')
            messages, end = await take(ws)
            assert messages == [] and end["error"]["code"] == "invalid_argument"
    run(talk())


@pytest.mark.parametrize("message,code", [
    ("{", "invalid_argument"), ("", "invalid_argument"), ('{"text":1}', "invalid_argument"), (b"", "invalid_argument"), (b"\0\0\0\0", "invalid_argument"),
    (envelope(b"{}") + b"x", "invalid_argument"), (envelope(b"{}")[:-1], "invalid_argument"), (envelope(b"{}", 1), "invalid_argument"),
    (envelope(b"{}", 4), "invalid_argument"), (envelope(b"{}", 0x80), "invalid_argument")])
def test_bad_messages(server, message, code):
    async def talk():
        async with connect(server, "Chat") as ws:
            await ws.send(message)
            messages, end = await take(ws)
            assert messages == [] and end["error"]["code"] == code
    run(talk())


def test_nothing_behind_the_end(server):
    async def talk():
        async with connect(server, "Collect") as ws:
            await ws.send(END)
            await ws.send('{"text":"late"}')
            _, end = await take(ws)
            assert end == {} or end["error"]["code"] == "invalid_argument"
    run(talk())


def test_message_limit(server):
    async def talk():
        async with connect(server, "Chat?encoding=proto") as ws:
            size = MESSAGE_MAX - 5
            await ws.send(envelope(b"\x12" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21]) + bytes(size)))
            flags, payload = opened(await ws.recv())
            assert flags == 0 and len(payload) == MESSAGE_MAX
            with pytest.raises(websockets.ConnectionClosed):
                await ws.send(envelope(bytes(MESSAGE_MAX + 1)))
                await ws.recv()
            assert ws.close_code == 1009
    run(talk())


def test_what_the_manual_says_to_pages(server, tmp_path):
    """The script of doc/rpc.md, in the WebSocket of node, which is that of browsers."""
    if subprocess.run(["node", "--experimental-websocket", "-e", "new TextDecoder()"], capture_output=True, check=False).returncode:
        pytest.skip("this node has no WebSocket")
    script = (ROOT / "doc/rpc.md").read_text().partition("```js\n")[2].partition("```")[0]
    (tmp_path / "page.js").write_text(script + """
const said = [];
const chat = call(process.argv[2] + "Chat", {
  onMessage: (m) => { said.push(m.text); if (said.length === 2) chat.finish(); },
  onEnd: (e) => { console.log(JSON.stringify([said, e ?? null])); call(process.argv[2] + "Chat", { onEnd: (f) => console.log(f.code) }).send({ text: "fail" }); },
});
chat.send({ text: "☠" });
chat.send({ text: "b" });
""")
    p = subprocess.run(["node", "--experimental-websocket", tmp_path / "page.js", f"ws://{server}{SERVICE}"], capture_output=True, text=True, check=True,
                       timeout=30)
    assert p.stdout.splitlines() == ['[["☠","b"],null]', "failed_precondition"]


# --- the handshake ------------------------------------------------------------------------------------------------------------
KEY = base64.b64encode(b"0123456789abcdef").decode()
HANDSHAKE = {"Host": "server", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Protocol": f"other, {PROTOCOL}"}


def dial(server):
    host, port = server.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def shake(s, method="Chat", verb="GET", extra="", body="", **changes):
    """Sends a handshake; returns (status, head, what came behind it)."""
    fields = {**HANDSHAKE, **{k.replace("_", "-"): v for k, v in changes.items()}}
    s.sendall((f"{verb} {SERVICE}{method} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items() if v is not None)
               + extra + "\r\n" + body).encode())
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = s.recv(4096)
        assert chunk, data
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    head = head.decode().lower()
    return int(head.split()[1]), head, rest


def test_handshake_answer(server):
    with dial(server) as s:
        status, head, _ = shake(s, Sec_WebSocket_Extensions="permessage-deflate")
        proof = base64.b64encode(hashlib.sha1((KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        assert status == 101 and f"sec-websocket-accept: {proof.lower()}" in head and f"sec-websocket-protocol: {PROTOCOL}" in head
        assert "extensions" not in head


@pytest.mark.parametrize("status,how", [
    (400, {"Sec-WebSocket-Protocol": None}), (400, {"Sec-WebSocket-Protocol": "davit.connect.v2"}),
    (426, {"Sec-WebSocket-Version": "8"}), (426, {"Sec-WebSocket-Version": None}), (400, {"Sec-WebSocket-Key": None}),
    (400, {"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2Rl"}), (400, {"Sec-WebSocket-Key": "!" * 24}), (400, {"extra": f"Sec-WebSocket-Key: {KEY}\r\n"}),
    (400, {"Content-Length": "1", "body": "x"}), (403, {"Origin": "http://evil.example"}), (403, {"Origin": "null"}), (403, {"Origin": "http://server.evil.example"}),
    (403, {"Origin": "file://server"}), (403, {"extra": "Origin: http://server\r\nOrigin: http://server\r\n"}), (501, {"method": "Nothing"}),
    (405, {"Upgrade": "h2c"}), (405, {"Connection": "keep-alive"}), (401, {"X-Deny": "1"}),
    (101, {"Origin": "http://server"}), (101, {"method": "Echo"}), (101, {"Origin": "https://SERVER"}), (101, {"Origin": "https://dash.example"}), (101, {"Upgrade": "WebSocket"})])
def test_handshake(server, status, how):
    with dial(server) as s:
        got, head, _ = shake(s, **how)
        assert got == status
        if status == 426:
            assert "sec-websocket-version: 13" in head


def test_refusal_tells_why(server):
    with dial(server) as s:
        status, head, rest = shake(s, X_Deny="1")
        assert status == 401 and json.loads(rest)["code"] == "unauthenticated" and "content-type: application/json" in head


def test_connections_are_limited(server):
    sockets = []
    try:
        for _ in range(256):
            sockets.append(dial(server))
            assert shake(sockets[-1])[0] == 101
        sockets.append(dial(server))
        assert shake(sockets[-1])[0] == 503
    finally:
        for s in sockets:
            s.close()


# --- frames ---------------------------------------------------------------------------------------------------------------------
def frame(first, payload=b"", mask=b"\x01\x02\x03\x04"):
    n = len(payload)
    form = 0 if n < 126 else 2 if n < 65536 else 8
    head = bytes([first, 0x80 | (n if form == 0 else 126 if form == 2 else 127)]) + (n.to_bytes(form, "big") if form else b"")
    return head + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(payload))


def frames(s, rest=b""):
    """(first byte, payload) of the server's frames until it ends the connection."""
    def more(n):
        nonlocal rest
        while len(rest) < n:
            chunk = s.recv(65536)
            if not chunk:
                return None
            rest += chunk
        piece, rest = rest[:n], rest[n:]
        return piece

    while head := more(2):
        n = head[1]
        assert not n & 0x80
        if n >= 126:
            n = int.from_bytes(more(2 if n == 126 else 8), "big")
        yield head[0], more(n) if n else b""


def talk_raw(server, data, method="Chat"):
    """What the server says to these bytes, up to its end."""
    with dial(server) as s:
        status, _, rest = shake(s, method)
        assert status == 101
        s.sendall(data)
        return list(frames(s, rest))


@pytest.mark.parametrize("data,code", [
    (b"\x81\x01x", 1002), (frame(0xC1, b"{}"), 1002), (frame(0x83), 1002), (frame(0x8B), 1002), (frame(0x80, b"x"), 1002), (frame(0x09, b"x"), 1002),
    (frame(0x89, b"x" * 126), 1002), (b"\x82\xfe\x00\x05" + b"maskabcde", 1002), (b"\x82\xff" + (1 << 63).to_bytes(8, "big") + b"mask", 1002),
    (b"\x82\xff" + (MESSAGE_MAX + 6).to_bytes(8, "big") + b"mask", 1009), (frame(0x01, b"a") + frame(0x81, b"b"), 1002), (frame(0x81, b"\xed\xa0\x80"), 1007),
    (frame(0x01, b"\xff"), 1007), (frame(0x88, b"\x03"), 1002), (frame(0x88, struct.pack(">H", 1005)), 1002), (frame(0x88, struct.pack(">H", 1006)), 1002),
    (frame(0x88, b"\x03\xe8\xff"), 1007)])
def test_broken_frames_close(server, data, code):
    got = talk_raw(server, data)
    assert got[-1][0] == 0x88 and struct.unpack(">H", got[-1][1][:2])[0] == code


def test_control_frames(server):
    got = talk_raw(server, frame(0x01, b'{"text":') + frame(0x89, b"p" * 125) + frame(0x8A, b"pong") + frame(0x00) + frame(0x80, b'"x"}')
                   + frame(0x88, struct.pack(">H", 4000) + b"bye"))
    assert [g[0] for g in got] == [0x8A, 0x82, 0x88]
    assert got[0][1] == b"p" * 125 and opened(got[1][1]) == (0, b'{"text":"x"}') and got[2][1] == struct.pack(">H", 4000)


def test_close_without_code(server):
    assert talk_raw(server, frame(0x88)) == [(0x88, b"")]


def test_frames_that_come_with_the_handshake(server):
    with dial(server) as s:
        s.sendall((f"GET {SERVICE}Chat HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in HANDSHAKE.items()) + "\r\n").encode()
                  + frame(0x81, b'{"text":"early"}') + frame(0x88))
        data = b""
        while b"\r\n\r\n" not in data:
            data += s.recv(4096)
        got = list(frames(s, data.partition(b"\r\n\r\n")[2]))
        assert opened(got[0][1]) == (0, b'{"text":"early"}')


def test_a_client_that_does_not_read_is_not_read(server):
    """What it sends piles up on its side; when it reads, all goes on."""
    message = frame(0x82, envelope({"payload": base64.b64encode(bytes(60000)).decode()}))
    with dial(server) as s:
        assert shake(s)[0] == 101
        s.settimeout(1)
        sent, pending = 0, b""
        try:
            while sent < 256 * 1024 * 1024:
                pending = pending or message
                n = s.send(pending)
                pending = pending[n:]
                sent += n
        except TimeoutError:
            pass
        assert sent < 64 * 1024 * 1024
        s.settimeout(20)
        # Now somebody reads, and the rest of the message and a goodbye can go.
        s.setblocking(False)
        rest, tail = b"", pending + frame(0x88)
        async def both():
            nonlocal rest
            loop = asyncio.get_running_loop()
            writer = asyncio.ensure_future(loop.sock_sendall(s, tail))
            while chunk := await loop.sock_recv(s, 65536):
                rest += chunk
            await writer
        asyncio.run(asyncio.wait_for(both(), 60))
        s.setblocking(True)
        assert rest.endswith(b"\x88\x00")


def test_a_client_that_goes_is_noticed(server):
    for how in (socket.SHUT_RDWR, None):
        with dial(server) as s:
            assert shake(s, "Converse")[0] == 101
            s.sendall(frame(0x81, b'{"text":"x"}')[:7])
            if how is not None:
                s.shutdown(how)
            else:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with dial(server) as s:
        assert shake(s)[0] == 101


def test_closing_has_a_limit(server):
    """A client that does not answer Close, and keeps talking, is cut after five seconds."""
    with dial(server) as s:
        _, _, rest = shake(s)
        s.sendall(frame(0x81, b'{"text":"bye"}'))
        begin = time.monotonic()
        got = []
        for first, payload in frames(s, rest):
            got.append((first, payload))
            s.sendall(frame(0x89, b"still here"))
        assert [first for first, _ in got] == [0x82, 0x88] and 3 < time.monotonic() - begin < 10


@pytest.mark.all_tier
def test_silence_is_asked_and_ended(server):
    with dial(server) as s:
        _, _, rest = shake(s)
        s.settimeout(60)
        begin = time.monotonic()
        it = frames(s, rest)
        assert next(it) == (0x89, b"") and 25 < time.monotonic() - begin < 40
        s.sendall(frame(0x8A))
        assert next(it) == (0x89, b"") and 55 < time.monotonic() - begin < 70
        assert list(it) == [] and 75 < time.monotonic() - begin < 90
