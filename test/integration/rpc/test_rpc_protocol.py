# SPDX-License-Identifier: Apache-2.0
"""The rules of gRPC and Connect on the server's side, one by one: grpcio for what a decent client can be made to send, python3-h2 and curl
with heads and bodies of our own making for the rest."""
import base64
import gzip
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent
MIB4 = 4 * 1024 * 1024
SERVICE = "/davit.test.v1.EchoService/"

grpc = pytest.importorskip("grpc")
h2_connection = pytest.importorskip("h2.connection")
h2_config = pytest.importorskip("h2.config")
h2_events = pytest.importorskip("h2.events")


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """The python module of echo.proto's messages."""
    out = tmp_path_factory.mktemp("stubs")
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"-I{HERE}", f"--python_out={out}", "echo.proto", "davit/options/v1/options.proto"],
                   check=True, timeout=60)
    sys.path.insert(0, str(out))
    try:
        import echo_pb2
        yield echo_pb2
    finally:
        sys.path.remove(str(out))


@pytest.fixture
def channel(server):
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 16384)]
    with grpc.insecure_channel(server, options=options) as c:
        yield c


def method(channel, kind, name, messages, **kw):
    return getattr(channel, kind)(SERVICE + name, request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
                                  response_deserializer=messages.EchoResponse.FromString, **kw)


def code_of(call):
    with pytest.raises(grpc.RpcError) as e:
        for _ in call():
            pass
    return e.value.code()


# --- gRPC ---------------------------------------------------------------------------------------------------------------------
def test_four_kinds_on_fibers(channel, messages):
    q = messages.EchoRequest
    collect = method(channel, "stream_unary", "Collect", messages)
    assert collect(iter(q(text=t) for t in "abc"), timeout=20).text == "abc"
    assert collect(iter([]), timeout=20).text == ""
    assert collect(iter(q(text="x", payload=b"z" * 1_000_000) for _ in range(8)), timeout=60).text == "x(1000000)" * 8
    converse = method(channel, "stream_stream", "Converse", messages)
    assert [r.text for r in converse(iter(q(text=str(i)) for i in range(300)), timeout=30)] == [str(i) for i in range(300)]
    def endless():
        while True:
            yield q(text="go on")
            time.sleep(0.01)
    calls = iter(lambda: q(text="stop"), None)
    assert collect(calls, timeout=20).text == "stop"  # the answer comes before the end of the request
    call = converse(endless(), timeout=20)
    assert next(call).text == "go on"
    call.cancel()


def test_number_of_requests(channel, messages):
    """A unary call and a server stream take exactly one."""
    q = messages.EchoRequest(text="x")
    for kind, name, message in (("stream_unary", "Echo", q), ("stream_stream", "Produce", messages.ProduceRequest(count=1))):
        call = method(channel, kind, name, messages)
        for n in (0, 2, 3):
            run = lambda: call(iter([message] * n), timeout=10) if kind == "stream_stream" else [call(iter([message] * n), timeout=10)]
            assert code_of(run) == grpc.StatusCode.UNIMPLEMENTED


def test_messages_at_the_limit(channel, messages):
    """4 MiB: 5 bytes of it are tag and length of the payload."""
    echo = method(channel, "unary_unary", "Echo", messages)
    fits = messages.EchoRequest(payload=b"x" * (MIB4 - 5))
    assert len(fits.SerializeToString()) == MIB4
    assert len(echo(fits, timeout=30).payload) == MIB4 - 5
    beyond = messages.EchoRequest(payload=b"x" * (MIB4 - 4))
    assert code_of(lambda: [echo(beyond, timeout=30)]) == grpc.StatusCode.RESOURCE_EXHAUSTED
    gz = grpc.Compression.Gzip
    assert len(echo(fits, timeout=30, compression=gz).payload) == MIB4 - 5
    assert code_of(lambda: [echo(beyond, timeout=30, compression=gz)]) == grpc.StatusCode.RESOURCE_EXHAUSTED
    collect = method(channel, "stream_unary", "Collect", messages)
    assert collect(iter([fits, fits]), timeout=60, compression=gz).text == f"({MIB4 - 5})" * 2
    assert code_of(lambda: [collect(iter([fits, beyond]), timeout=60)]) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_both_ways(channel, messages):
    echo = method(channel, "unary_unary", "Echo", messages)
    sent = [("x-echo-header", "one"), ("x-echo-header", "two"), ("x-echo-trailer-bin", b"\0\xff"), ("x-echo-trailer-bin", b"")]
    r, call = echo.with_call(messages.EchoRequest(text="x"), timeout=10, metadata=sent)
    assert r.text == "x"
    assert [v for k, v in call.initial_metadata() if k == "x-echo-header"] == ["one", "two"]
    assert [v for k, v in call.trailing_metadata() if k == "x-echo-trailer-bin"] == [b"\0\xff", b""]


