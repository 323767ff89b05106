# SPDX-License-Identifier: Apache-2.0
"""python3-grpcio (C-core) as client of our server and as server of our client, all over TLS with certificates on both sides."""
import concurrent.futures
import queue
import sys
import time

import grpc
import pytest

import peers
from lib import proc

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
REQUESTS, RESPONSES = (27182, 8, 1828, 45904), (31415, 9, 2653, 58979)
T = 30


# --- Their server, our client ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def their_server(proto_files, pki, tmp_path_factory):
    log = tmp_path_factory.mktemp("py") / "log"
    with peers.running(["/usr/bin/python3", peers.HERE / "py_server.py", proto_files, pki.folder], log) as addr:
        yield addr


@pytest.mark.smoke
@pytest.mark.req("MA-2")
def test_our_client_every_case(their_server, pki):
    peers.our_client(their_server, peers.cases(), *pki.options("client"), "--host", "127.0.0.1")


@pytest.mark.req("MA-2")
def test_our_client_is_known_by_its_certificate(their_server, pki):
    """Without one, or with one of another root, no call comes through; nor does ours talk to a server that it cannot verify."""
    for options in (["--ca", pki.path("ca.pem")], [*pki.options("stranger")], ["--ca", pki.path("stranger-ca.pem"), *pki.options("client")[2:]],
                    [*pki.options("client"), "--host", "elsewhere.example"]):
        r = proc.run([peers.OUR_CLIENT, *options, their_server, "empty_unary"], timeout=40, check=False)
        assert r.rc == 1 and "ok" not in r.out, str(r)


# --- Our server, their client ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pb(proto_files):
    sys.path.insert(0, str(proto_files))
    try:
        import interop_pb2
        import interop_pb2_grpc
        yield interop_pb2, interop_pb2_grpc
    finally:
        sys.path.remove(str(proto_files))


@pytest.fixture
def channel(mtls_server, pki):
    creds = grpc.ssl_channel_credentials(pki.read("ca.pem"), pki.read("client.key"), pki.read("client.pem"))
    with grpc.secure_channel(mtls_server, creds) as c:
        yield c


@pytest.fixture
def stub(pb, channel):
    return pb[1].TestServiceStub(channel)


@pytest.fixture
def m(pb):
    return pb[0]


def fails(code, call, *args, **more):
    with pytest.raises(grpc.RpcError) as e:
        r = call(*args, timeout=T, **more)
        list(r)
    assert e.value.code() == code
    return e.value


def zeros(m, n):
    return m.Payload(body=b"\0" * n)


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_unary(stub, m, compression):
    assert stub.EmptyCall(m.Empty(), timeout=T) == m.Empty()
    for compressed in (False, True):
        q = m.SimpleRequest(response_size=314159, payload=zeros(m, 271828), fill_username=True,
                            response_compressed=m.BoolValue(value=compressed))
        r = stub.UnaryCall(q, timeout=T, compression=compression)
        assert r.payload.body == b"\0" * 314159 and r.username == peers.CLIENT_URI


@pytest.mark.smoke
@pytest.mark.req("MA-2")
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_streams(stub, m, compression):
    requests = [m.StreamingInputCallRequest(payload=zeros(m, n)) for n in REQUESTS]
    assert stub.StreamingInputCall(iter(requests), timeout=T, compression=compression).aggregated_payload_size == 74922
    parameters = [m.ResponseParameters(size=n) for n in RESPONSES]
    out = stub.StreamingOutputCall(m.StreamingOutputCallRequest(response_parameters=parameters), timeout=T, compression=compression)
    assert [len(r.payload.body) for r in out] == list(RESPONSES)
    rounds = [m.StreamingOutputCallRequest(response_parameters=[p], payload=zeros(m, n)) for p, n in zip(parameters, REQUESTS)]
    out = stub.HalfDuplexCall(iter(rounds), timeout=T, compression=compression)
    assert [len(r.payload.body) for r in out] == list(RESPONSES)
    # Ping pong: the next request only after the answer to the one before.
    waiting = queue.Queue()
    out = stub.FullDuplexCall(iter(waiting.get, None), timeout=T, compression=compression)
    for q, n in zip(rounds, RESPONSES):
        waiting.put(q)
        assert len(next(out).payload.body) == n
    waiting.put(None)
    assert list(out) == [] and out.code() == grpc.StatusCode.OK
    assert list(stub.FullDuplexCall(iter([]), timeout=T)) == []


