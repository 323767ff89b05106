# SPDX-License-Identifier: Apache-2.0
"""The interop client and server that gRPC's own developers wrote, as ruby-grpc ships them, with their keys (of RSA)."""
import pytest

import peers
from lib import proc

RUBY = peers.HERE / "ruby"
# The clients of this version know neither these cases nor a server that compresses on demand.
CLIENT_CASES = peers.cases("special_status_message", "half_duplex", "compressed_unary", "compressed_streaming", "concurrent_large_unary")
# Its half duplex handler takes the wrong number of arguments.
SERVER_CASES = peers.cases("half_duplex")


@pytest.fixture(scope="module")
def keys():
    r = proc.run(["ruby", "-r", RUBY / "common", "-e", "puts GRPC_RUBY"], timeout=30)
    return peers.pathlib.Path(r.out.strip()) / "spec/testdata"


@pytest.fixture(scope="module")
def ruby_keys_server(keys, tmp_path_factory):
    """Our server with their key."""
    log = tmp_path_factory.mktemp("ruby") / "log"
    with peers.running([peers.OUR_SERVER, "--cert", keys / "server1.pem", "--key", keys / "server1.key", "127.0.0.1:0"], log) as addr:
        yield addr


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("security", ["plain", "tls"])
def test_their_client(plain_server, ruby_keys_server, security):
    addr = ruby_keys_server if security == "tls" else plain_server
    r = proc.run(["ruby", RUBY / "client.rb", addr, security, *CLIENT_CASES], timeout=60, check=False)
    peers.all_ok(r, CLIENT_CASES)


@pytest.mark.req("MA-2")
@pytest.mark.parametrize("security", ["plain", "tls"])
def test_their_server(keys, tmp_path, security):
    tls = security == "tls"
    with peers.running(["ruby", RUBY / "server.rb", "--use_tls", "true" if tls else "false"], tmp_path / "log", status=None) as addr:
        options = ["--ca", keys / "ca.pem", "--host", "foo.test.google.fr"] if tls else []
        peers.our_client(addr, SERVER_CASES, *options)