def test_details_of_failures(channel, messages):
    fail = method(channel, "unary_unary", "Fail", messages)
    with pytest.raises(grpc.RpcError) as e:
        fail(messages.FailRequest(code=9, message=" no ☠ ", hint="look"), timeout=10)
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION and e.value.details() == " no ☠ "
    status = dict(e.value.trailing_metadata())["grpc-status-details-bin"]
    assert status.startswith(b"\x08\x09\x12\x08 no \xe2\x98\xa0 \x1a")
    assert b"type.googleapis.com/google.rpc.ErrorInfo" in status and b"FAILED_PRECONDITION" in status and b"look" in status


def test_compressed_answers(channel, messages):
    echo = method(channel, "unary_unary", "Echo", messages)
    for n in (0, 1020, 1030, 100_000):
        r, call = echo.with_call(messages.EchoRequest(payload=b"x" * n), timeout=10, metadata=[("x-compress", "1")])
        assert len(r.payload) == n
    for algorithm in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        assert echo(messages.EchoRequest(text="x" * 5000), timeout=10, compression=algorithm).text == "x" * 5000
    assert code_of(lambda: [echo(messages.EchoRequest(text="x" * 5000), timeout=10, compression=grpc.Compression.Deflate)]) == \
        grpc.StatusCode.UNIMPLEMENTED


class Answer:
    """What curl got: status, fields (those of trailers too), body."""

    def __init__(self, head, body):
        lines = [line for line in head.decode("latin-1").split("\r\n") if line]
        self.status = int(lines[0].split()[1])
        self.fields = [(n.strip().lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines[1:]) if v]
        self.body = body

    def __getitem__(self, name):
        return next((v for k, v in self.fields if k == name), None)


def raw(server, path, body, kind, fields=(), verb="POST"):
    """One gRPC call; the answer may come, and the stream be reset, before the request is complete."""
    host, port = server.split(":")
    c = h2_connection.H2Connection(h2_config.H2Configuration(header_encoding="latin-1"))
    fields = [tuple(f.split(": ", 1)) for f in fields]
    own = [(":method", verb), (":scheme", "http"), (":authority", "x"), (":path", path), ("content-type", kind)]
    head, data, ended = [], b"", False
    with socket.create_connection((host, int(port)), timeout=20) as s:
        c.initiate_connection()
        c.send_headers(1, own + fields)
        c.send_data(1, body, end_stream=True)
        s.sendall(c.data_to_send())
        while not ended:
            for e in c.receive_data(s.recv(65536)):
                if isinstance(e, (h2_events.ResponseReceived, h2_events.TrailersReceived)):
                    head += e.headers
                if isinstance(e, h2_events.DataReceived):
                    data += e.data
                ended = ended or isinstance(e, (h2_events.StreamEnded, h2_events.StreamReset, h2_events.ConnectionTerminated))
            s.sendall(c.data_to_send())
    a = Answer(b"- 0", data)
    a.fields = head
    a.status = int(a[":status"] or 0)
    return a


H2 = "--http2-prior-knowledge"
BOTH = pytest.mark.parametrize("version", ["--http1.1", H2])


