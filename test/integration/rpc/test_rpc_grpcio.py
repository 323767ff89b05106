# SPDX-License-Identifier: Apache-2.0
"""src/rpc against other implementations: python3-grpcio (C-core) over HTTP/2 and curl for Connect over HTTP/1.1 and HTTP/2; raw sockets for
what those would not send; and the protoc plugin against schemas that it must refuse."""
import base64
import concurrent.futures
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))

grpc = pytest.importorskip("grpc")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """The python modules of echo.proto: (messages, stubs)."""
    out = tmp_path_factory.mktemp("stubs")
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"-I{HERE}", f"--python_out={out}", f"--grpc_python_out={out}",
                    "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", "echo.proto", "davit/options/v1/options.proto"],
                   check=True, timeout=60)
    sys.path.insert(0, str(out))
    try:
        import echo_pb2
        import echo_pb2_grpc
        yield echo_pb2, echo_pb2_grpc
    finally:
        sys.path.remove(str(out))


@pytest.fixture
def stub(stubs, server):
    with grpc.insecure_channel(server) as channel:
        yield stubs[1].EchoServiceStub(channel)


# --- gRPC ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.req("MA-2")
def test_unary(stub, stubs):
    for n in (0, 1, 70000, 3 * 1024 * 1024):
        r = stub.Echo(stubs[0].EchoRequest(text="☠", payload=b"x" * n), timeout=20)
        assert r.text == "☠" and len(r.payload) == n


def test_failure_with_hint(stub, stubs):
    with pytest.raises(grpc.RpcError) as e:
        stub.Fail(stubs[0].FailRequest(code=5, message="no ☠, 100%", hint="look"), timeout=20)
    assert e.value.code() == grpc.StatusCode.NOT_FOUND
    assert e.value.details() == "no ☠, 100%"
    assert dict(e.value.trailing_metadata())["davit-hint"] == "look"


def test_server_streaming(stub, stubs):
    sizes = [len(r.payload) for r in stub.Produce(stubs[0].ProduceRequest(count=200, size=50000), timeout=60)]
    assert sizes == [50000] * 200


@pytest.mark.req("MA-2")
def test_bidi(stub, stubs):
    seen = []
    texts = [f"m{i}" for i in range(200)]
    for r in stub.Chat((stubs[0].EchoRequest(text=t) for t in texts), timeout=30):
        seen.append(r.text)
    assert seen == texts


def test_deadline_and_cancel(stub, stubs):
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        stub.Wait(stubs[0].WaitRequest(ms=20000), timeout=0.3)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    call = stub.Wait.future(stubs[0].WaitRequest(ms=20000))
    time.sleep(0.2)
    call.cancel()
    assert time.monotonic() - begin < 10
    assert stub.Echo(stubs[0].EchoRequest(text="alive"), timeout=10).text == "alive"


def test_refusals(stub, stubs, server):
    with pytest.raises(grpc.RpcError) as e:
        stub.Forbidden(stubs[0].EchoRequest(), timeout=10)
    assert e.value.code() == grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as e:
        stub.Echo(stubs[0].EchoRequest(), timeout=10, metadata=[("x-deny", "1")])
    assert e.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as e:
        stub.Echo(stubs[0].EchoRequest(), timeout=10, compression=grpc.Compression.Deflate)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as e:
        stub.Echo(stubs[0].EchoRequest(payload=b"x" * (4 * 1024 * 1024)), timeout=20)
    assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    with grpc.insecure_channel(server) as channel, pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/davit.test.v1.EchoService/Nothing")(b"", timeout=10)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
    with grpc.insecure_channel(server) as channel, pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/davit.test.v1.EchoService/Echo")(b"\x0a\xff", timeout=10)
    assert e.value.code() == grpc.StatusCode.INTERNAL


def test_metadata_at_the_limit(stub, stubs):
    assert stub.Echo(stubs[0].EchoRequest(text="x"), timeout=10, metadata=[("k", "v" * 7000)]).text == "x"
    with pytest.raises(grpc.RpcError) as e:
        stub.Echo(stubs[0].EchoRequest(text="x"), timeout=10, metadata=[("k", "v" * 8200)])
    assert e.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)