@pytest.mark.req("MA-2")
def test_status(stub, m):
    for message in ("test status message", "  blanks at the ends  ", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"):
        status = m.EchoStatus(code=2, message=message)
        assert fails(grpc.StatusCode.UNKNOWN, stub.UnaryCall, m.SimpleRequest(response_status=status)).details() == message
        e = fails(grpc.StatusCode.UNKNOWN, stub.FullDuplexCall, iter([m.StreamingOutputCallRequest(response_status=status)]))
        assert e.details() == message
    for code in grpc.StatusCode:
        if code == grpc.StatusCode.OK:
            continue
        e = fails(code, stub.UnaryCall, m.SimpleRequest(response_status=m.EchoStatus(code=code.value[0], message="so")))
        # google.rpc.Status, which must say the same.
        assert dict(e.trailing_metadata())["grpc-status-details-bin"].startswith(bytes([8, code.value[0], 0x12, 2]) + b"so")


@pytest.mark.req("MA-2")
def test_unimplemented(stub, m, pb, channel):
    fails(grpc.StatusCode.UNIMPLEMENTED, stub.UnimplementedCall, m.Empty())
    fails(grpc.StatusCode.UNIMPLEMENTED, pb[1].UnimplementedServiceStub(channel).UnimplementedCall, m.Empty())


@pytest.mark.req("MA-2")
def test_custom_metadata(stub, m):
    sent = ((INITIAL, "test_initial_metadata_value"), (TRAILING, b"\xab\xab\xab"))
    _, call = stub.UnaryCall.with_call(m.SimpleRequest(response_size=314159, payload=zeros(m, 271828)), timeout=T, metadata=sent)
    assert dict(call.initial_metadata())[INITIAL] == sent[0][1] and dict(call.trailing_metadata())[TRAILING] == sent[1][1]
    q = m.StreamingOutputCallRequest(response_parameters=[m.ResponseParameters(size=9)])
    call = stub.FullDuplexCall(iter([q]), timeout=T, metadata=sent)
    assert len(list(call)) == 1
    assert dict(call.initial_metadata())[INITIAL] == sent[0][1] and dict(call.trailing_metadata())[TRAILING] == sent[1][1]
    # A failed call tells its metadata too.
    e = fails(grpc.StatusCode.UNKNOWN, stub.UnaryCall, m.SimpleRequest(response_status=m.EchoStatus(code=2)), metadata=sent)
    assert dict(e.trailing_metadata())[TRAILING] == sent[1][1]


@pytest.mark.req("MA-2")
def test_cancel_and_deadline(stub, m):
    begun = time.monotonic()
    call = stub.StreamingInputCall.future(iter(queue.Queue().get, None), timeout=T)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    waiting = queue.Queue()
    q = m.StreamingOutputCallRequest(response_parameters=[m.ResponseParameters(size=31415)], payload=zeros(m, 27182))
    call = stub.FullDuplexCall(iter(waiting.get, None), timeout=T)
    waiting.put(q)
    assert len(next(call).payload.body) == 31415
    call.cancel()
    with pytest.raises(grpc.RpcError):
        next(call)
    assert call.code() == grpc.StatusCode.CANCELLED
    waiting.put(None)
    slow = m.StreamingOutputCallRequest(response_parameters=[m.ResponseParameters(size=1, interval_us=20_000_000)])
    with pytest.raises(grpc.RpcError) as e:
        list(stub.FullDuplexCall(iter([slow]), timeout=0.3))
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun < 10
    assert stub.EmptyCall(m.Empty(), timeout=T) == m.Empty()


@pytest.mark.req("MA-2")
def test_many_at_once(stub, m):
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        q = m.SimpleRequest(response_size=314159, payload=zeros(m, 271828))
        calls = [pool.submit(stub.UnaryCall, q, timeout=T) for _ in range(20)]
        assert [len(c.result().payload.body) for c in calls] == [314159] * 20


@pytest.mark.req("MA-2")
def test_their_client_needs_a_certificate(mtls_server, pb, pki):
    for creds in (grpc.ssl_channel_credentials(pki.read("ca.pem")),
                  grpc.ssl_channel_credentials(pki.read("ca.pem"), pki.read("stranger.key"), pki.read("stranger.pem")),
                  grpc.ssl_channel_credentials(pki.read("stranger-ca.pem"), pki.read("client.key"), pki.read("client.pem"))):
        with grpc.secure_channel(mtls_server, creds) as c:
            fails(grpc.StatusCode.UNAVAILABLE, pb[1].TestServiceStub(c).EmptyCall, pb[0].Empty())