def curl(server, path, body=None, kind=None, version=H2, fields=(), verb=None):
    args = ["curl", "-s", "-m", "20", version, "-D", "/dev/stderr", "-H", "expect:", "-X", verb or ("GET" if body is None else "POST")]
    args += ["-H", f"content-type: {kind}"] if kind else []
    args += ["--data-binary", "@-"] if body is not None else []
    for f in fields:
        args += ["-H", f]
    p = subprocess.run([*args, f"http://{server}{path}"], input=body or b"", capture_output=True, check=False, timeout=30)
    assert p.returncode == 0, (p.returncode, p.stderr)
    return Answer(p.stderr, p.stdout)


def envelope(message, flags=0):
    return bytes([flags]) + len(message).to_bytes(4, "big") + message


def envelopes(body):
    while body:
        n = int.from_bytes(body[1:5], "big")
        yield body[0], body[5:5 + n]
        body = body[5 + n:]


@pytest.mark.parametrize("body,fields,code", [
    (envelope(b"\x0a\x01x"), [], 0),
    (b"", [], 12), (envelope(b"") * 2, [], 12),
    (envelope(b"abc")[:-1], [], 13), (b"\0\0\0", [], 13), (envelope(b"") + b"\0", [], 13),
    (envelope(b"\x0a\xff"), [], 13), (envelope(b"", 2), [], 13), (envelope(b"", 128), [], 13),
    (envelope(gzip.compress(b""), 1), [], 13), (envelope(gzip.compress(b""), 1), ["grpc-encoding: identity"], 13),
    (envelope(gzip.compress(b"\x0a\x01x"), 1), ["grpc-encoding: gzip"], 0), (envelope(b"", 1), ["grpc-encoding: gzip"], 0),
    (envelope(b"\x0a\x01x"), ["grpc-encoding: gzip"], 0),
    (envelope(b"no gzip", 1), ["grpc-encoding: gzip"], 13), (envelope(gzip.compress(b"abc")[:-3], 1), ["grpc-encoding: gzip"], 13),
    (envelope(gzip.compress(b"\x0a\x01x") + b"x", 1), ["grpc-encoding: gzip"], 13),
    (envelope(gzip.compress(b"\0" * (MIB4 + 1)), 1), ["grpc-encoding: gzip"], 8),
    (envelope(b""), ["grpc-encoding: br"], 12),
    (envelope(b""), ["grpc-timeout: 123456789S"], 13), (envelope(b""), ["grpc-timeout: 5"], 13), (envelope(b""), ["grpc-timeout: -1S"], 13),
    (envelope(b""), ["grpc-timeout: 99999999H"], 0), (envelope(b""), ["grpc-timeout: 1x"], 13),
    ((MIB4 + 1).to_bytes(5, "big"), [], 8),
])
def test_grpc_bodies(server, body, fields, code):
    a = raw(server, SERVICE + "Echo", body, "application/grpc", fields=["te: trailers", *fields])
    assert a.status == 200 and a["grpc-status"] == str(code), a.fields
    assert a["content-type"] == "application/grpc+proto" and a["grpc-accept-encoding"] == "identity,gzip"


def test_grpc_heads(server):
    one = envelope(b"")
    for kind in ("application/grpc", "application/grpc+proto", "application/grpc;x=y"):
        assert raw(server, SERVICE + "Echo", one, kind)["grpc-status"] == "0"
    assert raw(server, SERVICE + "Echo", envelope(b"{}"), "application/grpc+json")["grpc-status"] == "0"
    for kind in ("application/grpc-web", "application/grpc+thrift", "application/grpcx", "text/plain", "application/x-www-form-urlencoded"):
        a = raw(server, SERVICE + "Echo", one, kind)
        assert a.status == 415 and a["grpc-status"] is None and "application/json" in a["accept-post"]
    assert raw(server, SERVICE + "Echo", one, "application/grpc", verb="PUT").status == 405
    assert raw(server, SERVICE + "Echo", one, "application/grpc", verb="GET").status == 405
    for path in ("/davit.test.v1.EchoService/echo", "/davit.test.v1.echoService/Echo", "/x", "//", "/davit.test.v1.EchoService/"):
        assert raw(server, path, one, "application/grpc")["grpc-status"] == "12"
    assert raw(server, SERVICE + "Wait", envelope(b"\x08\xa0\x1f"), "application/grpc", fields=["grpc-timeout: 100m"])["grpc-status"] == "4"


