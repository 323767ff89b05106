# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the interop tests: our server with and without TLS, the stubs of interop.proto, the packages of node."""
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import peers  # noqa: E402


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return peers.Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def proto_files(tmp_path_factory):
    """A folder with interop_pb2.py, interop_pb2_grpc.py, davit/... and interop.bin, a FileDescriptorSet."""
    out = tmp_path_factory.mktemp("interop")
    subprocess.run(["protoc", f"-I{peers.ROOT / 'proto'}", f"-I{peers.HERE}", f"--python_out={out}", f"--grpc_python_out={out}",
                    "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", "--include_imports",
                    f"--descriptor_set_out={out / 'interop.bin'}", "interop.proto", "davit/options/v1/options.proto"], check=True, timeout=60)
    return out


@pytest.fixture(scope="session")
def mtls_server(pki, tmp_path_factory):
    """host:port of our server; clients must show a certificate."""
    log = tmp_path_factory.mktemp("mtls") / "log"
    with peers.running([peers.OUR_SERVER, *pki.options("server"), "127.0.0.1:0"], log) as addr:
        yield addr


@pytest.fixture(scope="session")
def tls_server(pki, tmp_path_factory):
    """host:port of our server with TLS that asks for no certificate."""
    log = tmp_path_factory.mktemp("tls") / "log"
    with peers.running([peers.OUR_SERVER, "--cert", pki.path("server.pem"), "--key", pki.path("server.key"), "127.0.0.1:0"], log) as addr:
        yield addr


@pytest.fixture(scope="session")
def plain_server(tmp_path_factory):
    """host:port of our server without TLS."""
    log = tmp_path_factory.mktemp("plain") / "log"
    with peers.running([peers.OUR_SERVER, "127.0.0.1:0"], log) as addr:
        yield addr


@pytest.fixture(scope="session")
def node(proto_files):
    """Environment for node. ./check installs the packages before the tests; here that is only looked up, or made good where tests run alone."""
    p = subprocess.run([peers.ROOT / "tools/npm-install", peers.HERE / "js"], capture_output=True, text=True, check=False, timeout=400)
    if p.returncode != 0:
        pytest.fail("the packages of node cannot be installed: " + p.stderr)
    return os.environ | {"NODE_PATH": p.stdout.strip(), "INTEROP_PROTO": str(peers.HERE), "DAVIT_PROTO": str(peers.ROOT / "proto"),
                         "INTEROP_SET": str(proto_files / "interop.bin"), "NODE_NO_WARNINGS": "1"}
