# SPDX-License-Identifier: Apache-2.0
"""The implementations on Node: @grpc/grpc-js and @connectrpc/connect (node and web), as clients of our server and as servers of our client."""
import pytest

import peers
from lib import proc

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