def test_metadata_at_the_limit(server):
    """8 KiB count as RFC 9113 does, everything of the head together."""
    own = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", SERVICE + "Echo"), ("content-type", "application/grpc"), ("k", "")]
    room = 8192 - sum(len(k) + len(v) + 32 for k, v in own)
    assert raw(server, SERVICE + "Echo", envelope(b""), "application/grpc", [f"k: {'v' * room}"])["grpc-status"] == "0"
    assert raw(server, SERVICE + "Echo", envelope(b""), "application/grpc", [f"k: {'v' * (room + 1)}"])["grpc-status"] == "8"
    assert raw(server, SERVICE + "Echo", envelope(b""), "application/grpc", ["k: "] * 95)["grpc-status"] == "0"
    assert raw(server, SERVICE + "Echo", envelope(b""), "application/grpc", ["k: "] * 96)["grpc-status"] == "8"
    for version in ("--http1.1", H2):
        a = curl(server, SERVICE + "Echo", b"{}", "application/json", version, [f"k: {'v' * 8200}"])
        assert a.status == 431


# --- Connect: unary -----------------------------------------------------------------------------------------------------------
@BOTH
def test_connect_heads(server, version):
    echo = lambda *a, **k: curl(server, SERVICE + "Echo", *a, version=version, **k)
    assert json.loads(echo(b'{"text":"x"}', "application/json; charset=utf-8", fields=["connect-protocol-version: 1"]).body) == {"text": "x"}
    assert echo(b"{}", "application/json", fields=["connect-protocol-version: 2"]).status == 400
    a = echo(b"{}", "text/plain")
    assert a.status == 415 and "application/json" in a["accept-post"]
    assert echo(b"{}", "application/json", verb="PUT").status == 405
    for name in ("Chat", "Produce", "Collect"):
        a = curl(server, SERVICE + name, b"{}", "application/json", version)
        assert a.status == 415 and "application/connect+json" in a["accept-post"]
    assert echo(envelope(b"{}"), "application/connect+json").status == 415
    a = curl(server, SERVICE + "Fail", b'{"code":3,"message":"no","hint":"look"}', "application/json", version)
    failure = json.loads(a.body)
    assert a.status == 400 and failure["code"] == "invalid_argument" and a["davit-hint"] == "look"
    assert failure["details"][0]["type"] == "google.rpc.ErrorInfo" and "=" not in failure["details"][0]["value"]
    info = base64.b64decode(failure["details"][0]["value"] + "==")
    assert b"INVALID_ARGUMENT" in info and b"look" in info
    codes = {1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 15: 500, 16: 401}
    for code, status in codes.items():
        assert curl(server, SERVICE + "Fail", json.dumps({"code": code}).encode(), "application/json", version).status == status


@BOTH
def test_connect_timeouts(server, version):
    wait = lambda ms, limit: curl(server, SERVICE + "Wait", json.dumps({"ms": ms}).encode(), "application/json", version, [f"connect-timeout-ms: {limit}"])
    assert wait(1, "9999999999").status == 200
    for bad in ("99999999999", "x", "-1", "1.5"):
        assert wait(1, bad).status == 400
    begin = time.monotonic()
    a = wait(20000, "100")
    assert a.status == 504 and json.loads(a.body)["code"] == "deadline_exceeded" and time.monotonic() - begin < 10


@BOTH
def test_connect_metadata(server, version):
    a = curl(server, SERVICE + "Echo", b"{}", "application/json", version,
             ["x-echo-header: one", "x-echo-header: two", "x-echo-trailer-bin: AP8=", "x-echo-trailer-bin: AA,AQ"])
    assert [v for k, v in a.fields if k == "x-echo-header"] == ["one", "two"]
    assert [v for k, v in a.fields if k == "trailer-x-echo-trailer-bin"] == ["AP8", "AA", "AQ"]


