# SPDX-License-Identifier: Apache-2.0
"""Tools that people hold against a server: buf curl, curl, nghttp, h2load; nghttpd for our client."""
import base64
import gzip
import json
import re
import subprocess
import urllib.parse

import pytest

import peers
from lib import proc

ECHO = ["-H", "x-grpc-test-echo-initial: abc", "-H", "x-grpc-test-echo-trailing-bin: q6ur"]


def message(size, **more):
    """A SimpleRequest in JSON."""
    return json.dumps({"responseSize": size, **more})


def zeros(n):
    return base64.b64encode(b"\0" * n).decode()


# --- buf curl -------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def buf(node, proto_files, tmp_path):
    """A function that runs buf curl with the options and returns (exit status, [messages], error)."""
    def call(url, method, data, *options, protocol):
        cmd = [f"{node['NODE_PATH']}/.bin/buf", "curl", "--schema", proto_files / "interop.bin", "--protocol", protocol, *options, "-d", "@-",
               f"{url}/{peers.SERVICE}/{method}"]
        r = proc.run(cmd, stdin=data, env=node | {"HOME": str(tmp_path), "BUF_CACHE_DIR": str(tmp_path)}, timeout=60, check=False)
        messages, text, decoder = [], r.out.strip(), json.JSONDecoder()
        while text:
            m, end = decoder.raw_decode(text)
            messages.append(m)
            text = text[end:].strip()
        return r.rc, messages, json.loads(r.err) if r.rc and r.err.lstrip().startswith("{") else r.err
    return call


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("protocol,http", [("grpc", "--http2-prior-knowledge"), ("connect", "--http2-prior-knowledge"), ("connect", None)])
def test_buf_curl(buf, plain_server, protocol, http):
    def call(method, data):
        return buf(f"http://{plain_server}", method, data, *filter(None, [http]), protocol=protocol)

    assert call("EmptyCall", "{}") == (0, [{}], "")
    assert call("UnaryCall", message(300, payload={"body": zeros(5000)})) == (0, [{"payload": {"body": zeros(300)}}], "")
    sizes = json.dumps({"responseParameters": [{"size": 1}, {"size": 2}]})
    out = [{"payload": {"body": zeros(n)}} for n in (1, 2)]
    assert call("StreamingOutputCall", sizes) == (0, out, "")
    # Its exit status is 8 times the code.
    rc, messages, failure = call("UnaryCall", message(0, responseStatus={"code": 5, "message": "gone ☠"}))
    assert (rc, messages, failure["code"], failure["message"]) == (40, [], "not_found", "gone ☠")
    assert [d["type"] for d in failure["details"]] == ["google.rpc.ErrorInfo"]
    assert call("UnimplementedCall", "{}")[0] == 96
    if http:
        assert call("FullDuplexCall", sizes + sizes) == (0, out + out, "")
        assert call("StreamingInputCall", json.dumps({"payload": {"body": zeros(300)}}) * 3) == (0, [{"aggregatedPayloadSize": 900}], "")


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("protocol", ["grpc", "connect"])
def test_buf_curl_with_certificates(buf, mtls_server, pki, protocol):
    files = ["--cacert", pki.path("ca.pem")]
    own = ["--cert", pki.path("client.pem"), "--key", pki.path("client.key")]
    rc, out, err = buf(f"https://{mtls_server}", "UnaryCall", message(1, fillUsername=True), *files, *own, protocol=protocol)
    assert (rc, out) == (0, [{"payload": {"body": "AA=="}, "username": peers.CLIENT_URI}]), err
    rc, out, _ = buf(f"https://{mtls_server}", "UnaryCall", message(1), *files, protocol=protocol)
    assert rc != 0 and out == []


