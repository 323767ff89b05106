# SPDX-License-Identifier: Apache-2.0
"""py_server: grpc.testing.TestService on python3-grpcio (C-core): py_server STUBS PKI. Over TLS with required client certificates. Prints its
address; ends on SIGTERM."""
import concurrent.futures
import pathlib
import signal
import sys
import time

import grpc

sys.path.insert(0, sys.argv[1])
import interop_pb2 as pb  # noqa: E402
import interop_pb2_grpc as rpc  # noqa: E402

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


def echo_metadata(context):
    sent = dict(context.invocation_metadata())
    if INITIAL in sent:
        context.send_initial_metadata(((INITIAL, sent[INITIAL]),))
    if TRAILING in sent:
        context.set_trailing_metadata(((TRAILING, sent[TRAILING]),))


def echo_status(request, context):
    if request.HasField("response_status"):
        code = {c.value[0]: c for c in grpc.StatusCode}[request.response_status.code]
        context.abort(code, request.response_status.message)


def payload(size):
    return pb.Payload(body=b"\0" * size)


class Service(rpc.TestServiceServicer):
    def EmptyCall(self, request, context):
        return pb.Empty()

    def UnaryCall(self, request, context):
        echo_metadata(context)
        echo_status(request, context)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        return pb.SimpleResponse(payload=payload(request.response_size))

    def StreamingOutputCall(self, request, context):
        echo_status(request, context)
        for p in request.response_parameters:
            time.sleep(p.interval_us / 1e6)
            yield pb.StreamingOutputCallResponse(payload=payload(p.size))

    def StreamingInputCall(self, requests, context):
        return pb.StreamingInputCallResponse(aggregated_payload_size=sum(len(r.payload.body) for r in requests))

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for r in requests:
            yield from self.StreamingOutputCall(r, context)

    def HalfDuplexCall(self, requests, context):
        for r in list(requests):
            yield from self.StreamingOutputCall(r, context)


def main():
    pki = pathlib.Path(sys.argv[2])
    read = {n: (pki / n).read_bytes() for n in ("ca.pem", "server.pem", "server.key")}
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
    rpc.add_TestServiceServicer_to_server(Service(), server)
    creds = grpc.ssl_server_credentials([(read["server.key"], read["server.pem"])], read["ca.pem"], require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", creds)
    server.start()
    # The handler only wakes the main thread: the server's threads are not for signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print(f"127.0.0.1:{port}", flush=True)
    signal.sigwait({signal.SIGTERM})
    server.stop(0).wait(5)


main()
