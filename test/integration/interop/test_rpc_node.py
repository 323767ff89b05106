# SPDX-License-Identifier: Apache-2.0
"""The implementations on Node: @grpc/grpc-js and @connectrpc/connect (node and web), as clients of our server and as servers of our client."""
import pytest

import peers
from lib import proc
from lib.tiers import long

JS = peers.HERE / "js"


def run_js(node, script, *args, timeout=90):
    return proc.run(["node", JS / script, *args], env=node, timeout=timeout, check=False)


# --- @grpc/grpc-js --------------------------------------------------------------------------------------------------------------
@pytest.mark.req("MA-2")
def test_grpc_js_client(node, pki, mtls_server):
    names = [*peers.cases(), "username"]
    peers.all_ok(run_js(node, "grpc_client.js", pki.folder, "client", mtls_server, *names), names)


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("who", ["-", "stranger"])
def test_grpc_js_client_needs_a_certificate(node, pki, mtls_server, who):
    peers.all_ok(run_js(node, "grpc_client.js", pki.folder, who, mtls_server, "refused"), ["refused"])


@pytest.mark.req("MA-2")
def test_grpc_js_server(node, pki, tmp_path):
    with peers.running(["node", JS / "grpc_server.js", pki.folder], tmp_path / "log", env=node) as addr:
        peers.our_client(addr, peers.cases(), *pki.options("client"), "--host", "127.0.0.1")


# --- @connectrpc/connect ----------------------------------------------------------------------------------------------------------
@pytest.mark.req("MA-2")
def test_connect_node_server(node, pki, tmp_path):
    """It serves gRPC as well as its own protocol."""
    with peers.running(["node", JS / "connect_server.js", pki.folder], tmp_path / "log", env=node) as addr:
        peers.our_client(addr, peers.cases(), *pki.options("client"), "--host", "127.0.0.1")


EVERY = [*peers.cases(), "all_codes"]
# HTTP/1.1 has one direction after the other at best.
BY_TURNS = [*peers.cases("ping_pong", "half_duplex", "empty_stream", "cancel_after_first_response"), "all_codes", "get"]
# Nor do browsers send streams.
BROWSER = [c for c in BY_TURNS if c not in ("client_streaming", "compressed_streaming", "cancel_after_begin")]


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("transport,names", [
    ("grpc", EVERY), long("grpc+gzip", EVERY), ("connect-h2", [*EVERY, "get"]), ("connect-h2+json+gzip", [*EVERY, "get"]),
    long("connect-h1", BY_TURNS), ("connect-h1+json+gzip", BY_TURNS)])
def test_connect_node_client(node, pki, mtls_server, transport, names):
    r = run_js(node, "connect_client.js", pki.folder, "client", f"https://{mtls_server}", transport, *names)
    peers.all_ok(r, names)


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("transport", ["web", "web+json"])
def test_connect_web_client(node, pki, plain_server, transport):
    """The transport of browsers, on node's fetch."""
    peers.all_ok(run_js(node, "connect_client.js", pki.folder, "-", f"http://{plain_server}", transport, *BROWSER), BROWSER)