# --- curl -----------------------------------------------------------------------------------------------------------------------
def curl(url, *options, body=None):
    """(status, {header}, body) of one call; trailers of HTTP/2 are among the headers."""
    data = [] if body is None else ["--data-binary", "@-"]
    p = subprocess.run(["curl", "-s", "-i", "-m", "20", "-H", "expect:", *map(str, options), *data, url], input=body, capture_output=True,
                       check=False, timeout=30)
    if p.returncode:
        return p.returncode, {}, b""
    head, _, rest = p.stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line), rest


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_connect(mtls_server, pki, version):
    base = f"https://{mtls_server}/{peers.SERVICE}"
    tls = [version, "--cacert", pki.path("ca.pem"), "--cert", pki.path("client.pem"), "--key", pki.path("client.key")]
    js = ["-H", "content-type: application/json"]
    status, head, body = curl(f"{base}/UnaryCall", *tls, *js, *ECHO, body=message(3, fillUsername=True).encode())
    assert status == 200 and head["content-type"] == "application/json" and head["x-grpc-test-echo-initial"] == "abc"
    assert json.loads(body) == {"payload": {"body": "AAAA"}, "username": peers.CLIENT_URI} and head["trailer-x-grpc-test-echo-trailing-bin"] == "q6ur"

    status, head, body = curl(f"{base}/UnaryCall", *tls, *js, body=message(0, responseStatus={"code": 7, "message": "no ☠"}).encode())
    failure = json.loads(body)
    assert status == 403 and head["content-type"] == "application/json" and (failure["code"], failure["message"]) == ("permission_denied", "no ☠")

    # Compressed both ways.
    packed = gzip.compress(message(5000, responseCompressed={"value": True}, payload={"body": zeros(5000)}).encode())
    status, head, body = curl(f"{base}/UnaryCall", *tls, *js, "-H", "content-encoding: gzip", "-H", "accept-encoding: gzip", body=packed)
    assert status == 200 and head["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(body)) == {"payload": {"body": zeros(5000)}}
    assert curl(f"{base}/UnaryCall", *tls, *js, "-H", "content-encoding: br", body=b"x")[0] == 501

    # GET, where a method allows it.
    query = urllib.parse.urlencode({"connect": "v1", "encoding": "json", "message": message(3)})
    status, _, body = curl(f"{base}/CacheableUnaryCall?{query}", *tls)
    assert status == 200 and json.loads(body) == {"payload": {"body": "AAAA"}}
    query = "encoding=proto&base64=1&message=" + base64.urlsafe_b64encode(b"\x10\x03").decode().rstrip("=")
    status, head, body = curl(f"{base}/CacheableUnaryCall?{query}", *tls)
    assert status == 200 and head["content-type"] == "application/proto" and body == b"\x0a\x05\x12\x03\0\0\0"
    assert curl(f"{base}/UnaryCall?{query}", *tls)[0] == 405
    assert curl(f"{base}/UnimplementedCall", *tls, *js, body=b"{}")[0] == 501
    assert curl(f"{base}/UnaryCall", *tls, "-H", "content-type: text/plain", body=b"{}")[0] == 415
    # No certificate, no answer.
    assert curl(f"{base}/UnaryCall", *tls[:3], *js, body=b"{}")[1] == {}


def grpc_body(q, compressed=False):
    q = gzip.compress(q) if compressed else q
    return bytes([compressed]) + len(q).to_bytes(4, "big") + q


@pytest.mark.req("MA-2")
def test_curl_grpc(plain_server):
    """Raw gRPC: are messages compressed when, and only when, both sides want it?"""
    url = f"http://{plain_server}/{peers.SERVICE}/UnaryCall"
    base = ["--http2-prior-knowledge", "-X", "POST", "-H", "content-type: application/grpc", "-H", "te: trailers", *ECHO]
    q = b"\x10\x88\x27" + b"\x32\x02\x08\x01"  # 5000 bytes, response_compressed
    plain = b"\x0a\x8b\x27\x12\x88\x27" + b"\0" * 5000
    for takes, compressed in (([], 0), (["-H", "grpc-accept-encoding: gzip"], 1), (["-H", "grpc-accept-encoding: br"], 0)):
        status, head, body = curl(url, *base, *takes, body=grpc_body(q))
        assert status == 200 and body[0] == compressed and head.get("grpc-encoding", "identity") == ("gzip" if compressed else "identity")
        n = int.from_bytes(body[1:5], "big")
        got, rest = body[5:5 + n], body[5 + n:]
        assert (gzip.decompress(got) if compressed else got) == plain
        # curl prints the trailers behind the body.
        assert b"grpc-status: 0\r\n" in rest and b"x-grpc-test-echo-trailing-bin: q6ur\r\n" in rest
    _, _, body = curl(url, *base, "-H", "grpc-encoding: gzip", body=grpc_body(b"\x10\x01", compressed=True))
    assert body[:5] == b"\0\0\0\0\x05" and b"grpc-status: 0" in body
    # Marked as compressed, and nothing said how.
    assert curl(url, *base, body=grpc_body(b"\x10\x01", compressed=True))[1]["grpc-status"] == "13"
    # Refused by its head alone, at once; with a body on the way curl would call the early answer a broken stream, now and then.
    assert curl(url, *base, "-H", "grpc-encoding: br")[1]["grpc-status"] == "12"


# --- nghttp2's programs -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def request_file(tmp_path):
    """A request for 1000 bytes."""
    path = tmp_path / "body"
    path.write_bytes(grpc_body(b"\x10\xe8\x07"))
    return path


GRPC = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
ANSWER = 5 + 1006  # prefix and SimpleResponse


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("tls", [False, True])
def test_h2load(plain_server, tls_server, request_file, tls):
    """3000 calls over 4 connections: each is answered, and with its message, which a failure would not have."""
    url = f"{'https' if tls else 'http'}://{tls_server if tls else plain_server}/{peers.SERVICE}/UnaryCall"
    out = proc.run(["h2load", "-n", "3000", "-c", "4", "-m", "20", "-d", request_file, *GRPC, url], timeout=120).out
    assert re.search(r"requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout", out), out
    assert "status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx" in out and f"({3000 * ANSWER}) data" in out, out


@pytest.mark.req("MA-2")
def test_nghttp(plain_server, request_file):
    p = subprocess.run(["nghttp", "-v", "--no-dep", "-d", request_file, *GRPC, f"http://{plain_server}/{peers.SERVICE}/UnaryCall"], capture_output=True,
                       check=True, timeout=60)
    out = re.sub(r"\x1b\[[0-9;]*m", "", p.stdout.decode(errors="replace"))
    for line in (":status: 200", "content-type: application/grpc+proto", "grpc-status: 0"):
        assert re.search(rf"recv \(stream_id=\d+\) {re.escape(line)}\n", out), out
    assert "RST_STREAM" not in out and "error_code=PROTOCOL_ERROR" not in out, out


@pytest.mark.req("MA-2")
def test_nghttpd(tmp_path):
    """A server that is none of gRPC: its 404 is UNIMPLEMENTED, on a connection that goes on."""
    port = proc.free_port()
    server = proc.Background(["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", tmp_path, str(port)], tmp_path / "log")
    try:
        proc.wait_for(lambda: proc.listens(port), text="nghttpd")
        peers.our_client(f"127.0.0.1:{port}", ["unimplemented_method", "unimplemented_service", "unimplemented_method"])
    finally:
        server.stop()