def test_many_at_once(stub, stubs):
    """More calls than the connection has streams: they wait in line."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(stub.Echo, stubs[0].EchoRequest(text=str(i)), timeout=60) for i in range(400)]
        assert [c.result().text for c in calls] == [str(i) for i in range(400)]
    futures = [stub.Wait.future(stubs[0].WaitRequest(ms=100), timeout=60) for _ in range(250)]
    assert all(f.result() is not None for f in futures)


# --- Connect ------------------------------------------------------------------------------------------------------------------
def curl(server, method, body, *extra, kind="application/json"):
    """(status, header lines, body) of a Connect call."""
    p = subprocess.run(["curl", "-s", "-i", "-m", "20", "-X", "POST", "-H", f"content-type: {kind}", "-H", "expect:", "--data-binary", "@-", *extra,
                        f"http://{server}/davit.test.v1.EchoService/{method}"], input=body, capture_output=True, check=True, timeout=30)
    head, _, rest = p.stdout.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    return int(lines[0].split()[1]), lines[1:], rest


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@pytest.mark.req("MA-2")
def test_connect_unary(server, version):
    status, head, body = curl(server, "Echo", b'{"text":"hi","payload":"AAE=","unknown":1}', version)
    assert status == 200 and "content-type: application/json" in head
    assert json.loads(body) == {"text": "hi", "payload": "AAE="}
    status, head, body = curl(server, "Echo", b"\x0a\x02hi", version, kind="application/proto")
    assert status == 200 and "content-type: application/proto" in head and body == b"\x0a\x02hi"
    big = base64.b64encode(b"z" * 1_000_000).decode()
    status, _, body = curl(server, "Echo", json.dumps({"payload": big}).encode(), version)
    assert status == 200 and json.loads(body)["payload"] == big


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_connect_failures(server, version):
    status, head, body = curl(server, "Fail", '{"code":5,"message":"no ☠","hint":"look, 100%"}'.encode(), version)
    failure = json.loads(body)
    assert status == 404 and failure["code"] == "not_found" and failure["message"] == "no ☠"
    assert "davit-hint: look, 100%25" in head
    status, _, body = curl(server, "Echo", b'{"text":', version)
    assert status == 400 and json.loads(body)["code"] == "invalid_argument"
    assert curl(server, "Echo", b"{}", version, kind="text/plain")[0] == 415
    assert curl(server, "Forbidden", b"{}", version)[0] == 403
    status, _, body = curl(server, "Nothing", b"{}", version)
    assert status == 501 and json.loads(body)["code"] == "unimplemented"
    status, _, body = curl(server, "Wait", b'{"ms":20000}', version, "-H", "connect-timeout-ms: 200")
    assert status == 504 and json.loads(body)["code"] == "deadline_exceeded"
    assert curl(server, "Wait", b'{"ms":1}', version, "-H", "connect-timeout-ms: 12345678901")[0] == 400
    assert curl(server, "Echo", b"{}", version, "-H", "content-encoding: br")[0] == 501
    assert curl(server, "Chat", b"{}", version)[0] == 415
    p = subprocess.run(["curl", "-s", "-m", "10", version, "-o", "/dev/null", "-w", "%{http_code}",
                        f"http://{server}/davit.test.v1.EchoService/Fail"], capture_output=True, text=True, check=True, timeout=30)
    assert p.stdout == "405"


def envelopes(body):
    """(flags, bytes) of each message of a Connect stream."""
    while body:
        n = int.from_bytes(body[1:5], "big")
        yield body[0], body[5:5 + n]
        body = body[5 + n:]


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_connect_server_streaming(server, version):
    def call(message):
        m = json.dumps(message).encode()
        return curl(server, "Produce", b"\0" + len(m).to_bytes(4, "big") + m, version, kind="application/connect+json")

    status, head, body = call({"count": 30, "size": 100000})
    parts = list(envelopes(body))
    assert status == 200 and "content-type: application/connect+json" in head
    assert [f for f, _ in parts] == [0] * 30 + [2] and json.loads(parts[-1][1]) == {}
    assert all(len(base64.b64decode(json.loads(p)["payload"])) == 100000 for _, p in parts[:-1])
    parts = list(envelopes(call({"count": 1, "size": 8000000})[2]))
    assert json.loads(parts[-1][1])["error"]["code"] == "resource_exhausted"


# --- what no decent client sends ------------------------------------------------------------------------------------------------
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def read_until_closed(s, limit=20):
    s.settimeout(limit)
    data = b""
    try:
        while chunk := s.recv(65536):
            data += chunk
    except (ConnectionResetError, BrokenPipeError):
        pass
    return data


@pytest.mark.parametrize("flood", [frame(6, 0, 0, b"12345678"), frame(4, 0, 0), frame(2, 0, 1, b"\0\0\0\0\1")])
def test_floods_end_the_connection(server, flood):
    host, port = server.split(":")
    with socket.create_connection((host, int(port))) as s:
        try:
            s.sendall(PREFACE + frame(4, 0, 0) + flood * 5000)
        except (ConnectionResetError, BrokenPipeError):
            pass
        read_until_closed(s)


def test_split_preface_and_garbage(server):
    host, port = server.split(":")
    with socket.create_connection((host, int(port))) as s:
        for b in PREFACE:
            s.sendall(bytes([b]))
            time.sleep(0.002)
        s.sendall(frame(4, 0, 0) + frame(6, 0, 0, b"abcdefgh"))
        s.settimeout(10)
        data = b""
        while frame(6, 1, 0, b"abcdefgh") not in data:
            chunk = s.recv(4096)
            assert chunk
            data += chunk
    with socket.create_connection((host, int(port))) as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nXX")
        assert not read_until_closed(s).startswith(b"HTTP/1.1 200")


# --- the plugin -----------------------------------------------------------------------------------------------------------------
HEAD = 'syntax = "proto3"; package p; import "davit/options/v1/options.proto"; message M { string a = 1; N n = 2; repeated N r = 3; } ' \
    'message N { string b = 1; bytes c = 2; }\n'


def changing(scope, option, kind="M"):
    option = f'option (davit.options.v1.object) = "{option}";' if option is not None else ""
    return HEAD + f'service S {{ rpc A({kind}) returns (M) {{ option (davit.options.v1.scope) = "{scope}"; {option} }} }}'


@pytest.mark.parametrize("text,complaint", [
    (HEAD + "service S { rpc A(M) returns (M); }", "p.S.A: option (davit.options.v1.scope) is missing"),
    (HEAD + 'service S { rpc A(M) returns (M) { option (davit.options.v1.scope) = "root"; } }', 'scope "root" is none of'),
    *((changing(scope, None), "p.S.A: option (davit.options.v1.object) is missing") for scope in ("enroll", "link", "write", "admin")),
    (changing("write", ""), "p.S.A: option (davit.options.v1.object) is missing"),
    (changing("read", ""), "p.S.A: option (davit.options.v1.object) is missing"),
    (changing("write", "b"), 'p.S.A: object "b" is no string field of p.M'),
    (changing("write", "a/"), 'p.S.A: object "" is no string field of p.M'),
    (changing("write", "a/n.c"), 'p.S.A: object "n.c" is no string field of p.M'),
    (changing("write", "r.b"), 'p.S.A: object "r.b" is no string field of p.M'),
    (changing("write", "a.b"), 'p.S.A: object "a.b" is no string field of p.M'),
    (changing("write", "n"), 'p.S.A: object "n" is no string field of p.M'),
    (changing("write", "a", "stream M"), 'object must be "-" where the caller streams'),
    (HEAD + "message R { R r = 1; }", "p.R: recursive"),
    (HEAD + "message A { B b = 1; } message B { repeated A a = 1; }", "p.A: recursive"),
    (HEAD + 'message O { string s = 1 [json_name = "t"]; string t = 2 [json_name = "u"]; }', "two fields are called t in JSON"),
    ('syntax = "proto2"; package p; message M { }', "syntax must be proto3"),
])
@pytest.mark.req("MA-4")
def test_plugin_refuses(tmp_path, text, complaint):
    (tmp_path / "x.proto").write_text(text)
    p = subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"-I{tmp_path}", f"--plugin=protoc-gen-davit={BUILD / 'proto/protoc-gen-davit'}",
                        f"--davit_out={tmp_path}", "x.proto"], capture_output=True, text=True, check=False, timeout=30)
    assert p.returncode != 0 and complaint in p.stderr, p.stderr
    assert not (tmp_path / "x.davit.c").exists()


@pytest.mark.parametrize("text,row", [(changing("write", "a/n.b"), '"write", "a/n.b"'), (changing("admin", "-", "stream M"), '"admin", "-"'),
                                      (changing("read", None), '"read", "-"')])
def test_plugin_writes_scope_and_object(tmp_path, text, row):
    (tmp_path / "x.proto").write_text(text)
    subprocess.run(["protoc", f"-I{ROOT / 'proto'}", f"-I{tmp_path}", f"--plugin=protoc-gen-davit={BUILD / 'proto/protoc-gen-davit'}",
                    f"--davit_out={tmp_path}", "x.proto"], check=True, timeout=30)
    assert row in (tmp_path / "x.davit.c").read_text()
