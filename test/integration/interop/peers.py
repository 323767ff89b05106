# SPDX-License-Identifier: Apache-2.0
"""peers: what the interop tests share: the cases, a public key infrastructure of one's own, programs that print their address when they are up."""
import contextlib
import os
import pathlib
import select
import signal
import subprocess
import time

from lib import proc

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BUILD = pathlib.Path(os.environ.get("DAVIT_BUILD", ROOT / "build/asan"))
OUR_SERVER = BUILD / "test/integration/interop/interop-server"
OUR_CLIENT = BUILD / "test/integration/interop/interop-client"
SERVICE = "grpc.testing.TestService"
CLIENT_URI = "davit://server/interop"

# The cases of grpc/grpc doc/interop-test-descriptions.md that concern the wire. Every peer names those that it cannot do.
CASES = ["empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "half_duplex", "empty_stream", "cancel_after_begin",
         "cancel_after_first_response", "timeout_on_sleeping_server", "status_code_and_message", "special_status_message",
         "unimplemented_method", "unimplemented_service", "custom_metadata", "compressed_unary", "compressed_streaming",
         "concurrent_large_unary"]


def cases(*without):
    assert set(without) <= set(CASES)
    return [c for c in CASES if c not in without]


class Pki:
    """Files: a root, a server's chain for 127.0.0.1 and localhost, a client's chain, and a client of a root that nobody knows."""

    def __init__(self, folder):
        self.folder = folder
        self.make_root("ca")
        self.make_root("stranger-ca")
        self.make_leaf("server", "ca", "serverAuth", "DNS:localhost,IP:127.0.0.1,URI:davit://controlplane")
        self.make_leaf("client", "ca", "clientAuth", f"URI:{CLIENT_URI}")
        self.make_leaf("stranger", "stranger-ca", "clientAuth", f"URI:{CLIENT_URI}")

    def path(self, name):
        return self.folder / name

    def openssl(self, *args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, timeout=30)

    def new_key(self, name):
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.path(f"{name}.key"))

    def make_root(self, name):
        self.new_key(name)
        self.openssl("req", "-x509", "-new", "-key", self.path(f"{name}.key"), "-subj", f"/CN={name}", "-days", "90", "-out",
                     self.path(f"{name}.pem"), "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def make_leaf(self, name, root, usage, names):
        self.new_key(name)
        ext = self.path(f"{name}.ext")
        ext.write_text(f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
                       f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        csr = self.path(f"{name}.csr")
        self.openssl("req", "-new", "-key", self.path(f"{name}.key"), "-subj", f"/CN={name}", "-out", csr)
        self.openssl("x509", "-req", "-in", csr, "-CA", self.path(f"{root}.pem"), "-CAkey", self.path(f"{root}.key"), "-CAcreateserial",
                     "-days", "90", "-extfile", ext, "-out", self.path(f"{name}.pem"))

    def read(self, name):
        return self.path(name).read_bytes()

    def options(self, name):
        """Of our two programs."""
        return ["--ca", self.path("ca.pem"), "--cert", self.path(f"{name}.pem"), "--key", self.path(f"{name}.key")]


def address_of(p, timeout=30):
    """The first line that the program prints."""
    end = time.monotonic() + timeout
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([p.stdout], [], [], max(0.0, end - time.monotonic()))
        got = os.read(p.stdout.fileno(), 1) if ready else b""
        assert got, f"{p.args} told no address: {line!r}"
        line += got
    return line.decode().strip()


@contextlib.contextmanager
def running(cmd, log, env=None, status=0):
    """Runs a server until the end of the block; yields its first line. It ends on SIGTERM, with @status (None: any)."""
    with open(log, "wb") as err, subprocess.Popen(list(map(str, cmd)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err,
                                                  env=env, bufsize=0, start_new_session=True) as p:
        try:
            try:
                yield address_of(p)
            finally:
                p.send_signal(signal.SIGTERM)
                rc = p.wait(20)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(p.pid, signal.SIGKILL)
            print(pathlib.Path(log).read_text(errors="replace")[-4000:])
            raise
    # With sanitizers this also says that nothing leaked.
    assert status is None or rc == status, f"{cmd}: status {rc}\n" + pathlib.Path(log).read_text(errors="replace")[-4000:]


def our_client(addr, names, *options, timeout=60):
    """Our client runs the cases @names against a foreign server: each must be told as passed."""
    r = proc.run([OUR_CLIENT, *options, addr, *names], timeout=timeout, check=False)
    assert r.rc == 0 and r.out.split("\n")[:-1] == [f"ok {n}" for n in names], str(r)


def all_ok(result, names):
    """A foreign client printed "ok CASE" for exactly these."""
    said = [line.removeprefix("ok ") for line in result.out.split("\n") if line.startswith("ok ")]
    assert result.rc == 0 and said == list(names), str(result)