@BOTH
def test_connect_compression(server, version):
    echo = lambda body, fields=(), kind="application/json": curl(server, SERVICE + "Echo", body, kind, version, fields)
    packed = ["content-encoding: gzip"]
    assert json.loads(echo(gzip.compress(b'{"text":"x"}'), packed).body) == {"text": "x"}
    assert echo(b"", packed, "application/proto").status == 200  # nothing is never unpacked
    assert echo(b'{"text":"x"}', packed).status == 400
    assert echo(gzip.compress(b'{"text":"x"}')[:-2], packed).status == 400
    a = echo(b"{}", ["content-encoding: br"])
    assert a.status == 501 and "gzip" in a["accept-encoding"]
    big = json.dumps({"text": "x" * 2000}).encode()
    for fields, encoding in ((["x-compress: 1", "accept-encoding: br, gzip"], "gzip"), (["x-compress: 1"], None), (["accept-encoding: gzip"], None)):
        a = echo(big, fields)
        assert a["content-encoding"] == encoding
        assert json.loads(gzip.decompress(a.body) if encoding else a.body)["text"] == "x" * 2000
    assert echo(b'{"text":"x"}', ["x-compress: 1", "accept-encoding: gzip"])["content-encoding"] is None  # small
    proto = b"\x12\xfb\xff\xff\x01" + b"\0" * (MIB4 - 5)
    assert echo(gzip.compress(proto), packed, "application/proto").status == 200
    assert echo(gzip.compress(proto + b"\0"), packed, "application/proto").status == 429


@BOTH
def test_connect_messages_at_the_limit(server, version):
    fits = b"\x12\xfb\xff\xff\x01" + b"\0" * (MIB4 - 5)
    assert len(curl(server, SERVICE + "Echo", fits, "application/proto", version).body) == MIB4
    assert curl(server, SERVICE + "Echo", fits + b"\0", "application/proto", version).status in (413, 429)


@BOTH
def test_connect_get(server, version):
    def get(query, name="Echo", fields=(), verb=None):
        return curl(server, f"{SERVICE}{name}?{query}", version=version, fields=fields, verb=verb)
    quote = urllib.parse.quote
    a = get("connect=v1&encoding=json&message=" + quote('{"text":"a b&c%"}') + "&unknown=1")
    assert a.status == 200 and json.loads(a.body) == {"text": "a b&c%"} and a["content-type"] == "application/json"
    assert json.loads(get("message=%7B%22text%22%3A%22a+b%22%7D&encoding=json").body) == {"text": "a b"}
    assert get("encoding=proto&base64=1&message=CgF4").body == b"\x0a\x01x"
    assert get("encoding=proto&base64=1&message=CgI_Pg==").body == get("encoding=proto&base64=1&message=CgI_Pg").body == b"\x0a\x02?>"
    assert get("encoding=proto&base64=1&message=").body == b""
    packed = base64.urlsafe_b64encode(gzip.compress(b'{"text":"x"}')).decode()
    assert json.loads(get(f"encoding=json&base64=1&compression=gzip&message={packed}").body) == {"text": "x"}
    assert get("encoding=json&base64=1&compression=br&message=e30").status == 501
    assert get("encoding=json").status == 400  # no message
    assert get("encoding=json&message=%7").status == 400
    assert get("encoding=json&base64=1&message=a").status == 400
    assert get("encoding=json&message=%7B%7D&connect=v2").status == 400
    assert get("encoding=xml&message=%7B%7D").status == 415
    assert get("message=%7B%7D").status == 415
    a = get("encoding=json&message=%7B%7D", "Fail")
    assert a.status == 405 and a["allow"] == "POST"  # it may have effects
    assert get("encoding=json&message=%7B%7D", "Produce").status == 405
    assert get("encoding=json&message=%7B%7D", "Nothing").status == 404
    assert get("encoding=json&message=%7B%7D", fields=["x-deny: 1"]).status == 401
    assert get("encoding=json&message=%7B%7D", verb="DELETE")["allow"] == "GET, POST"
    assert get("encoding=json&message=%7B%7D", fields=["connect-timeout-ms: x"]).status == 400


# --- Connect: streams ---------------------------------------------------------------------------------------------------------
def stream(server, name, body, version=H2, fields=(), kind="application/connect+json"):
    a = curl(server, SERVICE + name, body, kind, version, fields)
    if a.status != 200:
        return a, [], None
    assert a["content-type"] == kind
    parts = list(envelopes(a.body))
    assert [f & 2 for f, _ in parts] == [0] * (len(parts) - 1) + [2]
    return a, [gzip.decompress(m) if f & 1 else m for f, m in parts[:-1]], json.loads(parts[-1][1])


def say(text, flags=0):
    return envelope(json.dumps({"text": text}).encode(), flags)


@BOTH
def test_connect_client_streaming(server, version):
    a, parts, end = stream(server, "Collect", say("a") + say("b") + say("c"), version, ["x-echo-header: h", "x-echo-trailer-bin: AP8"])
    assert json.loads(parts[0]) == {"text": "abc"} and len(parts) == 1
    assert a["x-echo-header"] == "h" and end == {"metadata": {"x-echo-trailer-bin": ["AP8"]}}
    assert json.loads(stream(server, "Collect", b"", version)[1][0]) == {}
    assert stream(server, "Collect", say("a")[:-1], version)[2]["error"]["code"] == "invalid_argument"
    assert stream(server, "Collect", envelope(b"{}", 2), version)[2]["error"]["code"] == "invalid_argument"
    assert stream(server, "Collect", envelope(b"{"), version)[2]["error"]["code"] == "invalid_argument"
    assert stream(server, "Collect", say("x"), version, ["connect-content-encoding: br"])[2]["error"]["code"] == "unimplemented"
    assert stream(server, "Collect", say("x"), version, ["x-deny: 1"])[2]["error"]["code"] == "unauthenticated"
    packed = envelope(gzip.compress(b'{"text":"z"}'), 1)
    assert json.loads(stream(server, "Collect", packed + say("y"), version, ["connect-content-encoding: gzip"])[1][0]) == {"text": "zy"}
    assert stream(server, "Collect", packed, version)[2]["error"]["code"] == "invalid_argument"


@BOTH
def test_connect_server_streaming(server, version):
    one = envelope(b'{"count":3,"size":10}')
    _, parts, end = stream(server, "Produce", one, version)
    assert len(parts) == 3 and end == {}
    for body in (b"", one * 2):
        assert stream(server, "Produce", body, version)[2]["error"]["code"] == "unimplemented"
    a, parts, _ = stream(server, "Produce", envelope(b"\x08\x02"), version, kind="application/connect+proto")
    assert len(parts) == 2
    assert curl(server, SERVICE + "Produce", verb="GET", version=version).status == 405
    _, _, end = stream(server, "Produce", envelope(b'{"count":1000000,"size":1000}'), version, ["connect-timeout-ms: 300"])
    assert end["error"]["code"] == "deadline_exceeded"


def test_connect_bidi(server):
    for name in ("Converse", "Chat"):
        _, parts, end = stream(server, name, say("a") + say("b"))
        assert [json.loads(p)["text"] for p in parts] == ["a", "b"] and end == {}
        _, parts, end = stream(server, name, say("a") + say("fail") + say("b"))
        assert [json.loads(p)["text"] for p in parts] == ["a"] and end["error"]["code"] == "failed_precondition"
        assert end["error"]["details"][0]["type"] == "google.rpc.ErrorInfo"
        assert stream(server, name, say("a"), "--http1.1")[0].status == 505
    a, parts, _ = stream(server, "Converse", say("x" * 2000) + say("y"), H2, ["x-compress: 1", "connect-accept-encoding: gzip"])
    assert a["connect-content-encoding"] == "gzip" and [len(json.loads(p)["text"]) for p in parts] == [2000, 1]


@BOTH
def test_connect_streams_at_the_limit(server, version):
    fits = b"\x12\xfb\xff\xff\x01" + b"\0" * (MIB4 - 5)
    proto = "application/connect+proto"
    assert len(stream(server, "Collect", envelope(fits), version, kind=proto)[1]) == 1
    try:
        a, _, end = stream(server, "Collect", envelope(fits + b"\0"), version, kind=proto)
        assert a.status == 413 or end["error"]["code"] == "resource_exhausted"
    except AssertionError as e:
        assert "(92, " in str(e)  # curl was still sending when the answer was there
